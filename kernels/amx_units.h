/* amx_units.h - what both searches of amx_plan.h count in: tiles, lines, and what a core's caches may
 * hold of a product. */
#ifndef SAMEBIT_AMX_UNITS_H
#define SAMEBIT_AMX_UNITS_H

#include "kernels/numerics.h"

enum {
    AMX_TILE = 16,   /* rows, and columns, of a tile */
    AMX_TILE_K = 32, /* elements of k of a tile */
    AMX_LINE = 64    /* bytes of a cache line */
};

/* a / b, up. */
static inline int64_t amx_parts(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* a, up to a multiple of b. */
static inline int64_t amx_whole(int64_t a, int64_t b)
{
    return amx_parts(a, b) * b;
}

/* What oneDNN allows itself of a core's caches, in bytes. */
static inline int64_t amx_l1_limit(const struct product_shape *s)
{
    return 5 * s->host->l1 / 6;
}

static inline int64_t amx_l2_limit(const struct product_shape *s)
{
    return 3 * s->host->l2 / 4;
}

/* Whether the right operand is contiguous in k. */
static inline int amx_k_is_inner(const struct product_shape *s)
{
    return s->use != PRODUCT_OF_PV;
}

/* A few bytes are left to AVX512_BF16. */
static inline int amx_is_small(int64_t rows, int64_t K)
{
    return 2 * rows * K <= 126;
}

#endif
