/* softmax.cu - rows of scores to weights, by one warp or one block a row.
 *
 * Every element's exp is computed twice, for the sum (softmax_row.cuh) and for the quotient, with the
 * same bits. */
#include "kernels/cuda/aten/aten.cuh"

#include "kernels/cuda/aten/softmax_row.cuh"

static __device__ void softmax_warp_row(const bf16 *x, bf16 *y, int length)
{
    const float max = softmax_warp_max(x, length), sum = softmax_warp_sum(x, length, max);

    for (int i = (int)threadIdx.x; i < length; i += (int)blockDim.x)
        y[i] = bf16_from_f32(__fdiv_rn(softmax_exp(x[i], max), sum));
}

static __global__ void softmax_warp_kernel(const bf16 *x, bf16 *y, int64_t rows, int length,
                                           int rows_per_warp)
{
    const int64_t first = ((int64_t)blockIdx.x * blockDim.y + threadIdx.y) * rows_per_warp;

    for (int64_t row = first; row < first + rows_per_warp; row++)
        softmax_warp_row(x + row * length, y + row * length, row < rows ? length : 0);
}

static __global__ void softmax_block_kernel(const bf16 *in, bf16 *out, int length,
                                            enum softmax_kind kind)
{
    __shared__ float maxima[SOFTMAX_LANES], sums[SOFTMAX_LANES];
    const int64_t row = blockIdx.x;
    const struct softmax_deal deal = softmax_deal_of(kind, row, length);
    const bf16 *x = in + row * length;
    const float max = softmax_block_max(softmax_thread_max(x, length), maxima);
    const float sum = softmax_block_sum(softmax_thread_sum(x, &deal, max), sums);

    for (int i = (int)threadIdx.x; i < length; i += SOFTMAX_BLOCK)
        out[row * length + i] = bf16_from_f32(__fdiv_rn(softmax_exp(x[i], max), sum));
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
        (plan.kind == SOFTMAX_GENERIC && aten_batch(call) > 1 && rows * length % SOFTMAX_VECTOR))
        return -1;
    if (plan.kind == SOFTMAX_WARP)
        LAUNCH(softmax_warp_kernel, dim3(aten_blocks(rows, plan.rows_per_block)),
               dim3((unsigned)plan.block_x, (unsigned)plan.block_y), 0, cuda_of(call)->stream, in,
               out, rows, (int)length, plan.rows_per_warp);
    else
        LAUNCH(softmax_block_kernel, dim3((unsigned)rows), dim3(SOFTMAX_BLOCK), 0,
               cuda_of(call)->stream, in, out, (int)length, plan.kind);
    return cuda_launched();
}
