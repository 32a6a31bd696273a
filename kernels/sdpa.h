/* sdpa.h - what all backends of torch-cpu numerics share of scaled_dot_product_attention: which rows,
 * keys and blocks a call is made of, and the three exponentials.  ops.h has the contract. */
#ifndef SAMEBIT_SDPA_H
#define SAMEBIT_SDPA_H

#include <math.h>
#include <stdint.h>

#include "kernels/base/integer.h"
#include "kernels/base/bf16.h"
#include "kernels/numerics.h"

struct op_call;

enum {
    SDPA_KEYS = 512,  /* of a block */
    SDPA_WIDEST = 256 /* D; shape.c lets no wider one pass */
};

/* A call, resolved. */
struct sdpa {
    const struct op_call *call;  /* of no use to a device, which gets NULL */
    int64_t shared;              /* query heads of one key head */
    int64_t tokens, keys, width; /* T, L, D */
    int64_t window, padding; /* keys of the window, 0 = none; keys before this one are padding */
    int64_t group, lanes;    /* rows that PyTorch computes together; of ATen's vectors */
    int masked; /* 0: keys after a row's own are cut off; 1: a mask of 0 and -inf is added */
    float scale;
    enum sdpa_products products; /* what computes q . k and p . v */
};

#ifdef __cplusplus
extern "C"
#endif
    struct sdpa
    sdpa_of(const struct op_call *call);

/* The group that row t is in: its first row, and how many it has. */
BF16_INLINE int64_t sdpa_group_of(const struct sdpa *s, int64_t t, int64_t *rows)
{
    const int64_t first = t / s->group * s->group;

    *rows = min_i64(s->group, s->tokens - first);
    return first;
}

/* Keys that a group goes through, seen or not.  Blocks are always cut out of all L. */
BF16_INLINE int64_t sdpa_group_keys(const struct sdpa *s, int64_t first, int64_t rows)
{
    return s->masked || s->tokens == 1 ? s->keys : first + rows;
}

/* Row t sees the keys [from, *to). */
BF16_INLINE int64_t sdpa_seen(const struct sdpa *s, int64_t t, int64_t *to)
{
    const int64_t end = s->keys - s->tokens + t + 1;
    int64_t from = s->window && end > s->window ? end - s->window : 0;

    from = from > s->padding ? from : s->padding;
    *to = end;
    return min_i64(from, end);
}

/* Length of the chains into which a sum of n products of four rows or more is cut. */
BF16_INLINE int64_t sdpa_chain(int64_t n)
{
    return n > 384 ? 192 : n > 192 ? n / 2 : n;
}

/* Keys of a block whose products are summed in lanes instead of chains. */
BF16_INLINE int sdpa_in_lanes(int64_t rows, int64_t keys)
{
    return rows < 4 || keys < 12;
}

/* ---- exponentials of x <= 0 or NaN ---- */

/* f32_product of doubles. */
BF16_INLINE double sdpa_product_f64(double a, double b)
{
#ifdef __CUDA_ARCH__
    return __dmul_rn(a, b);
#else
    return a * b;
#endif
}

/* ATen's fexp_u20, for keys in whole vectors: the f32 is put together from its integer encoding.
 * A NaN gives 0; no branch, so that loops can be put in vectors. */
BF16_INLINE float sdpa_fexp(float x)
{
    const float least = -0x1.5d58ap+6f, d = x >= least ? x : least;
    const float s = f32_product(d, 0x1.715476p+0f), f = s - floorf(s);
    float r = fmaf(f, -0.079204240219773236f, -0.22433836478672356f);

    r = fmaf(f, r, 0.30354260500649682f);
    r = fmaf(f, r, 0.00010703434948458272f);
    r = fmaf(0x1p23f, s - r, 0x1.fcp+29f); /* 127 * 2^23 */
    return x >= least ? f32_from_bits((uint32_t)(int32_t)r) : 0.0f;
}

