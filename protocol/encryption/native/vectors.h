/* Blocks of LANES elements, conversions, elementwise products and common powers. */

INLINE void transpose_in(vec *x, const uint64_t *const source[LANES], size_t limbs)
{
    for (size_t i = 0; i < limbs; i += LANES) {
        vec rows[LANES];
        for (int lane = 0; lane < LANES; lane++)
            rows[lane] = v_read(source[lane] + i);
        v_transpose(rows);
        for (int lane = 0; lane < LANES; lane++)
            x[i + (size_t)lane] = rows[lane];
    }
}

INLINE void transpose_out(uint64_t *const target[LANES], const vec *x, size_t limbs)
{
    for (size_t i = 0; i < limbs; i += LANES) {
        vec rows[LANES];
        for (int lane = 0; lane < LANES; lane++)
            rows[lane] = x[i + (size_t)lane];
        v_transpose(rows);
        for (int lane = 0; lane < LANES; lane++)
            v_write(target[lane] + i, rows[lane]);
    }
}

/* The elements at `source` into the lanes of x. */
TARGET static __attribute__((noinline)) void gather(
    const Modulus *modulus, vec *x, const uint64_t *const source[LANES])
{
    transpose_in(x, source, modulus->limbs);
}

/* The lanes of x to `target`; lanes whose target is NULL are dropped. */
TARGET static __attribute__((noinline)) void scatter(
    const Modulus *modulus, uint64_t *const target[LANES], const vec *x)
{
    uint64_t dropped[2 * MOST_DIGITS];
    uint64_t *to[LANES];
    for (int lane = 0; lane < LANES; lane++)
        to[lane] = target[lane] ? target[lane] : dropped;
    transpose_out(to, x, modulus->limbs);
}

/* Up to LANES elements that lie one after the other; lanes beyond `count` are one. */
TARGET static void gather_block(const Modulus *modulus, vec *x, const uint64_t *elements, size_t count)
{
    const uint64_t *source[LANES];
    for (size_t lane = 0; lane < LANES; lane++)
        source[lane] = lane < count ? elements + lane * modulus->limbs : modulus->one;
    gather(modulus, x, source);
}

TARGET static void scatter_block(const Modulus *modulus, uint64_t *elements, const vec *x, size_t count)
{
    uint64_t *target[LANES];
    for (size_t lane = 0; lane < LANES; lane++)
        target[lane] = lane < count ? elements + lane * modulus->limbs : NULL;
    scatter(modulus, target, x);
}

/* One element in all lanes. */
TARGET static void broadcast(const Modulus *modulus, vec *x, const uint64_t *element)
{
    for (size_t i = 0; i < modulus->limbs; i++)
        x[i] = v_all(element[i]);
}

/* Start fetching an element from memory while other arithmetic goes on. */
INLINE void prefetch(const Modulus *modulus, const uint64_t *element)
{
    for (size_t i = 0; i < modulus->limbs; i += 8)
        __builtin_prefetch(element + i);
}

/* x -= n in the lanes where x >= n; returns a mask of the other lanes. For digits below 2n. */
INLINE vec reduce_digit(const Modulus *modulus, vec *x)
{
    const vec *n = (const vec *)modulus->n_lanes;
    vec difference[MOST_DIGITS], carry = v_zero();
    for (size_t i = 0; i < modulus->digits; i++) {
        carry = v_add(carry, v_subtract(x[i], n[i]));
        difference[i] = v_low(carry);
        carry = v_carry(carry);
    }
    const vec less = v_negative(carry);
    for (size_t i = 0; i < modulus->digits; i++)
        x[i] = v_choose(less, x[i], difference[i]);
    return less;
}

/* Out of the Montgomery form: digits x0, x1 in [0, n) of the residue itself. The product with the unit leaves
 * them in [0, n]; x0 = n, which only multiples of n have, stands for one n more in x1. */
TARGET static void canonical(const Modulus *modulus, vec *x)
{
    const size_t digits = modulus->digits;
    vec unit[2 * MOST_DIGITS];

    broadcast(modulus, unit, modulus->unit);
    multiply(modulus, x, x, unit);
    vec less = reduce_digit(modulus, x);
    vec carry = v_add(v_all(1), less); /* a mask is -1 */
    for (size_t i = digits; i < 2 * digits; i++) {
        carry = v_add(carry, x[i]);
        x[i] = v_low(carry);
        carry = v_carry(carry);
    }
    (void)reduce_digit(modulus, x + digits);
}

