/* Four lanes of 27-bit limbs with AVX2: the primitives montgomery.h and vectors.h are written in.
 *
 * A whole product of 54 bits goes to one column (the high target of v_mac stays zero and is folded away
 * by the compiler). A column of a multiplication sums at most 3 * 152 products (4096 bits): below 2^63. */
#ifndef COLONNADE_LANES_AVX2_H
#define COLONNADE_LANES_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define LANES 4
#define LIMB_BITS 27
#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline, target("avx2")))

typedef __m256i vec;

INLINE vec v_zero(void) { return _mm256_setzero_si256(); }
INLINE vec v_all(uint64_t value) { return _mm256_set1_epi64x((long long)value); }
INLINE vec v_add(vec a, vec b) { return _mm256_add_epi64(a, b); }
INLINE vec v_subtract(vec a, vec b) { return _mm256_sub_epi64(a, b); }
INLINE vec v_low(vec a) { return _mm256_and_si256(a, v_all((1ULL << LIMB_BITS) - 1)); }

/* What a column passes on to the next one; columns are signed, and AVX2 only shifts unsigned. */
INLINE vec v_carry(vec a)
{
    vec shifted = _mm256_srli_epi64(v_add(a, v_all(1ULL << 63)), LIMB_BITS);
    return v_subtract(shifted, v_all(1ULL << (63 - LIMB_BITS)));
}

/* All bits set in the lanes where `a` is negative. */
INLINE vec v_negative(vec a) { return _mm256_cmpgt_epi64(v_zero(), a); }
INLINE vec v_choose(vec mask, vec yes, vec no) { return _mm256_blendv_epi8(no, yes, mask); }

/* The product's low limb, from the low limbs of the factors. */
INLINE vec v_multiply_low(vec a, vec b) { return v_low(_mm256_mul_epu32(a, b)); }

INLINE void v_mac(vec *low, vec *high, vec a, vec b)
{
    (void)high;
    *low = v_add(*low, _mm256_mul_epu32(a, b));
}

/* Four rows of four 64-bit numbers become four columns. */
INLINE void v_transpose(vec r[LANES])
{
    vec s0 = _mm256_unpacklo_epi64(r[0], r[1]), s1 = _mm256_unpackhi_epi64(r[0], r[1]);
    vec s2 = _mm256_unpacklo_epi64(r[2], r[3]), s3 = _mm256_unpackhi_epi64(r[2], r[3]);
    r[0] = _mm256_permute2x128_si256(s0, s2, 0x20);
    r[1] = _mm256_permute2x128_si256(s1, s3, 0x20);
    r[2] = _mm256_permute2x128_si256(s0, s2, 0x31);
    r[3] = _mm256_permute2x128_si256(s1, s3, 0x31);
}

INLINE vec v_read(const uint64_t *source) { return _mm256_loadu_si256((const vec *)source); }
INLINE void v_write(uint64_t *target, vec value) { _mm256_storeu_si256((vec *)target, value); }

#endif
