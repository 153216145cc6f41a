/* Fuzz target: the kernel's functions, with inputs read from a string of bytes, against schoolbook arithmetic.
 *
 * Built with libFuzzer (-fsanitize=fuzzer), or with -DSTANDALONE as a driver of its own that draws random
 * strings: `fuzz [seconds] [seed]`. plan.c is compiled with -Dplan_dense=usual_plan_dense, so that the
 * method and shape of a dense product come from here. Buffers have exact sizes: the sanitizers see a word
 * too many. */

#include "kernel.h"
#include "schoolbook.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The string of bytes ---- */

static const uint8_t *input;
static size_t input_left;

static unsigned next_byte(void)
{
    if (!input_left)
        return 0;
    input_left--;
    return *input++;
}

static size_t next_below(size_t bound) { return (next_byte() | next_byte() << 8) % bound; }

static void *allocate(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (!memory)
        abort();
    return memory;
}

static void check(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "wrong: %s\n", what);
        abort();
    }
}

/* ---- Vectors of numbers, on both sides ---- */

enum { MOST_COUNT = 20, MOST_BYTES = sizeof(Number) / 2 };

static Modulus modulus;
static size_t width; /* bytes of n^2 */
static uint8_t n_bytes[MOST_BYTES];
static size_t n_size;

static uint64_t *new_elements(size_t count)
{
    return allocate(count * modulus.limbs * sizeof(uint64_t));
}

/* Numbers below n^2: mostly bytes of the input, or a multiple of n, or the largest. */
static uint64_t *draw_elements(Number *numbers, size_t count)
{
    uint8_t *data = allocate(count * width);
    uint64_t *elements = new_elements(count);
    for (size_t i = 0; i < count; i++) {
        const unsigned kind = next_byte() % 8;
        for (size_t k = 0; k < width; k++)
            data[i * width + k] = kind == 0 ? 255 : (uint8_t)next_byte();
        numbers[i] = reduced(data + i * width, width);
        if (kind == 1) {
            const Number n = reduced(n_bytes, n_size);
            numbers[i] = times(&numbers[i], &n);
        }
        memcpy(data + i * width, numbers[i].words, width);
    }
    check(modulus.path->load(&modulus, data, width, count, elements) == DONE, "load");
    free(data);
    return elements;
}

static void compare(const uint64_t *elements, const Number *expected, size_t count, const char *what)
{
    uint8_t *data = allocate(count * width);
    check(modulus.path->store(&modulus, elements, width, count, data) == DONE, "store");
    for (size_t i = 0; i < count; i++)
        check(memcmp(data + i * width, expected[i].words, width) == 0, what);
    free(data);
}

/* x1 is the largest digit with x1 n <= x. */
static void compare_high(const uint64_t *elements, const Number *expected, size_t count)
{
    const Number n = reduced(n_bytes, n_size);
    uint8_t *data = allocate(count * n_size);
    check(modulus.path->high(&modulus, elements, n_size, count, data) == DONE, "high");
    for (size_t i = 0; i < count; i++) {
        Number high = reduced(data + i * n_size, n_size), rest = expected[i];
        check(!not_below(&high, &n), "high below n");
        high = times(&high, &n);
        check(not_below(&rest, &high), "high not too large");
        subtract(&rest, &high);
        check(!not_below(&rest, &n), "high not too small");
    }
    free(data);
}

/* ---- The functions ---- */

static void fuzz_multiply(void)
{
    Number a[MOST_COUNT], b[MOST_COUNT];
    const size_t count = next_below(MOST_COUNT), b_count = next_byte() % 4 ? count : 1;
    uint64_t *x = draw_elements(a, count), *y = draw_elements(b, b_count), *z = new_elements(count);
    /* Results are operands again: digits that are not canonical. */
    for (unsigned round = 0; round < 3; round++) {
        check(modulus.path->multiply(&modulus, x, y, b_count, count, z) == DONE, "multiply");
        for (size_t i = 0; i < count; i++)
            a[i] = times(&a[i], &b[b_count == 1 ? 0 : i]);
        compare(z, a, count, "product");
        compare_high(z, a, count);
        memcpy(x, z, count * modulus.limbs * sizeof *x);
    }
    free(x);
    free(y);
    free(z);
}

