/* aten_probe.cu - see aten_probe.h. */
#include "tests/kernels/aten_probe.h"

#include "kernels/cuda/aten/aten.cuh"

#include "kernels/cuda/aten/softmax_row.cuh"

static __global__ void warp_sums_kernel(const bf16 *x, float *sums, int64_t rows, int length,
                                        int rows_per_warp)
{
    const int64_t first = ((int64_t)blockIdx.x * blockDim.y + threadIdx.y) * rows_per_warp;

    for (int64_t row = first; row < first + rows_per_warp; row++) {
        const int n = row < rows ? length : 0;
        const float max = softmax_warp_max(x + row * length, n);
        const float sum = softmax_warp_sum(x + row * length, n, max);

        if (threadIdx.x == 0 && n)
            sums[row] = sum;
    }
}

static __global__ void block_sums_kernel(const bf16 *in, float *out, int length,
                                         enum softmax_kind kind)
{
    __shared__ float maxima[SOFTMAX_LANES], sums[SOFTMAX_LANES];
    const int64_t row = blockIdx.x;
    const struct softmax_deal deal = softmax_deal_of(kind, row, length);
    const bf16 *x = in + row * length;
    const float max = softmax_block_max(softmax_thread_max(x, length), maxima);
    const float sum = softmax_block_sum(softmax_thread_sum(x, &deal, max), sums);

    if (threadIdx.x == SOFTMAX_BLOCK - 1)
        out[row] = sum;
}

static void launch(const struct cuda *cuda, const bf16 *x, float *sums, int64_t rows, int length)
{
    const struct softmax_launch plan = softmax_plan(length);

    (void)cuda;
    if (plan.kind == SOFTMAX_WARP)
        LAUNCH(warp_sums_kernel, dim3(aten_blocks(rows, plan.rows_per_block)),
               dim3((unsigned)plan.block_x, (unsigned)plan.block_y), 0, cuda->stream, x, sums, rows,
               length, plan.rows_per_warp);
    else
        LAUNCH(block_sums_kernel, dim3((unsigned)rows), dim3(SOFTMAX_BLOCK), 0, cuda->stream, x,
               sums, length, plan.kind);
}

int aten_probe_sums(struct backend *b, const bf16 *x, int64_t rows, int64_t length, float *sums)
{
    const int64_t shape[] = {rows, length};
    const struct tensor host = tensor_make(DTYPE_BF16, 2, shape, (void *)x);
    struct tensor in = host, out = tensor_make(DTYPE_F32, 1, shape, NULL);
    int status;

    in.data = b->alloc(b, tensor_bytes(&in));
    out.data = b->alloc(b, tensor_bytes(&out));
    status = in.data && out.data ? b->copy(b, &in, &host) : -1;
    if (!status) {
        launch((const struct cuda *)b->state, (const bf16 *)in.data, (float *)out.data, rows,
               (int)length);
        status = cuda_launched() || b->read(b, sums, &out);
    }
    b->free(b, in.data);
    b->free(b, out.data);
    return status ? -1 : 0;
}
