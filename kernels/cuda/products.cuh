/* products.cuh - the operands of a matrix product, and when its chains may be plain.
 *
 * y[r, n] = sum over k of x[r, k] * w[n, k], in the orders of numerics.h, "products".  Every output
 * is a sum of its own, so how outputs are shared out over warps and blocks changes no bit.
 *
 * Plain chains.  PAIRS flush denormal inputs and results (kernels/products.h).  A bf16 of exponent
 * e is a multiple of 2^(e-7), so with ex, ew the least exponents among the non-zero elements that
 * meet in a chain, every product is a multiple of q = 2^(ex+ew-14), and so is every partial sum,
 * rounded or not.  If q >= 2^-126 and no operand is denormal there is nothing to flush, and
 * __fmaf_rn alone gives the same bits: a "plain" chain.  Otherwise the "exact" chain looks for a
 * denormal after every step.  Names with `least` are exponents as bf16 stores them (bias 127):
 * plain needs ex + ew >= 2 * 127 + 14 - 126 = 142. */
#ifndef SAMEBIT_CUDA_PRODUCTS_CUH
#define SAMEBIT_CUDA_PRODUCTS_CUH

#include "kernels/cuda/rows.cuh"
#include "kernels/products.h"

enum {
    LEAST_BOTH = 142,  /* ex + ew from which on chains may be plain */
    LEAST_NEVER = 512, /* for x, where w has denormals: chains are never plain */
    PANEL = 64,        /* columns of a panel */
    PANEL_GROUP = 16,  /* pairs of k that a panel is padded to a multiple of, with zeros */
    NUMBER_WITHOUT_SIGN = 0x7fff,
    EXPONENT = 0x7f80
};

/* How the right operand lies in memory.
 *   PANELS   linear's packed weight (linear.cuh)
 *   KEYS     [n, k], k contiguous
 *   VALUES   [k, n], n contiguous */
enum layout { PANELS, KEYS, VALUES };

/* Rows of a matrix: row r of head h (outermost) begins at h * head + r / tokens * outer +
 * r % tokens * inner. */
struct matrix {
    bf16 *data;
    int64_t head, outer, inner;
};

struct matmul {
    struct matrix x, y;
    const void *w;
    int64_t w_head, w_step; /* KEYS, VALUES: elements between heads; between columns, rows of k */
    const int *panel_least; /* PANELS: least exponent that x may have, for each panel */
    int x_least, w_least;   /* else: of both; their sum is LEAST_BOTH */
    const bf16 *bias;       /* or NULL */
    int rows, N, K, tokens;
    int block; /* PAIRS: elements of k in one chain */
};

typedef void product_kernel(struct matmul p);

static __forceinline__ __device__ bf16 *matrix_row(const struct matrix &m, const struct matmul &p,
                                                   int head, int row)
{
    return m.data + head * m.head + row / p.tokens * m.outer + row % p.tokens * m.inner;
}

static inline __host__ __device__ int product_pairs_padded(int K)
{
    return (K + 2 * PANEL_GROUP - 1) / (2 * PANEL_GROUP) * PANEL_GROUP;
}

/* Returns the smallest exponent that elements of x may have for plain chains with this column. */
static __forceinline__ __device__ int x_least_of(const struct matmul &p, int column)
{
    return p.panel_least ? p.panel_least[column / PANEL] : p.x_least;
}

/* Returns whether an element is too small for plain chains. */
static __forceinline__ __device__ bool is_below(bf16 b, int least)
{
    return (b & NUMBER_WITHOUT_SIGN) && (b >> 7 & 0xff) < least;
}

/* Returns the element, or zero for a denormal: product_flushed, still as bf16. */
static __forceinline__ __device__ bf16 denormal_flushed(bf16 b)
{
    return (bf16)(b & EXPONENT ? b : b & 0x8000);
}

static __forceinline__ __device__ float low_of(uint32_t pair)
{
    return f32_from_bits(pair << 16);
}

static __forceinline__ __device__ float high_of(uint32_t pair)
{
    return f32_from_bits(pair & 0xffff0000u);
}

/* Up to 8 bf16: element 2 i in the low half of pair i. */
union bf16_part {
    uint4 whole;
    uint2 half[2];
    uint32_t pair[4];
};

/* Loads `count` (8 or 4) elements from p on; those from number `most` on are zero. */
template <int count>
static __forceinline__ __device__ union bf16_part bf16_read(const bf16 *p, int most)
{
    union bf16_part part = {};

    if (most >= count && is_aligned(p, count * sizeof(bf16))) {
        if (count == 8)
            part.whole = *(const uint4 *)p;
        else
            part.half[0] = *(const uint2 *)p;
        return part;
    }
#pragma unroll
    for (int i = 0; i < count; i++)
        if (i < most)
            part.pair[i / 2] |= (uint32_t)p[i] << (i % 2 * 16);
    return part;
}

/* Loads a pair of column n of a head; zero beyond N and K. */
template <enum layout LAYOUT>
static __forceinline__ __device__ uint32_t w_pair(const struct matmul &p, int head, int n, int pair)
{
    const bf16 *w = (const bf16 *)p.w + head * p.w_head;
    const int64_t step = LAYOUT == KEYS ? 1 : p.w_step;
    const int k = 2 * pair;

    if (LAYOUT == PANELS)
        return (
            (const uint32_t *)
                p.w)[((int64_t)(n / PANEL) * product_pairs_padded(p.K) + pair) * PANEL + n % PANEL];
    if (n >= p.N || k >= p.K)
        return 0;
    w += (LAYOUT == KEYS ? n * p.w_step : n) + k * step;
    return (uint32_t)w[0] | (k + 1 < p.K ? (uint32_t)w[step] << 16 : 0);
}

/* Returns bf(sum (+ bias)). */
static __forceinline__ __device__ bf16 product_rounded(const struct matmul &p, int n, float sum)
{
    return bf16_from_f32(p.bias ? __fadd_rn(sum, bf16_to_f32(p.bias[n])) : sum);
}

/* Stores y = that, if y has such an element. */
static __forceinline__ __device__ void product_finish(const struct matmul &p, int head, int row,
                                                      int n, float sum)
{
    if (row < p.rows && n < p.N)
        matrix_row(p.y, p, head, row)[n] = product_rounded(p, n, sum);
}

#endif
