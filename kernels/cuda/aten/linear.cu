/* linear.cu - activations times a weight, by cuBLAS. */
#include "kernels/cuda/aten/aten.cuh"

#include "kernels/cuda/aten/copies.h"

/* y[M, N] = x[M, K] w[N, K]^T, the M rows those of PyTorch's call. */
struct linear {
    int64_t rows, M, N, K; /* rows: that this call is asked for */
    int64_t first;         /* its place among M */
};

static struct linear linear_of(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *w = &call->weight->plain;
    struct linear l = {0, 0, w->shape[0], w->shape[1], 0};
    const int64_t tokens = call->scope.tokens, inner = tensor_count(x) / l.K / x->shape[0];

    l.rows = x->shape[0] * inner;
    l.M = aten_batch(call) * tokens * inner;
    l.first = call->scope.row * inner;
    return l;
}

struct copies linear_copies(const struct op_call *call)
{
    const struct linear l = linear_of(call);
    struct copies copies = {0, 0, 0};

    if (l.rows != l.M) {
        copies.b = (size_t)(l.M * l.K) * sizeof(bf16);
        copies.c = (size_t)(l.M * l.N) * sizeof(bf16);
    }
    return copies;
}

static int linear_gemm(const struct op_call *call, const struct linear *l, const bf16 *x, bf16 *y)
{
    const struct gemm gemm = {
        1, 0, (int)l->N, (int)l->M, (int)l->K, (const bf16 *)call->weight->plain.data,
        x, y, (int)l->K, (int)l->K, (int)l->N, 0,
        0, 0, 1};

    if (!call->bias)
        return blas_gemm(cuda_of(call)->blas, &gemm);
    return blas_linear_bias(cuda_of(call)->blas, &gemm, (const bf16 *)call->bias->plain.data);
}

static int copy(const struct op_call *call, bf16 *to, const bf16 *from, int64_t elements)
{
    return cudaMemcpyAsync(to, from, (size_t)elements * sizeof(bf16), cudaMemcpyDeviceToDevice,
                           cuda_of(call)->stream) == cudaSuccess
               ? 0
               : -1;
}

/* Computes some rows of PyTorch's call.  The product has all of its rows, since its order depends on
 * their number, but only the wanted ones are set and read; the others hold whatever was in memory. */
static int linear_part(const struct op_call *call, const struct linear *l)
{
    const struct copies copies = linear_copies(call);
    void *scratch = blas_scratch(cuda_of(call)->blas, copies_end(&copies));
    bf16 *x = (bf16 *)copies_b(&copies, scratch), *y = (bf16 *)copies_c(&copies, scratch);

    if (!scratch ||
        copy(call, x + l->first * l->K, (const bf16 *)call->in[0]->data, l->rows * l->K) ||
        linear_gemm(call, l, x, y))
        return -1;
    return copy(call, (bf16 *)call->out->data, y + l->first * l->N, l->rows * l->N);
}

int aten_linear(const struct op_call *call)
{
    struct linear l;
    int status;

    if (!tensor_count(call->out))
        return 0;
    l = linear_of(call);
    if (!tensor_is_contiguous(call->in[0]) || !tensor_is_contiguous(call->out) ||
        (call->bias && (l.N < 2 || l.K < 2)) || l.M > INT32_MAX || l.N > INT32_MAX ||
        l.K > INT32_MAX)
        return -1;
    blas_lock(cuda_of(call)->blas);
    status = l.rows == l.M
                 ? linear_gemm(call, &l, (const bf16 *)call->in[0]->data, (bf16 *)call->out->data)
                 : linear_part(call, &l);
    blas_unlock(cuda_of(call)->blas);
    return status ? status : cuda_launched();
}
