/* A whole path from the primitives of a lanes_*.h, which is included before; PATH names its table. */

#include "kernel.h"

#include <stdlib.h>
#include <string.h>

/* Limbs of a digit for the largest n, as modulus_init finds them. */
#define MOST_DIGITS (((MOST_BITS + SPARE_BITS + LIMB_BITS - 1) / LIMB_BITS + TILE - 1) / TILE * TILE)

#include "montgomery.h"
#include "vectors.h"
#include "products.h"
#include "comb.h"

const Path PATH = {
    PATH_NAME,
    LANES,
    LIMB_BITS,
    path_load,
    path_store,
    path_high,
    path_multiply,
    path_power,
    path_dense,
    path_sparse,
    path_comb_build,
    path_comb_powers,
};
