/* What to do, decided in plain C: the schedule of a power, the method and shape of a dense product. */

#include "kernel.h"

#include <stdlib.h>

static int bit_at(const uint8_t *number, size_t bit) { return number[bit / 8] >> (bit % 8) & 1; }

/* Slide a window of at most `width` bits over the exponent; write steps (unless NULL) and count them.
 * `odd_powers` is how many of x, x^3, x^5, ... the factors reach. */
static size_t slide(const uint8_t *exponent, size_t bits, size_t width, PowerStep *steps, size_t *odd_powers)
{
    size_t count = 0, position = bits;
    uint32_t squarings = 0;

    *odd_powers = 0;
    while (position > 0) {
        if (!bit_at(exponent, position - 1)) {
            squarings++;
            position--;
            continue;
        }
        size_t low = position > width ? position - width : 0;
        while (!bit_at(exponent, low))
            low++;
        size_t factor = 0;
        for (size_t bit = position; bit-- > low;)
            factor = 2 * factor + (size_t)bit_at(exponent, bit);
        squarings += (uint32_t)(position - low);
        if (factor / 2 + 1 > *odd_powers)
            *odd_powers = factor / 2 + 1;
        if (steps)
            steps[count] = (PowerStep){squarings, (int32_t)(factor / 2)};
        count++;
        squarings = 0;
        position = low;
    }
    if (squarings) {
        if (steps)
            steps[count] = (PowerStep){squarings, -1};
        count++;
    }
    return count;
}

/* The window with the fewest multiplications (factors and odd powers). The exponent 0 has no step; else the
 * first step has a factor, and its squarings, of the element one, may be left out. */
Status plan_power(PowerPlan *plan, const uint8_t *exponent, size_t bytes)
{
    size_t bits = 8 * bytes, best_width = 1, best_cost = SIZE_MAX;
    while (bits && !bit_at(exponent, bits - 1))
        bits--;
    for (size_t width = 1; width <= 6; width++) {
        size_t cost = slide(exponent, bits, width, NULL, &plan->odd_powers) + plan->odd_powers;
        if (cost < best_cost) {
            best_cost = cost;
            best_width = width;
        }
    }
    plan->count = slide(exponent, bits, best_width, NULL, &plan->odd_powers);
    plan->steps = malloc((plan->count + 1) * sizeof *plan->steps);
    if (!plan->steps)
        return NO_MEMORY;
    (void)slide(exponent, bits, best_width, plan->steps, &plan->odd_powers);
    return DONE;
}

static size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }

/* Choose between the two methods of protocol/encryption/exponentiation.py, in multiplications of whole vectors of
 * `lanes` products; a dense product has 16 planes (0/1 columns) a column:
 *
 *   groups of g rows:     ceil(rows / g) * (ceil(2^g / lanes) + planes / lanes) - planes / lanes
 *   groups of g columns:  ceil(ceil(planes / g) * strips / lanes) * (ceil(rows / strips) + 2^(g+1) - 2g)
 *                         + planes * (strips - 1) / lanes
 *
 * By rows, every subset of a group is made once, then each plane takes one (the first time, as a copy).
 * By columns, a lane is a group of planes over one of `strips` strips of the rows (so that few groups still
 * fill the lanes): one bucket a row, then the folding; strips of one plane are multiplied together. A
 * product costs the same either way, within measurement. */
DensePlan plan_dense(size_t lanes, size_t rows, size_t columns)
{
    const size_t planes = PLANES * columns;
    const double vectors = (double)planes / (double)lanes;
    DensePlan best = {1, 1, 1, 1e300};

    for (size_t g = 1; g <= 12; g++) {
        double tables = (double)divide_up((size_t)1 << g, lanes);
        double cost = (double)divide_up(rows, g) * (tables + vectors) - vectors;
        if (cost < best.cost)
            best = (DensePlan){1, g, 1, cost};
    }
    for (size_t strips = 1; strips <= lanes; strips *= 2)
        for (size_t g = 1; g <= 10; g++) {
            double batches = (double)divide_up(divide_up(planes, g) * strips, lanes);
            double one = (double)divide_up(rows, strips) + (double)(((size_t)2 << g) - 2 * g);
            double cost = batches * one + vectors * (double)(strips - 1);
            if (cost < best.cost)
                best = (DensePlan){0, g, strips, cost};
        }
    best.cost *= (double)lanes;
    return best;
}
