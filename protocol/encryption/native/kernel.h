/* Arithmetic modulo n^2 on many elements at once: what the paths offer and what they share.
 *
 * An element is `limbs` = 2 * `digits` unsigned 64-bit words of `limb_bits` bits each: the lower half is the
 * digit x0, the upper half x1, of the n-adic Montgomery form that montgomery.h explains. Elements lie one
 * after the other; a block of as many as the path has lanes is transposed into vectors for the arithmetic.
 *
 * montgomery.h, vectors.h, products.h and comb.h are written once, over the primitives of lanes_ifma.h or
 * lanes_avx2.h; path_ifma.c and path_avx2.c compile them for each. plan.c, modulus.c and module.c are
 * ordinary C.
 *
 * Time and memory access depend on some inputs (none of this code is constant-time in them):
 *   - matrix entries of a dense product index tables and buckets; indptr and indices of a sparse one are
 *     addresses;
 *   - exponents of a fixed-base power index its table; the common exponent of a power sets its schedule;
 *   - elements and moduli never index anything: montgomery.h runs the same instructions for all values of
 *     one size. The range check of `load` stops at the first byte that differs from n^2.
 * docs/security.md says why that is acceptable.
 *
 * Contents of internal vectors are not checked: words that are no element give meaningless results, but no
 * access out of bounds. Inputs may be changed by another thread meanwhile, with no worse effect.
 */
#ifndef COLONNADE_KERNEL_H
#define COLONNADE_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* Elsewhere the module is empty: paths() returns []. */
#ifndef KERNEL_X86
#if defined(__x86_64__) && defined(__GNUC__)
#define KERNEL_X86 1
#else
#define KERNEL_X86 0
#endif
#endif

enum {
    MOST_BITS = 4096,
    SPARE_BITS = 3, /* R >= 8 n */
    TILE = 4,       /* limbs are added up so many at a time, and `digits` is a multiple */
    PLANES = 16,    /* bits of a matrix entry */
};

typedef enum { DONE = 0, NO_MEMORY, OUT_OF_RANGE } Status;

typedef struct Path Path;

typedef struct {
    const Path *path;
    size_t bits, digits, limbs;
    uint64_t n_inverse;     /* -1 / n modulo 2^limb_bits */
    uint64_t *n;            /* `digits` limbs */
    uint64_t *n_lanes;      /* the same, each limb once a lane, aligned as a vector */
    uint64_t *one;          /* the elements R, */
    uint64_t *unit;         /* 1 (to leave the Montgomery form), */
    uint64_t *radix_square; /* R^2 (to enter it) */
    uint64_t *split_radix;  /* and 2^(R's bits - 1) R (to join the halves of a number; see `load`) */
    uint8_t *n_square;      /* n^2, little-endian, n_square_bytes */
    size_t n_square_bytes;
    void *memory;
} Modulus;

/* A table of `tables` combs of 2^rows entries; see comb.h. */
typedef struct {
    size_t exponent_bits, exponent_bytes, rows, tables, columns;
    uint64_t *entries;
    void *memory;
} Comb;

/* What one common exponent asks for, from its top: so many squarings, then a factor x^(2 odd + 1). */
typedef struct {
    uint32_t squarings;
    int32_t odd; /* -1: no factor */
} PowerStep;

typedef struct {
    PowerStep *steps;
    size_t count, odd_powers;
} PowerPlan;

typedef struct {
    int by_rows;
    size_t group, strips;
    double cost; /* multiplications; those that join_planes makes come on top */
} DensePlan;

struct Path {
    const char *name;
    size_t lanes, limb_bits;
    Status (*load)(const Modulus *, const uint8_t *data, size_t width, size_t count, uint64_t *out);
    Status (*store)(const Modulus *, const uint64_t *elements, size_t width, size_t count, uint8_t *out);
    Status (*high)(const Modulus *, const uint64_t *elements, size_t width, size_t count, uint8_t *out);
    Status (*multiply)(
        const Modulus *, const uint64_t *a, const uint64_t *b, size_t b_count, size_t count, uint64_t *out);
    Status (*power)(
        const Modulus *, const uint64_t *elements, const PowerPlan *plan, size_t count, uint64_t *out);
    Status (*dense)(const Modulus *, const uint64_t *elements, const int16_t *matrix, size_t rows,
        size_t columns, uint64_t *magnitude, uint64_t *sign);
    Status (*sparse)(const Modulus *, const uint64_t *elements, size_t count, const int64_t *indptr,
        const int64_t *indices, size_t columns, uint64_t *out);
    Status (*comb_build)(const Modulus *, Comb *comb, const uint64_t *base);
    Status (*comb_powers)(
        const Modulus *, const Comb *comb, const uint8_t *exponents, size_t count, uint64_t *out);
};

extern const Path path_ifma, path_avx2;

/* plan.c */
Status plan_power(PowerPlan *plan, const uint8_t *exponent, size_t bytes);
DensePlan plan_dense(size_t lanes, size_t rows, size_t columns);

/* modulus.c */
Status modulus_init(Modulus *modulus, const Path *path, const uint8_t *n, size_t bytes);
void modulus_free(Modulus *modulus);
void *allocate_aligned(size_t count, size_t size, void **memory);

#endif
