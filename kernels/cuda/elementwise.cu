/* elementwise.cu - operations that treat every element alike. */
#include "kernels/cuda/cuda_state.cuh"

enum { THREADS = 256 };

static __global__ void add_kernel(const bf16 *a, const bf16 *b, bf16 *y, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n)
        y[i] = bf16_from_f32(__fadd_rn(bf16_to_f32(a[i]), bf16_to_f32(b[i])));
}

int cuda_add(const struct op_call *call)
{
    const int64_t n = tensor_count(call->out);

    LAUNCH(add_kernel, dim3((unsigned)((n + THREADS - 1) / THREADS)), dim3(THREADS), 0,
           cuda_of(call)->stream, (const bf16 *)call->in[0]->data, (const bf16 *)call->in[1]->data,
           (bf16 *)call->out->data, n);
    return cuda_launched();
}
