/* softmax.cu - rows of scores to rows of weights.
 *
 * A block a row: all threads compute e, and the 16 or 8 lanes of the sum, which nothing else may
 * add, are threads of the first warp. */
#include "kernels/cuda/rows.cuh"

#include "kernels/cpu/sleef.h"

enum {
    CHUNK = 4096,       /* elements of a row kept in shared memory; a multiple of LANES_MOST */
    THREADS_MOST = 256, /* a multiple of WARP */
    LANES_MOST = 16
};

struct softmax {
    struct rows x, y;
    int width, lanes; /* elements of a row; of the sum (numerics.h, "softmax") */
};

/* Returns an integer that compares as the number does.  A NaN becomes the smallest or the largest, by
 * its sign; either way the row becomes NaN: by the maximum, or by the element's own exp. */
static __forceinline__ __device__ int key_of(bf16 b)
{
    return (int16_t)(b ^ (b & 0x8000 ? 0x7fff : 0));
}

static __forceinline__ __device__ int greater(int a, int b)
{
    return a > b ? a : b;
}

/* Returns the row's maximum in every thread. */
static __device__ float block_max(const bf16 *x, int n)
{
    __shared__ int of_warp[THREADS_MOST / WARP];
    const int warps = (int)blockDim.x / WARP, lane = (int)threadIdx.x % WARP;
    int most = INT16_MIN;

    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        most = greater(most, key_of(x[i]));
    for (int d = WARP / 2; d; d /= 2)
        most = greater(most, __shfl_xor_sync(WHOLE_WARP, most, d));
    if (lane == 0)
        of_warp[threadIdx.x / WARP] = most;
    __syncthreads();
    for (int w = 0; w < warps; w++)
        most = greater(most, of_warp[w]);
    return bf16_to_f32((bf16)(most ^ (most < 0 ? 0x7fff : 0)));
}

static __forceinline__ __device__ float exp_of(bf16 x, float max)
{
    return sleef_expf(__fsub_rn(bf16_to_f32(x), max));
}

static __forceinline__ __device__ int chunk_of(int n, int first)
{
    return n - first < CHUNK ? n - first : CHUNK;
}

/* Computes elements [first, first + CHUNK) of the row's e.  All threads call it. */
static __forceinline__ __device__ void chunk_exp(const bf16 *x, int n, int first, float max,
                                                 float *e)
{
    const int count = chunk_of(n, first);

    for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x)
        e[i] = exp_of(x[first + i], max);
}

/* Adds a lane's elements of a chunk in order.  Its sum starts as its first element of the row. */
static __forceinline__ __device__ float lane_add(float acc, const float *e, int count, int lane,
                                                 int lanes, bool start)
{
    int i = lane;

    if (start) {
        acc = e[i];
        i += lanes;
    }
#pragma unroll 8
    for (; i < count; i += lanes)
        acc = __fadd_rn(acc, e[i]);
    return acc;
}

/* Adds up the lanes: acc[l] += acc[l ^ d] for d = lanes / 2 .. 1.  All lanes of the warp call it. */
static __forceinline__ __device__ float lanes_sum(float acc, int lanes)
{
    for (int d = lanes / 2; d; d /= 2)
        acc = __fadd_rn(acc, __shfl_xor_sync(WHOLE_WARP, acc, d));
    return acc;
}

static __forceinline__ __device__ float sum_in_order(const float *e, int n)
{
    float sum = e[0];

    for (int i = 1; i < n; i++)
        sum = __fadd_rn(sum, e[i]);
    return sum;
}

/* Returns 1 / sum(e) in every thread; e then holds the last chunk. */
static __device__ float block_inverse(const bf16 *x, int n, int lanes, float max, float *e)
{
    __shared__ float inverse;
    const int thread = (int)threadIdx.x;
    float acc = 0.0f;

    for (int first = 0; first < n; first += CHUNK) {
        __syncthreads();
        chunk_exp(x, n, first, max, e);
        __syncthreads();
        if (thread < lanes && n >= lanes)
            acc = lane_add(acc, e, chunk_of(n, first), thread, lanes, first == 0);
    }
    if (thread < WARP) {
        const float sum = n < lanes ? sum_in_order(e, n) : lanes_sum(acc, lanes);

        if (thread == 0)
            inverse = __fdiv_rn(1.0f, sum);
    }
    __syncthreads();
    return inverse;
}

static __global__ void softmax_kernel(struct softmax s)
{
    __shared__ float e[CHUNK];
    const bf16 *x = row_at(s.x, blockIdx.x);
    bf16 *y = row_at(s.y, blockIdx.x);
    const float max = block_max(x, s.width);
    const float inverse = block_inverse(x, s.width, s.lanes, max, e);

    for (int i = (int)threadIdx.x; i < s.width; i += (int)blockDim.x)
        y[i] = bf16_from_f32(__fmul_rn(s.width > CHUNK ? exp_of(x[i], max) : e[i], inverse));
}

int cuda_softmax(const struct op_call *call)
{
    const int width = (int)rows_width(call->out);
    const struct softmax s = {rows_of(call->in[0]), rows_of(call->out), width,
                              call->backend->numerics->lanes};
    const unsigned warps = blocks_for(width, WARP * 2), most = THREADS_MOST / WARP;

    if (tensor_count(call->out) == 0)
        return 0;
    LAUNCH(softmax_kernel, dim3(rows_count(call->out)), dim3(WARP * (warps < most ? warps : most)),
           0, cuda_of(call)->stream, s);
    return cuda_launched();
}
