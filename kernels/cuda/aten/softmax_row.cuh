/* softmax_row.cuh - the sum of a row's exponentials, in the order of PyTorch's kernel.
 *
 * WARP      lane l of `lanes` has elements l, l + lanes, ...: e is rounded, then added to the
 *           lane's sum, from 0; lanes: butterfly, lanes / 2 .. 1
 * a block   of 1024 threads: fma of expf's last two factors and the thread's sum, from 0, over
 *   REGISTER  elements t, t + 1024, ...
 *   SHARED    the four of vector t, then of t + 1024, ...
 *   GENERIC   shift = elements of the row's first 16 bytes that belong to the row before it.  If
 *             not 0: element t - shift, for t >= shift, and the rest begins 1024 - shift
 *             elements on.  Then SHARED over whole 4096s, then REGISTER over what is left
 *           lanes of a warp: shuffle down, 16 .. 1; the 32 sums of warps likewise
 * max: any order. */
#ifndef SAMEBIT_CUDA_ATEN_SOFTMAX_ROW_CUH
#define SAMEBIT_CUDA_ATEN_SOFTMAX_ROW_CUH

#include "kernels/cuda/device.cuh"

#include <float.h>
#include <math.h>

#include "kernels/cuda/aten/reduce.h"

enum { SOFTMAX_BLOCK = 1024, SOFTMAX_LANES = 32, SOFTMAX_VECTOR = 4 };

static __device__ float softmax_larger(float a, float b)
{
    return a > b ? a : b;
}

static __device__ float softmax_exp(bf16 x, float max)
{
    return expf(__fsub_rn(bf16_to_f32(x), max));
}

/* ---- a warp a row ----
 * length 0: nothing but the shuffles, which all lanes of a warp take part in. */

static __device__ float softmax_warp_max(const bf16 *x, int length)
{
    const int lanes = (int)blockDim.x;
    float max = -INFINITY;

    for (int i = (int)threadIdx.x; i < length; i += lanes)
        max = softmax_larger(max, bf16_to_f32(x[i]));
    for (int offset = lanes / 2; offset > 0; offset /= 2)
        max = softmax_larger(max, __shfl_xor_sync(0xffffffffu, max, offset, lanes));
    return max;
}

static __device__ float softmax_warp_sum(const bf16 *x, int length, float max)
{
    const int lanes = (int)blockDim.x;
    float sum = 0.0f;

    for (int i = (int)threadIdx.x; i < length; i += lanes)
        sum = __fadd_rn(sum, softmax_exp(x[i], max));
    for (int offset = lanes / 2; offset > 0; offset /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, offset, lanes));
    return sum;
}

/* ---- a block a row ---- */

/* Which elements of a row each thread adds. */
struct softmax_deal {
    int shift;   /* 0: none apart */
    int vectors; /* end of those that are dealt in fours, from the shifted start on */
    int length;  /* end of all, likewise */
};

static __device__ struct softmax_deal softmax_deal_of(enum softmax_kind kind, int64_t row,
                                                      int length)
{
    struct softmax_deal deal = {0, 0, length};

    if (kind == SOFTMAX_SHARED)
        deal.vectors = length;
    if (kind == SOFTMAX_GENERIC) {
        deal.shift = (int)(row * length % SOFTMAX_VECTOR);
        if (deal.shift)
            deal.length -= SOFTMAX_BLOCK - deal.shift;
        deal.vectors = deal.length - deal.length % (SOFTMAX_VECTOR * SOFTMAX_BLOCK);
    }
    return deal;
}

static __device__ float softmax_thread_max(const bf16 *x, int length)
{
    float max = -FLT_MAX;

    for (int i = (int)threadIdx.x; i < length; i += SOFTMAX_BLOCK)
        max = softmax_larger(max, bf16_to_f32(x[i]));
    return max;
}

/* nvcc contracts expf's last product into these sums, as in PyTorch's build. */
static __device__ float softmax_thread_sum(const bf16 *x, const struct softmax_deal *deal,
                                           float max)
{
    const int t = (int)threadIdx.x;
    float sum = 0.0f;

    if (deal->shift) {
        if (t >= deal->shift)
            sum = sum + softmax_exp(x[t - deal->shift], max);
        x += SOFTMAX_BLOCK - deal->shift;
    }
    for (int v = t; v * SOFTMAX_VECTOR < deal->vectors; v += SOFTMAX_BLOCK)
        for (int i = 0; i < SOFTMAX_VECTOR; i++)
            sum = sum + softmax_exp(x[v * SOFTMAX_VECTOR + i], max);
    for (int i = deal->vectors + t; i < deal->length; i += SOFTMAX_BLOCK)
        sum = sum + softmax_exp(x[i], max);
    return sum;
}

/* The sum of the block's values, or the largest, in every thread. */
static __device__ float softmax_block_sum(float value, float *shared)
{
    const int lane = (int)threadIdx.x % SOFTMAX_LANES, warp = (int)threadIdx.x / SOFTMAX_LANES;

    for (int offset = SOFTMAX_LANES / 2; offset > 0; offset /= 2)
        value = __fadd_rn(value, __shfl_down_sync(0xffffffffu, value, offset));
    if (lane == 0)
        shared[warp] = value;
    __syncthreads();
    value = shared[lane];
    for (int offset = SOFTMAX_LANES / 2; offset > 0; offset /= 2)
        value = __fadd_rn(value, __shfl_down_sync(0xffffffffu, value, offset));
    return __shfl_sync(0xffffffffu, value, 0);
}

static __device__ float softmax_block_max(float value, float *shared)
{
    const int lane = (int)threadIdx.x % SOFTMAX_LANES, warp = (int)threadIdx.x / SOFTMAX_LANES;

    for (int offset = SOFTMAX_LANES / 2; offset > 0; offset /= 2)
        value = softmax_larger(value, __shfl_xor_sync(0xffffffffu, value, offset));
    if (lane == 0)
        shared[warp] = value;
    __syncthreads();
    value = shared[lane];
    for (int offset = SOFTMAX_LANES / 2; offset > 0; offset /= 2)
        value = softmax_larger(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

#endif
