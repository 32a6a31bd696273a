/* activations.cu - x * sigmoid(x) and gelu with tanh, as ATen's kernels spell them. */
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

static __global__ void tanh_kernel(const bf16 *x, bf16 *y, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n)
        y[i] = bf16_from_f32(tanhf(bf16_to_f32(x[i])));
}

/* ATen multiplies by the inverse of a divisor that is a number: BinaryDivTrueKernel.cu. */
static __global__ void divide_kernel(const bf16 *x, float inverse, bf16 *y, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n)
        y[i] = bf16_from_f32(__fmul_rn(bf16_to_f32(x[i]), inverse));
}

static __global__ void gelu_tanh_kernel(const bf16 *x, bf16 *y, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n) {
        const float value = bf16_to_f32(x[i]), cube = __fmul_rn(__fmul_rn(value, value), value);
        /* nvcc contracts both sums into the products beside them, as in PyTorch's build. */
        const float inner = __fmul_rn(0.797884583f, fmaf(0.044715f, cube, value));

        y[i] = bf16_from_f32(__fmul_rn(__fmul_rn(0.5f, value), 1.0f + tanhf(inner)));
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

int aten_tanh(const struct op_call *call)
{
    const int64_t n = tensor_count(call->out);

    if (n)
        LAUNCH(tanh_kernel, dim3(aten_blocks(n, THREADS)), dim3(THREADS), 0, cuda_of(call)->stream,
               (const bf16 *)call->in[0]->data, (bf16 *)call->out->data, n);
    return cuda_launched();
}

int aten_divide(const struct op_call *call)
{
    const int64_t n = tensor_count(call->out);

    if (n)
        LAUNCH(divide_kernel, dim3(aten_blocks(n, THREADS)), dim3(THREADS), 0,
               cuda_of(call)->stream, (const bf16 *)call->in[0]->data,
               1.0f / (float)call->attrs->by, (bf16 *)call->out->data, n);
    return cuda_launched();
}

int aten_gelu_tanh(const struct op_call *call)
{
    const int64_t n = tensor_count(call->out);

    if (n)
        LAUNCH(gelu_tanh_kernel, dim3(aten_blocks(n, THREADS)), dim3(THREADS), 0,
               cuda_of(call)->stream, (const bf16 *)call->in[0]->data, (bf16 *)call->out->data, n);
    return cuda_launched();
}