/* x0 + x1 n in limbs; x is overwritten. */
TARGET static void join_digits(const Modulus *modulus, vec *x)
{
    const size_t digits = modulus->digits, blocks = digits / TILE;
    vec joined[2 * MOST_DIGITS], column[2 * TILE], carried[TILE];
    Columns sums;

    for (int i = 0; i < TILE; i++)
        carried[i] = v_zero();
    for (size_t block = 0; block < 2 * blocks; block++) {
        const size_t first = block < blocks ? 0 : block - blocks + 1;
        const size_t stop = block < blocks ? block + 1 : blocks;
        columns_clear(&sums);
        columns_add_tiles(&sums, x + digits, (const vec *)modulus->n_lanes, block, first, stop);
        columns_collect(&sums, carried, column);
        if (block < blocks)
            for (int i = 0; i < TILE; i++)
                column[i] = v_add(column[i], x[TILE * block + (size_t)i]);
        columns_emit_low(column, joined + TILE * block);
        for (int i = 0; i < TILE; i++)
            carried[i] = column[TILE + i];
    }
    memcpy(x, joined, 2 * digits * sizeof *x);
}

/* Read `count` limbs from bit `position` on; 8 readable bytes follow the last. */
static void unpack_limbs(uint64_t *limbs, size_t count, const uint8_t *bytes, size_t position)
{
    for (size_t i = 0; i < count; i++, position += LIMB_BITS) {
        uint64_t word;
        memcpy(&word, bytes + position / 8, sizeof word);
        limbs[i] = (word >> (position % 8)) & ((1ULL << LIMB_BITS) - 1);
    }
}

/* Write limbs as `width` little-endian bytes; what does not fit is zero. */
static void pack_limbs(uint8_t *bytes, size_t width, const uint64_t *limbs, size_t count)
{
    uint64_t words[2 * MOST_DIGITS + 1], word = 0;
    size_t filled = 0, number = 0;
    for (size_t i = 0; i < count; i++) {
        word |= limbs[i] << filled;
        filled += LIMB_BITS;
        if (filled >= 64) {
            words[number++] = word;
            filled -= 64;
            word = limbs[i] >> (LIMB_BITS - filled);
        }
    }
    words[number++] = word;
    const size_t known = number * sizeof word < width ? number * sizeof word : width;
    memcpy(bytes, words, known);
    memset(bytes + known, 0, width - known);
}

static int below_n_square(const Modulus *modulus, const uint8_t *number, size_t width)
{
    const size_t bytes = modulus->n_square_bytes;
    for (size_t i = width > bytes ? width : bytes; i-- > 0;) {
        uint8_t own = i < width ? number[i] : 0, bound = i < bytes ? modulus->n_square[i] : 0;
        if (own != bound)
            return own < bound;
    }
    return 0;
}

/* A number X = u0 + u1 2^k with k one bit less than R has: u1 2^k is a product with a constant, in which x0
 * leaves room for u0 (below R / 4 + R / 2); a product with R^2 brings X to the Montgomery form. Its bounds
 * hold for a factor below R if the other, here the constant, is below n. */
TARGET static Status path_load(
    const Modulus *modulus, const uint8_t *data, size_t width, size_t count, uint64_t *out)
{
    const size_t digits = modulus->digits, limbs = modulus->limbs;
    const size_t known = width < modulus->n_square_bytes ? width : modulus->n_square_bytes;
    vec x[2 * MOST_DIGITS], low[MOST_DIGITS], split[2 * MOST_DIGITS], radix[2 * MOST_DIGITS];
    uint64_t lower[LANES][2 * MOST_DIGITS], upper[LANES][2 * MOST_DIGITS];
    uint8_t padded[2 * MOST_DIGITS * LIMB_BITS / 8 + 16];

    broadcast(modulus, split, modulus->split_radix);
    broadcast(modulus, radix, modulus->radix_square);
    memset(upper, 0, sizeof upper);
    memset(padded, 0, sizeof padded);
    for (size_t start = 0; start < count; start += LANES) {
        const uint64_t *lowers[LANES], *uppers[LANES];
        for (size_t lane = 0; lane < LANES; lane++) {
            const size_t position = start + lane < count ? start + lane : start;
            if (!below_n_square(modulus, data + position * width, width))
                return OUT_OF_RANGE;
            memcpy(padded, data + position * width, known);
            unpack_limbs(lower[lane], digits, padded, 0);
            lower[lane][digits - 1] &= (1ULL << (LIMB_BITS - 1)) - 1;
            unpack_limbs(upper[lane], digits, padded, digits * LIMB_BITS - 1);
            lowers[lane] = lower[lane];
            uppers[lane] = upper[lane];
        }
        gather(modulus, x, uppers);
        transpose_in(low, lowers, digits);
        multiply(modulus, x, x, split);
        vec carry = v_zero();
        for (size_t i = 0; i < digits; i++) {
            carry = v_add(carry, v_add(x[i], low[i]));
            x[i] = v_low(carry);
            carry = v_carry(carry);
        }
        multiply(modulus, x, x, radix);
        scatter_block(modulus, out + start * limbs, x, count - start);
    }
    return DONE;
}