static void fuzz_load(void)
{
    /* A number of any width and size: refused if and only if it is not below n^2. */
    const size_t own_width = 1 + next_below(width + 4);
    uint8_t *data = allocate(own_width);
    Number number = {{0}};
    int fits = 1;
    for (size_t i = 0; i < own_width; i++) {
        data[i] = next_byte() % 8 && i < width ? modulus.n_square[i] : (uint8_t)next_byte();
        if (i < sizeof number.words)
            ((uint8_t *)number.words)[i] = data[i];
        else if (data[i])
            fits = 0;
    }
    fits = fits && is_reduced(&number);
    uint64_t *x = new_elements(1);
    Status status = modulus.path->load(&modulus, data, own_width, 1, x);
    check(status == (fits ? DONE : OUT_OF_RANGE), "range");
    if (fits)
        compare(x, &number, 1, "loaded");
    free(x);
    free(data);
}

static void fuzz_power(void)
{
    Number a[MOST_COUNT];
    PowerPlan plan;
    const size_t count = next_below(MOST_COUNT), bytes = next_below(9);
    uint8_t *exponent = allocate(bytes);
    for (size_t i = 0; i < bytes; i++)
        exponent[i] = (uint8_t)next_byte();
    uint64_t *x = draw_elements(a, count), *z = new_elements(count);
    check(plan_power(&plan, exponent, bytes) == DONE, "plan");
    check(modulus.path->power(&modulus, x, &plan, count, z) == DONE, "power");
    for (size_t i = 0; i < count; i++)
        a[i] = to_the(a[i], exponent, 8 * bytes);
    compare(z, a, count, "power");
    free(plan.steps);
    free(exponent);
    free(x);
    free(z);
}

static DensePlan drawn_plan;

DensePlan plan_dense(size_t lanes, size_t rows, size_t columns)
{
    (void)lanes, (void)rows, (void)columns;
    return drawn_plan;
}

static void fuzz_dense(void)
{
    Number a[MOST_COUNT], magnitudes[5], signs[5];
    const size_t rows = next_below(MOST_COUNT), columns = next_below(6);
    const uint8_t power_of_sign[2] = {0, 0x80};
    drawn_plan = (DensePlan){(int)(next_byte() % 2), 1 + next_below(7), (size_t)1 << next_below(4), 0};
    int16_t *matrix = allocate(rows * columns * sizeof *matrix);
    for (size_t i = 0; i < rows * columns; i++)
        matrix[i] = (int16_t)(next_byte() % 4 ? (int)(next_byte() | next_byte() << 8) : -(int)(next_byte() % 2));
    uint64_t *x = draw_elements(a, rows), *above = new_elements(columns), *below = new_elements(columns);
    check(modulus.path->dense(&modulus, x, matrix, rows, columns, above, below) == DONE, "dense");
    for (size_t j = 0; j < columns; j++) {
        magnitudes[j] = signs[j] = one();
        for (int bit = 15; bit-- > 0;) {
            magnitudes[j] = times(&magnitudes[j], &magnitudes[j]);
            for (size_t i = 0; i < rows; i++)
                if ((uint16_t)matrix[i * columns + j] >> bit & 1)
                    magnitudes[j] = times(&magnitudes[j], &a[i]);
        }
        for (size_t i = 0; i < rows; i++)
            if (matrix[i * columns + j] < 0)
                signs[j] = times(&signs[j], &a[i]);
        signs[j] = to_the(signs[j], power_of_sign, 16);
    }
    compare(above, magnitudes, columns, "magnitude");
    compare(below, signs, columns, "sign");
    free(matrix);
    free(x);
    free(above);
    free(below);
}

