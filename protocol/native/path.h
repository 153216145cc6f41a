/* A whole path from the primitives of a lanes_*.h, which is included before; PATH names its table. */

#include "kernel.h"

#include <stdlib.h>
#include <string.h>

/* Limbs of a digit of MOST_BITS and the 3 bits by which R exceeds n, in whole tiles. */
#define MOST_DIGITS (((MOST_BITS + 3 + LIMB_BITS - 1) / LIMB_BITS + 3) / 4 * 4)

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
