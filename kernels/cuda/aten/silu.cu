/* silu.cu - x * sigmoid(x), as ATen's kernel spells it. */
#include "kernels/cuda/aten/aten.cuh"

enum { THREADS = 256 };

static __global__ void silu_kernel(const bf16 *x, bf16 *y, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n) {
        const float value = bf16_to_f32(x[i]);

        /* nvcc contracts the 1 into expf's last product, as in PyTorch's build. */
        y[i] = bf16_from_f32(__fdiv_rn(value, 1.0f + expf(-value)));
    }
}

int aten_silu(const struct op_call *call)
{
    const int64_t n = tensor_count(call->out);

    if (n)
        LAUNCH(silu_kernel, dim3(aten_blocks(n, THREADS)), dim3(THREADS), 0, cuda_of(call)->stream,
               (const bf16 *)call->in[0]->data, (bf16 *)call->out->data, n);
    return cuda_launched();
}
