/* softmax.cu - rows of scores to weights, by one warp or one block a row.
 *
 * WARP      lane l of `lanes` has elements l, l + lanes, ...: e is rounded, then added to the lane's
 *           sum, from 0; lanes: butterfly, lanes / 2 .. 1
 * a block   of 1024 threads: fma of expf's last two factors and the thread's sum, from 0, over
 *   REGISTER  elements t, t + 1024, ...
 *   SHARED    the four of vector t, then of t + 1024, ...
 *   GENERIC   shift = elements of the row's first 16 bytes that belong to the row before it.  If
 *             not 0: element t - shift, for t >= shift, and the rest begins 1024 - shift elements
 *             on.  Then SHARED over whole 4096s, then REGISTER over what is left
 *           lanes of a warp: shuffle down, 16 .. 1; the 32 sums of warps likewise
 * Every element's exp is computed twice, for the sum and for the quotient: its bits are the same. */
#include "kernels/cuda/aten/aten.cuh"

#include <float.h>

enum { BLOCK = 1024, WARP = 32, VECTOR = 4 };

static __device__ float larger(float a, float b)
{
    return a > b ? a : b;
}

static __device__ float exp_of(bf16 x, float max)
{
    return DEVICE_EXP(__fsub_rn(bf16_to_f32(x), max));
}

/* ---- a warp a row ---- */

/* length 0: nothing but the shuffles, which all lanes of a warp take part in. */
static __device__ void softmax_warp_row(const bf16 *x, bf16 *y, int length)
{
    const int lane = (int)threadIdx.x, lanes = (int)blockDim.x;
    float max = -INFINITY, sum = 0.0f;

    for (int i = lane; i < length; i += lanes)
        max = larger(max, bf16_to_f32(x[i]));
    for (int offset = lanes / 2; offset > 0; offset /= 2)
        max = larger(max, __shfl_xor_sync(0xffffffffu, max, offset, lanes));
    for (int i = lane; i < length; i += lanes)
        sum = __fadd_rn(sum, exp_of(x[i], max));
    for (int offset = lanes / 2; offset > 0; offset /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, offset, lanes));
    for (int i = lane; i < length; i += lanes)
        y[i] = bf16_from_f32(__fdiv_rn(exp_of(x[i], max), sum));
}

static __global__ void softmax_warp_kernel(const bf16 *x, bf16 *y, int64_t rows, int length,
                                           int rows_per_warp)
{
    const int64_t first = ((int64_t)blockIdx.x * blockDim.y + threadIdx.y) * rows_per_warp;

    for (int64_t row = first; row < first + rows_per_warp; row++)
        softmax_warp_row(x + row * length, y + row * length, row < rows ? length : 0);
}

/* ---- a block a row ---- */

/* How the elements of a row are dealt to the threads. */
struct deal {
    int shift;   /* 0: none apart */
    int vectors; /* end of those that are dealt in fours, from the shifted start on */
    int length;  /* end of all, likewise */
};

static __device__ struct deal deal_of(enum softmax_kind kind, int64_t row, int length)
{
    struct deal deal = {0, 0, length};

    if (kind == SOFTMAX_SHARED)
        deal.vectors = length;
    if (kind == SOFTMAX_GENERIC) {
        deal.shift = (int)(row * length % VECTOR);
        if (deal.shift)
            deal.length -= BLOCK - deal.shift;
        deal.vectors = deal.length - deal.length % (VECTOR * BLOCK);
    }
    return deal;
}

static __device__ float thread_max(const bf16 *x, int length)
{
    float max = -FLT_MAX;

    for (int i = (int)threadIdx.x; i < length; i += BLOCK)
        max = larger(max, bf16_to_f32(x[i]));
    return max;
}

/* nvcc contracts expf's last product into these sums, as in PyTorch's build. */
static __device__ float thread_sum(const bf16 *x, const struct deal *deal, float max)
{
    const int t = (int)threadIdx.x;
    float sum = 0.0f;

    if (deal->shift) {
        if (t >= deal->shift)
            sum = sum + exp_of(x[t - deal->shift], max);
        x += BLOCK - deal->shift;
    }
    for (int v = t; v * VECTOR < deal->vectors; v += BLOCK)
        for (int i = 0; i < VECTOR; i++)
            sum = sum + exp_of(x[v * VECTOR + i], max);
    for (int i = deal->vectors + t; i < deal->length; i += BLOCK)
        sum = sum + exp_of(x[i], max);
    return sum;
}

/* The sum of the block's values (or their largest), in every thread. */
static __device__ float block_sum(float value, float *shared)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;

    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value = __fadd_rn(value, __shfl_down_sync(0xffffffffu, value, offset));
    if (lane == 0)
        shared[warp] = value;
    __syncthreads();
    value = shared[lane];
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value = __fadd_rn(value, __shfl_down_sync(0xffffffffu, value, offset));
    return __shfl_sync(0xffffffffu, value, 0);
}

static __device__ float block_max(float value, float *shared)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;

    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value = larger(value, __shfl_xor_sync(0xffffffffu, value, offset));
    if (lane == 0)
        shared[warp] = value;
    __syncthreads();
    value = shared[lane];
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value = larger(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

static __global__ void softmax_block_kernel(const bf16 *in, bf16 *out, int length,
                                            enum softmax_kind kind)
{
    __shared__ float maxima[WARP], sums[WARP];
    const int64_t row = blockIdx.x;
    const struct deal deal = deal_of(kind, row, length);
    const bf16 *x = in + row * length;
    const float max = block_max(thread_max(x, length), maxima);
    const float sum = block_sum(thread_sum(x, &deal, max), sums);

    for (int i = (int)threadIdx.x; i < length; i += BLOCK)
        out[row * length + i] = bf16_from_f32(__fdiv_rn(exp_of(x[i], max), sum));
}

int aten_softmax(const struct op_call *call)
{
    const struct tensor *x = call->in[0];
    const int64_t length = x->shape[x->rank - 1], rows = length ? tensor_count(x) / length : 0;
    const struct softmax_launch plan = softmax_plan(length);
    const bf16 *in = (const bf16 *)x->data;
    bf16 *out = (bf16 *)call->out->data;

    if (!rows)
        return 0;
    if (length > INT32_MAX / 2 || rows > INT32_MAX || !tensor_is_contiguous(x) ||
        !tensor_is_contiguous(call->out) ||
        (plan.kind == SOFTMAX_GENERIC && aten_batch(call) > 1 && rows * length % VECTOR))
        return -1;
    if (plan.kind == SOFTMAX_WARP)
        LAUNCH(softmax_warp_kernel, dim3(aten_blocks(rows, plan.rows_per_block)),
               dim3((unsigned)plan.block_x, (unsigned)plan.block_y), 0, cuda_of(call)->stream, in,
               out, rows, (int)length, plan.rows_per_warp);
    else
        LAUNCH(softmax_block_kernel, dim3((unsigned)rows), dim3(BLOCK), 0, cuda_of(call)->stream,
               in, out, (int)length, plan.kind);
    return cuda_launched();
}
