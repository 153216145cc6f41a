/* Arithmetic modulo one number, as plain as can be: what the kernel is compared with. */
#ifndef COLONNADE_SCHOOLBOOK_H
#define COLONNADE_SCHOOLBOOK_H

#include <stddef.h>
#include <stdint.h>

enum { WORDS = 20 };

typedef struct {
    uint32_t words[WORDS]; /* little-endian */
} Number;

void set_modulus(const uint8_t *bytes, size_t size);
Number reduced(const uint8_t *bytes, size_t size);
int is_reduced(const Number *a);
int not_below(const Number *a, const Number *b);
void subtract(Number *a, const Number *b);
Number one(void);
Number times(const Number *a, const Number *b);
Number to_the(Number base, const uint8_t *exponent, size_t bits);

#endif
