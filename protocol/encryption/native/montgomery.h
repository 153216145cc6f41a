/* Multiplication modulo n^2 in n-adic Montgomery form, LANES independent products at once.
 *
 * With R = 2^(LIMB_BITS * digits) >= 8 n, a residue x stands as x R = x0 + x1 n (mod n^2) with digits
 * x0, x1 in [0, 2n). Let q = -x0 y0 / n mod R, so that x0 y0 + q n = z0 R exactly. Then
 *
 *     x y / R = z0 + n (x0 y1 + x1 y0 - q) / R   (mod n^2),   z1 = REDC(x0 y1 + x1 y0 - q),
 *
 * five products of `digits` limbs squared instead of the eight of a number twice as long. Bounds:
 *
 *     z0 < (4 n^2 + R n) / R < 2n;   z1 < (8 n^2 + R n) / R <= 2n;   z1 > -q / R > -1, so z1 >= 0.
 *
 * Hence no comparison and no subtraction of n here. A canonical x0 < n is made only where numbers leave
 * the internal form; there, taking n off x0 adds 1 to x1 (see `canonical`).
 *
 * Columns are summed TILE at a time, tile by tile (TILE x TILE limb products), so that a column lives in
 * a register from its first product to its carry. `digits` is a multiple of TILE.
 */

/* The sums of products that start in TILE columns; a product reaches up to column 2 TILE - 2, its high
 * half (`high`) one further. */
typedef struct {
    vec low[2 * TILE - 1], high[2 * TILE - 1];
} Columns;

INLINE void columns_clear(Columns *sums)
{
    for (int i = 0; i < 2 * TILE - 1; i++)
        sums->low[i] = sums->high[i] = v_zero();
}

INLINE void columns_double(Columns *sums)
{
    for (int i = 0; i < 2 * TILE - 1; i++) {
        sums->low[i] = v_add(sums->low[i], sums->low[i]);
        sums->high[i] = v_add(sums->high[i], sums->high[i]);
    }
}

INLINE void columns_add_tile(Columns *sums, const vec *a, const vec *b)
{
    const vec a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
#define ROW(j)                                                         \
    do {                                                               \
        const vec b_j = b[j];                                          \
        v_mac(&sums->low[j], &sums->high[j], a0, b_j);                 \
        v_mac(&sums->low[(j) + 1], &sums->high[(j) + 1], a1, b_j);     \
        v_mac(&sums->low[(j) + 2], &sums->high[(j) + 2], a2, b_j);     \
        v_mac(&sums->low[(j) + 3], &sums->high[(j) + 3], a3, b_j);     \
    } while (0)
    ROW(0);
    ROW(1);
    ROW(2);
    ROW(3);
#undef ROW
}

/* Add the tiles (i, block - i) for first <= i < stop. */
INLINE void columns_add_tiles(
    Columns *sums, const vec *a, const vec *b, size_t block, size_t first, size_t stop)
{
    for (size_t i = first; i < stop; i++)
        columns_add_tile(sums, a + TILE * i, b + TILE * (block - i));
}

/* The sums as 2 TILE columns, on top of what the block before left in `carried`. */
INLINE void columns_collect(const Columns *sums, const vec carried[TILE], vec column[2 * TILE])
{
    for (int i = 0; i < TILE; i++)
        column[i] = v_add(carried[i], sums->low[i]);
    for (int i = TILE; i < 2 * TILE - 1; i++)
        column[i] = sums->low[i];
    column[2 * TILE - 1] = v_zero();
    for (int i = 0; i < 2 * TILE - 1; i++)
        column[i + 1] = v_add(column[i + 1], sums->high[i]);
}

/* Find the quotient limbs that clear the TILE lowest columns, and carry what is above. */
INLINE void columns_clear_low(vec column[2 * TILE], vec *quotient, const vec *n, vec inverse)
{
    for (int i = 0; i < TILE; i++) {
        vec digit = v_multiply_low(column[i], inverse);
        quotient[i] = digit;
        for (int j = 0; j < TILE; j++)
            v_mac(&column[i + j], &column[i + j + 1], digit, n[j]);
        column[i + 1] = v_add(column[i + 1], v_carry(column[i]));
    }
}

/* Hand out the TILE lowest columns as limbs, and carry what is above. */
INLINE void columns_emit_low(vec column[2 * TILE], vec *limbs)
{
    for (int i = 0; i < TILE; i++) {
        limbs[i] = v_low(column[i]);
        column[i + 1] = v_add(column[i + 1], v_carry(column[i]));
    }
}

/* z = x y / R; z may be x or y. With `square`, y is not read and products of equal limbs are taken once. */
INLINE void product(const Modulus *modulus, vec *z, const vec *x, const vec *y, int square)
{
    const size_t digits = modulus->digits, blocks = digits / TILE;
    const vec *n = (const vec *)modulus->n_lanes;
    const vec inverse = v_all(modulus->n_inverse);
    vec quotient0[MOST_DIGITS], quotient1[MOST_DIGITS], column[2 * TILE];
    vec carried0[TILE], carried1[TILE];
    Columns sums;

    for (int i = 0; i < TILE; i++)
        carried0[i] = carried1[i] = v_zero();
    for (size_t block = 0; block < 2 * blocks; block++) {
        const int low_half = block < blocks;
        const size_t first = low_half ? 0 : block - blocks + 1;
        const size_t stop = low_half ? block + 1 : blocks, quotients = low_half ? block : blocks;

        columns_clear(&sums);
        if (square) {
            columns_add_tiles(&sums, x, x, block, first, (block + 1) / 2);
            columns_double(&sums);
            if (block % 2 == 0)
                columns_add_tile(&sums, x + TILE * (block / 2), x + TILE * (block / 2));
        } else {
            columns_add_tiles(&sums, x, y, block, first, stop);
        }
        columns_add_tiles(&sums, quotient0, n, block, first, quotients);
        columns_collect(&sums, carried0, column);
        if (low_half)
            columns_clear_low(column, quotient0 + TILE * block, n, inverse);
        else
            columns_emit_low(column, z + TILE * (block - blocks));
        for (int i = 0; i < TILE; i++)
            carried0[i] = column[TILE + i];

        columns_clear(&sums);
        if (square) {
            columns_add_tiles(&sums, x, x + digits, block, first, stop);
            columns_double(&sums);
        } else {
            columns_add_tiles(&sums, x, y + digits, block, first, stop);
            columns_add_tiles(&sums, x + digits, y, block, first, stop);
        }
        columns_add_tiles(&sums, quotient1, n, block, first, quotients);
        columns_collect(&sums, carried1, column);
        if (low_half) {
            for (int i = 0; i < TILE; i++)
                column[i] = v_subtract(column[i], quotient0[TILE * block + i]);
            columns_clear_low(column, quotient1 + TILE * block, n, inverse);
        } else {
            columns_emit_low(column, z + digits + TILE * (block - blocks));
        }
        for (int i = 0; i < TILE; i++)
            carried1[i] = column[TILE + i];
    }
}

TARGET static __attribute__((noinline)) void multiply(
    const Modulus *modulus, vec *z, const vec *x, const vec *y)
{
    product(modulus, z, x, y, 0);
}

TARGET static __attribute__((noinline)) void square(const Modulus *modulus, vec *z, const vec *x)
{
    product(modulus, z, x, x, 1);
}