static void fuzz_sparse(void)
{
    Number a[MOST_COUNT], expected[MOST_COUNT];
    const size_t rows = 1 + next_below(MOST_COUNT - 1), columns = next_below(MOST_COUNT);
    int64_t indptr[MOST_COUNT + 1] = {0}, row = 0;
    for (size_t j = 0; j < columns; j++)
        indptr[j + 1] = indptr[j] + (int64_t)(next_byte() % 8 ? next_byte() % 6 : next_byte() % 64);
    int64_t *starts = allocate((columns + 1) * sizeof *starts);
    int64_t *indices = allocate((size_t)indptr[columns] * sizeof *indices);
    int fits = 1;
    memcpy(starts, indptr, (columns + 1) * sizeof *starts);
    for (int64_t i = 0; i < indptr[columns]; i++) {
        row = next_byte() == 17 ? (int64_t)(next_byte() * 0x81fedcba98765432 - 7)
                                : (int64_t)next_below(rows);
        fits &= row >= 0 && row < (int64_t)rows;
        indices[i] = row;
    }
    uint64_t *x = draw_elements(a, rows), *z = new_elements(columns);
    Status status = modulus.path->sparse(&modulus, x, rows, starts, indices, columns, z);
    check(status == (fits ? DONE : OUT_OF_RANGE), "rows in range");
    if (fits) {
        for (size_t j = 0; j < columns; j++) {
            expected[j] = one();
            for (int64_t i = indptr[j]; i < indptr[j + 1]; i++)
                expected[j] = times(&expected[j], &a[indices[i]]);
        }
        compare(z, expected, columns, "sparse product");
    }
    free(starts);
    free(indices);
    free(x);
    free(z);
}

static void fuzz_comb(void)
{
    Number base, expected[MOST_COUNT];
    Comb comb = {.exponent_bits = 1 + next_below(40), .rows = 1 + next_below(5), .tables = 1 + next_below(4)};
    comb.exponent_bytes = (comb.exponent_bits + 7) / 8;
    comb.columns = (comb.exponent_bits + comb.rows * comb.tables - 1) / (comb.rows * comb.tables);
    const size_t count = next_below(MOST_COUNT);
    uint64_t *x = draw_elements(&base, 1), *z = new_elements(count);
    comb.entries = comb.memory = new_elements(comb.tables << comb.rows);
    check(modulus.path->comb_build(&modulus, &comb, x) == DONE, "comb");
    uint8_t *exponents = allocate(count * comb.exponent_bytes);
    for (size_t i = 0; i < count * comb.exponent_bytes; i++)
        exponents[i] = (uint8_t)next_byte();
    check(modulus.path->comb_powers(&modulus, &comb, exponents, count, z) == DONE, "comb powers");
    for (size_t i = 0; i < count; i++)
        expected[i] = to_the(base, exponents + i * comb.exponent_bytes, comb.exponent_bits);
    compare(z, expected, count, "comb power");
    free(comb.memory);
    free(exponents);
    free(x);
    free(z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(void)
        = {fuzz_multiply, fuzz_load, fuzz_power, fuzz_dense, fuzz_sparse, fuzz_comb};
    const Path *paths[2];
    size_t n_paths = 0;

    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512ifma"))
        paths[n_paths++] = &path_ifma;
    if (__builtin_cpu_supports("avx2"))
        paths[n_paths++] = &path_avx2;
    if (!n_paths)
        return 0;
    input = data;
    input_left = size;
    const Path *path = paths[next_byte() % n_paths];
    void (*target)(void) = targets[next_below(sizeof targets / sizeof *targets)];
    const unsigned kind = next_byte() % 4;
    n_size = 1 + next_below(MOST_BYTES);
    for (size_t i = 0; i < n_size; i++)
        n_bytes[i] = kind == 0 ? 255 : kind == 1 ? 0 : (uint8_t)next_byte();
    n_bytes[0] |= 1;
    n_bytes[n_size - 1] |= (uint8_t)(1 << next_byte() % 8);
    if (n_size == 1 && n_bytes[0] == 1)
        n_bytes[0] = 3;
    if (modulus_init(&modulus, path, n_bytes, n_size) != DONE)
        abort();
    width = 2 * n_size;
    set_modulus(modulus.n_square, width);
    target();
    modulus_free(&modulus);
    return 0;
}

#ifdef STANDALONE
#include <time.h>

static uint64_t state;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

int main(int count, char **arguments)
{
    const time_t end = time(NULL) + (count > 1 ? atoi(arguments[1]) : 10);
    const uint64_t seed = count > 2 ? strtoull(arguments[2], NULL, 10) : (uint64_t)time(NULL);
    uint64_t runs = 0;
    state = seed * 2 + 1;
    printf("seed %llu\n", (unsigned long long)seed);
    for (; time(NULL) < end; runs++) {
        uint8_t data[4096];
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)(draw() >> 32);
        LLVMFuzzerTestOneInput(data, sizeof data);
    }
    printf("%llu inputs, none wrong\n", (unsigned long long)runs);
    return 0;
}
#endif
