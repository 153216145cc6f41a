/* The constants of one modulus, in plain C. */

#include "kernel.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

/* `count` * `size` bytes aligned for any vector; `memory` is what to free. NULL if there are not so many. */
void *allocate_aligned(size_t count, size_t size, void **memory)
{
    *memory = NULL;
    if (size && count > (SIZE_MAX - ALIGNMENT) / size)
        return NULL;
    *memory = malloc(count * size + ALIGNMENT);
    if (!*memory)
        return NULL;
    return (void *)(((uintptr_t)*memory + ALIGNMENT) & ~(uintptr_t)(ALIGNMENT - 1));
}

/* Twice a digit below n, modulo n; returns what it had too much, in n. */
static uint64_t double_digit(const Modulus *modulus, uint64_t *x, uint64_t carry)
{
    const size_t digits = modulus->digits, bits = modulus->path->limb_bits;
    const uint64_t mask = (1ULL << bits) - 1;
    int less = 0;

    for (size_t i = 0; i < digits; i++) {
        carry += 2 * x[i];
        x[i] = carry & mask;
        carry >>= bits;
    }
    for (size_t i = digits; i-- > 0;)
        if (x[i] != modulus->n[i]) {
            less = x[i] < modulus->n[i];
            break;
        }
    if (less)
        return 0;
    uint64_t borrow = 0;
    for (size_t i = 0; i < digits; i++) {
        uint64_t difference = x[i] - modulus->n[i] - borrow;
        x[i] = difference & mask;
        borrow = difference >> 63;
    }
    return 1;
}

static void double_element(const Modulus *modulus, uint64_t *x)
{
    uint64_t carry = double_digit(modulus, x, 0);
    (void)double_digit(modulus, x + modulus->digits, carry);
}

static void square_bytes(uint8_t *square, const uint8_t *n, size_t bytes)
{
    memset(square, 0, 2 * bytes);
    for (size_t i = 0; i < bytes; i++) {
        unsigned carry = 0;
        for (size_t j = 0; j < bytes; j++) {
            carry += square[i + j] + (unsigned)n[i] * n[j];
            square[i + j] = (uint8_t)carry;
            carry >>= 8;
        }
        square[i + bytes] = (uint8_t)carry;
    }
}

/* `n` is odd, above 1 and of at most MOST_BITS, its last byte not zero: the caller checks. */
Status modulus_init(Modulus *modulus, const Path *path, const uint8_t *n, size_t bytes)
{
    const size_t limb_bits = path->limb_bits;
    size_t bits = 8 * bytes;
    while (!(n[(bits - 1) / 8] >> ((bits - 1) % 8) & 1))
        bits--;
    size_t digits = (bits + SPARE_BITS + limb_bits - 1) / limb_bits;
    digits = (digits + TILE - 1) / TILE * TILE;
    const size_t limbs = 2 * digits, words = digits * (1 + path->lanes) + 4 * limbs + 2 * bytes / 8 + 1;

    memset(modulus, 0, sizeof *modulus);
    uint64_t *next = allocate_aligned(words, sizeof *next, &modulus->memory);
    if (!next)
        return NO_MEMORY;
    memset(next, 0, words * sizeof *next);
    modulus->path = path;
    modulus->bits = bits;
    modulus->digits = digits;
    modulus->limbs = limbs;
    modulus->n_lanes = next;
    modulus->n = next += digits * path->lanes;
    modulus->one = next += digits;
    modulus->unit = next += limbs;
    modulus->radix_square = next += limbs;
    modulus->split_radix = next += limbs;
    modulus->n_square = (uint8_t *)(next + limbs);
    modulus->n_square_bytes = 2 * bytes;

    for (size_t bit = 0; bit < bits; bit++)
        modulus->n[bit / limb_bits] |= (uint64_t)(n[bit / 8] >> (bit % 8) & 1) << (bit % limb_bits);
    for (size_t i = 0; i < digits * path->lanes; i++)
        modulus->n_lanes[i] = modulus->n[i / path->lanes];
    uint64_t inverse = 1; /* of n; every step of Newton's doubles its correct bits */
    for (int step = 0; step < 6; step++)
        inverse *= 2 - modulus->n[0] * inverse;
    modulus->n_inverse = -inverse & ((1ULL << limb_bits) - 1);
    square_bytes(modulus->n_square, n, bytes);

    const size_t radix_bits = digits * limb_bits, element_bytes = limbs * sizeof *next;
    modulus->unit[0] = 1;
    memcpy(modulus->radix_square, modulus->unit, element_bytes);
    for (size_t bit = 0; bit < 2 * radix_bits; bit++) {
        if (bit == radix_bits)
            memcpy(modulus->one, modulus->radix_square, element_bytes);
        if (bit == 2 * radix_bits - 1)
            memcpy(modulus->split_radix, modulus->radix_square, element_bytes);
        double_element(modulus, modulus->radix_square);
    }
    return DONE;
}

void modulus_free(Modulus *modulus)
{
    free(modulus->memory);
    modulus->memory = NULL;
}
