/* sdpa.h - what the versions of scaled_dot_product_attention share: which rows, keys and blocks a
 * call is made of, and the three exponentials.  ops.h has the contract. */
#ifndef SAMEBIT_CPU_SDPA_H
#define SAMEBIT_CPU_SDPA_H

#include <math.h>
#include <stdint.h>

#include "kernels/cpu/backend_cpu.h"

enum {
    SDPA_KEYS = 512,  /* of a block */
    SDPA_WIDEST = 256 /* D; shape.c lets no wider one pass */
};

/* A call, resolved. */
struct sdpa {
    const struct op_call *call;
    int64_t shared;              /* query heads of one key head */
    int64_t tokens, keys, width; /* T, L, D */
    int64_t group;               /* rows that PyTorch computes together */
    int64_t window, hidden; /* keys of the window, 0 = none; keys before this one are padding */
    int masked; /* 0: keys after a row's own are cut off; 1: a mask of 0 and -inf is added */
    int lanes;  /* of ATen's vectors */
    float scale;
};

struct sdpa sdpa_of(const struct op_call *call);

/* cpu_sdpa in vectors: equal bits. */
op_fn cpu_sdpa_avx512, cpu_sdpa_avx2;

static inline int64_t sdpa_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The group that row t is in: its first row, and how many it has. */
static inline int64_t sdpa_group_of(const struct sdpa *s, int64_t t, int64_t *rows)
{
    const int64_t first = t / s->group * s->group;

    *rows = sdpa_least(s->group, s->tokens - first);
    return first;
}

/* Keys that a group goes through, seen or not.  Blocks are always cut out of all L. */
static inline int64_t sdpa_group_keys(const struct sdpa *s, int64_t first, int64_t rows)
{
    return s->masked || s->tokens == 1 ? s->keys : first + rows;
}

/* Row t sees the keys [from, *to). */
static inline int64_t sdpa_seen(const struct sdpa *s, int64_t t, int64_t *to)
{
    const int64_t end = s->keys - s->tokens + t + 1;
    int64_t from = s->window && end > s->window ? end - s->window : 0;

    from = from > s->hidden ? from : s->hidden;
    *to = end;
    return sdpa_least(from, end);
}

/* Length of the chains into which a sum of n products of four rows or more is cut. */
static inline int64_t sdpa_chain(int64_t n)
{
    return n > 384 ? 192 : n > 192 ? n / 2 : n;
}

/* Keys of a block whose products are summed in lanes instead of chains. */
static inline int sdpa_in_lanes(int64_t rows, int64_t keys)
{
    return rows < 4 || keys < 12;
}

/* ---- exponentials of x <= 0 or NaN ---- */

/* ATen's fexp_u20, for keys in whole vectors: the f32 is put together from its integer encoding.
 * A NaN gives 0; no branch, so that loops can be put in vectors. */
static inline float sdpa_fexp(float x)
{
    const float least = -0x1.5d58ap+6f, d = x >= least ? x : least;
    const float s = d * 0x1.715476p+0f, f = s - floorf(s);
    float r = fmaf(f, -0.079204240219773236f, -0.22433836478672356f);

    r = fmaf(f, r, 0.30354260500649682f);
    r = fmaf(f, r, 0.00010703434948458272f);
    r = fmaf(0x1p23f, s - r, 0x1.fcp+29f); /* 127 * 2^23 */
    return x >= least ? f32_from_bits((uint32_t)(int32_t)r) : 0.0f;
}

/* For the keys left over.  PyTorch rounds correctly; libm's double exp is near enough to that for
 * the rounding to f32 to hide the difference. */
static inline float sdpa_exp_tail(float x)
{
    return (float)exp((double)x);
}

/* For what earlier blocks have summed: glibc's expf, spelled out so that no other libm is met. */
float sdpa_exp_old(float x);

#endif
