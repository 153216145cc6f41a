/* Eight lanes of 52-bit limbs with AVX-512 IFMA: the primitives montgomery.h and vectors.h are written in.
 *
 * An accumulator column takes the low halves of products of its own limbs and the high halves of those
 * of the column below, hence the two targets of v_mac. 64-bit columns have room for 2^11 such halves. */
#ifndef COLONNADE_LANES_IFMA_H
#define COLONNADE_LANES_IFMA_H

#include <immintrin.h>
#include <stdint.h>

#define LANES 8
#define LIMB_BITS 52
#define TARGET __attribute__((target("avx512f,avx512dq,avx512ifma")))
#define INLINE static inline __attribute__((always_inline, target("avx512f,avx512dq,avx512ifma")))

typedef __m512i vec;

INLINE vec v_zero(void) { return _mm512_setzero_si512(); }
INLINE vec v_all(uint64_t value) { return _mm512_set1_epi64((long long)value); }
INLINE vec v_add(vec a, vec b) { return _mm512_add_epi64(a, b); }
INLINE vec v_subtract(vec a, vec b) { return _mm512_sub_epi64(a, b); }
INLINE vec v_low(vec a) { return _mm512_and_si512(a, v_all((1ULL << LIMB_BITS) - 1)); }

/* What a column passes on to the next one; columns are signed. */
INLINE vec v_carry(vec a) { return _mm512_srai_epi64(a, LIMB_BITS); }

/* All bits set in the lanes where `a` is negative. */
INLINE vec v_negative(vec a) { return _mm512_srai_epi64(a, 63); }
INLINE vec v_choose(vec mask, vec yes, vec no) { return _mm512_ternarylogic_epi64(mask, yes, no, 0xca); }

/* The product's low limb, from the low limbs of the factors. */
INLINE vec v_multiply_low(vec a, vec b) { return _mm512_madd52lo_epu64(v_zero(), a, b); }

INLINE void v_mac(vec *low, vec *high, vec a, vec b)
{
    *low = _mm512_madd52lo_epu64(*low, a, b);
    *high = _mm512_madd52hi_epu64(*high, a, b);
}

/* Eight rows of eight 64-bit numbers become eight columns. */
INLINE void v_transpose(vec r[LANES])
{
    vec s0 = _mm512_unpacklo_epi64(r[0], r[1]), s1 = _mm512_unpackhi_epi64(r[0], r[1]);
    vec s2 = _mm512_unpacklo_epi64(r[2], r[3]), s3 = _mm512_unpackhi_epi64(r[2], r[3]);
    vec s4 = _mm512_unpacklo_epi64(r[4], r[5]), s5 = _mm512_unpackhi_epi64(r[4], r[5]);
    vec s6 = _mm512_unpacklo_epi64(r[6], r[7]), s7 = _mm512_unpackhi_epi64(r[6], r[7]);
    vec t0 = _mm512_shuffle_i64x2(s0, s2, 0x88), t1 = _mm512_shuffle_i64x2(s1, s3, 0x88);
    vec t2 = _mm512_shuffle_i64x2(s0, s2, 0xdd), t3 = _mm512_shuffle_i64x2(s1, s3, 0xdd);
    vec t4 = _mm512_shuffle_i64x2(s4, s6, 0x88), t5 = _mm512_shuffle_i64x2(s5, s7, 0x88);
    vec t6 = _mm512_shuffle_i64x2(s4, s6, 0xdd), t7 = _mm512_shuffle_i64x2(s5, s7, 0xdd);
    r[0] = _mm512_shuffle_i64x2(t0, t4, 0x88);
    r[4] = _mm512_shuffle_i64x2(t0, t4, 0xdd);
    r[1] = _mm512_shuffle_i64x2(t1, t5, 0x88);
    r[5] = _mm512_shuffle_i64x2(t1, t5, 0xdd);
    r[2] = _mm512_shuffle_i64x2(t2, t6, 0x88);
    r[6] = _mm512_shuffle_i64x2(t2, t6, 0xdd);
    r[3] = _mm512_shuffle_i64x2(t3, t7, 0x88);
    r[7] = _mm512_shuffle_i64x2(t3, t7, 0xdd);
}

INLINE vec v_read(const uint64_t *source) { return _mm512_loadu_si512(source); }
INLINE void v_write(uint64_t *target, vec value) { _mm512_storeu_si512(target, value); }

#endif