/* Ordinary integers of `width` bytes: the residues, or only their digits x1. */
TARGET static void convert_out(const Modulus *modulus, const uint64_t *elements, size_t width, size_t count,
    uint8_t *out, int only_high)
{
    const size_t digits = modulus->digits, limbs = modulus->limbs;
    vec x[2 * MOST_DIGITS];
    uint64_t rows[LANES][2 * MOST_DIGITS];
    uint64_t *targets[LANES];

    for (size_t lane = 0; lane < LANES; lane++)
        targets[lane] = rows[lane];
    for (size_t start = 0; start < count; start += LANES) {
        gather_block(modulus, x, elements + start * limbs, count - start);
        canonical(modulus, x);
        if (!only_high)
            join_digits(modulus, x);
        transpose_out(targets, x, limbs);
        for (size_t lane = 0; lane < LANES && start + lane < count; lane++)
            pack_limbs(out + (start + lane) * width, width, only_high ? rows[lane] + digits : rows[lane],
                only_high ? digits : limbs);
    }
}

TARGET static Status path_store(
    const Modulus *modulus, const uint64_t *elements, size_t width, size_t count, uint8_t *out)
{
    convert_out(modulus, elements, width, count, out, 0);
    return DONE;
}

TARGET static Status path_high(
    const Modulus *modulus, const uint64_t *elements, size_t width, size_t count, uint8_t *out)
{
    convert_out(modulus, elements, width, count, out, 1);
    return DONE;
}

TARGET static Status path_multiply(const Modulus *modulus, const uint64_t *a, const uint64_t *b,
    size_t b_count, size_t count, uint64_t *out)
{
    const size_t limbs = modulus->limbs;
    vec x[2 * MOST_DIGITS], y[2 * MOST_DIGITS];

    if (count && b_count == 1)
        broadcast(modulus, y, b);
    for (size_t start = 0; start < count; start += LANES) {
        gather_block(modulus, x, a + start * limbs, count - start);
        if (b_count != 1)
            gather_block(modulus, y, b + start * limbs, count - start);
        multiply(modulus, x, x, y);
        scatter_block(modulus, out + start * limbs, x, count - start);
    }
    return DONE;
}

TARGET static Status path_power(
    const Modulus *modulus, const uint64_t *elements, const PowerPlan *plan, size_t count, uint64_t *out)
{
    const size_t limbs = modulus->limbs;
    void *memory;
    vec x[2 * MOST_DIGITS];
    vec *odd = allocate_aligned(limbs * (plan->odd_powers + 1), sizeof *odd, &memory);
    if (!odd)
        return NO_MEMORY;
    for (size_t start = 0; start < count; start += LANES) {
        if (!plan->count)
            broadcast(modulus, x, modulus->one);
        else {
            gather_block(modulus, odd, elements + start * limbs, count - start);
            if (plan->odd_powers > 1)
                square(modulus, x, odd);
            for (size_t i = 1; i < plan->odd_powers; i++)
                multiply(modulus, odd + i * limbs, odd + (i - 1) * limbs, x);
            memcpy(x, odd + (size_t)plan->steps[0].odd * limbs, limbs * sizeof *x);
        }
        for (size_t step = 1; step < plan->count; step++) {
            for (uint32_t i = 0; i < plan->steps[step].squarings; i++)
                square(modulus, x, x);
            if (plan->steps[step].odd >= 0)
                multiply(modulus, x, x, odd + (size_t)plan->steps[step].odd * limbs);
        }
        scatter_block(modulus, out + start * limbs, x, count - start);
    }
    free(memory);
    return DONE;
}
