#include "schoolbook.h"

#include <string.h>

static Number modulus;
static int words; /* that the modulus has */

int not_below(const Number *a, const Number *b)
{
    for (int i = WORDS; i-- > 0;)
        if (a->words[i] != b->words[i])
            return a->words[i] > b->words[i];
    return 1;
}

int is_reduced(const Number *a) { return !not_below(a, &modulus); }

void subtract(Number *a, const Number *b)
{
    uint64_t borrow = 0;
    for (int i = 0; i < WORDS; i++) {
        uint64_t difference = (uint64_t)a->words[i] - b->words[i] - borrow;
        a->words[i] = (uint32_t)difference;
        borrow = difference >> 63;
    }
}

/* a = 2 a + bit, for a reduced a. */
static void shift_in(Number *a, uint32_t bit)
{
    const uint32_t top = a->words[WORDS - 1] >> 31;
    for (int i = words < WORDS ? words : WORDS - 1; i > 0; i--)
        a->words[i] = a->words[i] << 1 | a->words[i - 1] >> 31;
    a->words[0] = a->words[0] << 1 | bit;
    if (top || not_below(a, &modulus))
        subtract(a, &modulus);
}

void set_modulus(const uint8_t *bytes, size_t size)
{
    memset(&modulus, 0, sizeof modulus);
    for (size_t i = 0; i < size; i++)
        modulus.words[i / 4] |= (uint32_t)bytes[i] << (8 * (i % 4));
    words = (int)((size + 3) / 4);
}

Number reduced(const uint8_t *bytes, size_t size)
{
    Number result = {{0}};
    for (size_t bit = 8 * size; bit-- > 0;)
        shift_in(&result, bytes[bit / 8] >> (bit % 8) & 1);
    return result;
}

Number one(void)
{
    Number result = {{1}};
    return result;
}

Number times(const Number *a, const Number *b)
{
    Number result = {{0}};
    uint32_t product[2 * WORDS] = {0};
    for (int i = 0; i < words; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < words; j++) {
            carry += product[i + j] + (uint64_t)a->words[i] * b->words[j];
            product[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        product[i + words] = (uint32_t)carry;
    }
    for (int bit = 64 * words; bit-- > 0;)
        shift_in(&result, product[bit / 32] >> (bit % 32) & 1);
    return result;
}

Number to_the(Number base, const uint8_t *exponent, size_t bits)
{
    Number result = one();
    for (size_t bit = bits; bit-- > 0;) {
        result = times(&result, &result);
        if (exponent[bit / 8] >> (bit % 8) & 1)
            result = times(&result, &base);
    }
    return result;
}
