/* Powers of one base: the comb of Lim and Lee, laid out as in protocol/encryption/exponentiation.py.
 *
 * Bit (row * tables + table) * columns + column of an exponent is bit `row` of an index into a table; table t
 * holds at each index the product of its strips' bases, base^(2^((row * tables + t) * columns)). */

TARGET static Status path_comb_build(const Modulus *modulus, Comb *comb, const uint64_t *base)
{
    const size_t limbs = modulus->limbs, size = (size_t)1 << comb->rows;
    vec power[2 * MOST_DIGITS];
    void *memory;
    uint64_t *bases = allocate_aligned(limbs * comb->rows * comb->tables, sizeof *bases, &memory);
    if (!bases)
        return NO_MEMORY;
    broadcast(modulus, power, base);
    for (size_t strip = 0; strip < comb->rows * comb->tables; strip++) {
        scatter_block(modulus, bases + strip * limbs, power, 1);
        for (size_t column = 0; column < comb->columns; column++)
            square(modulus, power, power);
    }
    for (size_t table = 0; table < comb->tables; table++)
        subset_products(modulus, comb->entries + table * size * limbs, bases + table * limbs,
            comb->tables * limbs, comb->rows);
    free(memory);
    return DONE;
}

static size_t comb_index(const Comb *comb, const uint8_t *exponent, size_t table, size_t column)
{
    size_t index = 0;
    for (size_t row = 0; row < comb->rows; row++) {
        size_t bit = (row * comb->tables + table) * comb->columns + column;
        if (bit < comb->exponent_bits)
            index |= (size_t)(exponent[bit / 8] >> (bit % 8) & 1) << row;
    }
    return index;
}

TARGET static Status path_comb_powers(
    const Modulus *modulus, const Comb *comb, const uint8_t *exponents, size_t count, uint64_t *out)
{
    const size_t limbs = modulus->limbs, table_limbs = limbs << comb->rows;
    vec x[2 * MOST_DIGITS], entry[2 * MOST_DIGITS];

    for (size_t start = 0; start < count; start += LANES) {
        for (size_t column = comb->columns; column-- > 0;)
            for (size_t table = 0; table < comb->tables; table++) {
                const uint64_t *source[LANES];
                const int first = column == comb->columns - 1 && table == 0;
                for (size_t lane = 0; lane < LANES; lane++) {
                    const size_t own = start + lane < count ? start + lane : start;
                    const uint8_t *exponent = exponents + own * comb->exponent_bytes;
                    source[lane] = comb->entries + table * table_limbs
                        + limbs * comb_index(comb, exponent, table, column);
                }
                gather(modulus, first ? x : entry, source);
                if (first)
                    continue;
                if (table == 0)
                    square(modulus, x, x);
                multiply(modulus, x, x, entry);
            }
        scatter_block(modulus, out + start * limbs, x, count - start);
    }
    return DONE;
}