#define SDPA_POWERS                                                                                \
    {0x1.0000000000000p+0, 0x1.059b0d3158574p+0, 0x1.0b5586cf9890fp+0, 0x1.11301d0125b51p+0,       \
     0x1.172b83c7d517bp+0, 0x1.1d4873168b9aap+0, 0x1.2387a6e756238p+0, 0x1.29e9df51fdee1p+0,       \
     0x1.306fe0a31b715p+0, 0x1.371a7373aa9cbp+0, 0x1.3dea64c123422p+0, 0x1.44e086061892dp+0,       \
     0x1.4bfdad5362a27p+0, 0x1.5342b569d4f82p+0, 0x1.5ab07dd485429p+0, 0x1.6247eb03a5585p+0,       \
     0x1.6a09e667f3bcdp+0, 0x1.71f75e8ec5f74p+0, 0x1.7a11473eb0187p+0, 0x1.82589994cce13p+0,       \
     0x1.8ace5422aa0dbp+0, 0x1.93737b0cdc5e5p+0, 0x1.9c49182a3f090p+0, 0x1.a5503b23e255dp+0,       \
     0x1.ae89f995ad3adp+0, 0x1.b7f76f2fb5e47p+0, 0x1.c199bdd85529cp+0, 0x1.cb720dcef9069p+0,       \
     0x1.d5818dcfba487p+0, 0x1.dfc97337b9b5fp+0, 0x1.ea4afa2a490dap+0, 0x1.f50765b6e4540p+0}

/* 2^(i/32) */
static const double sdpa_powers[32] = SDPA_POWERS;
#ifdef __CUDACC__
static __device__ const double sdpa_powers_device[32] = SDPA_POWERS;
#endif

/* 2^(n/32) to half an ulp, for n of -32 * 1022 .. 0. */
BF16_INLINE double sdpa_power(int32_t n)
{
    const int32_t i = n & 31;
    const uint64_t bits = (uint64_t)((n - i) / 32 + 1023) << 52;
    double scale;

    memcpy(&scale, &bits, sizeof(scale));
#ifdef __CUDA_ARCH__
    return __dmul_rn(sdpa_powers_device[i], scale);
#else
    return sdpa_powers[i] * scale;
#endif
}

/* For the keys left over: e^x rounded once.  2^(k/32) * e^r, |r| <= ln 2 / 64, in f64 to within two
 * of its ulps; test_sdpa_exp.c shows for each x that the f32 is then the nearest one. */
BF16_INLINE float sdpa_exp_tail(float x)
{
    double k, r, tail, power;

    if (x != x)
        return x;
    if (x < -104.0f)
        return 0.0f;
    k = rint(sdpa_product_f64(0x1.71547652b82fep+5, (double)x)); /* 32 / ln 2 */
    r = fma(k, -0x1.62e42fefap-6, (double)x);                    /* ln 2 / 32, in two parts */
    r = fma(k, -0x1.cf79abc9e3b3ap-45, r);
    tail = fma(r, 0x1.6c16c16c16c17p-10, 0x1.1111111111111p-7); /* 1/720, 1/120 */
    tail = fma(tail, r, 0x1.5555555555555p-5);
    tail = fma(tail, r, 0x1.5555555555555p-3);
    tail = fma(tail, r, 0.5);
    tail = fma(sdpa_product_f64(r, r), tail, r);
    power = sdpa_power((int32_t)k);
    return (float)fma(power, tail, power);
}

/* For what earlier blocks have summed: glibc's expf, spelled out so that no other libm is met.
 * 2^(k/32) * 2^(r/32) with k an integer and |r| <= 1/2: a table and a cubic, in f64. */
BF16_INLINE float sdpa_exp_old(float x)
{
    const double by = 0x1.71547652b82fep+5; /* 32 / ln 2 */
    double k, r, cubic;

    if (x != x)
        return x;
    if (x < -0x1.9fe368p6f)
        return 0.0f;
    k = rint(sdpa_product_f64(by, (double)x));
    r = fma(by, (double)x, -k);
    cubic = fma(0x1.c6af84b912394p-20, r, 0x1.ebfce50fac4f3p-13);
    cubic = fma(cubic, sdpa_product_f64(r, r), fma(0x1.62e42ff0c52d6p-6, r, 1.0));
    return (float)sdpa_product_f64(cubic, sdpa_power((int32_t)k));
}

#endif
