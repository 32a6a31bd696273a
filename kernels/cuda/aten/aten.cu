/* aten.cu - see aten.h: opening, closing, and the memory for copies. */
#include "kernels/cuda/aten/aten.cuh"

#include "kernels/cuda/aten/copies.h"

static struct cuda *cuda_of_backend(struct backend *b)
{
    return (struct cuda *)b->state;
}

int aten_open(struct backend *b, struct error *err)
{
    struct cuda *cuda = cuda_of_backend(b);

    cuda->blas = blas_open(cuda->stream, err);
    if (!cuda->blas || blas_reserve(cuda->blas, ATEN_SCRATCH_BYTES, err)) {
        aten_close(b);
        return -1;
    }
    b->op[OP_rms_norm] = aten_rms_norm;
    b->op[OP_layer_norm] = NULL;
    b->op[OP_softmax] = aten_softmax;
    b->op[OP_silu] = aten_silu;
    b->op[OP_tanh] = aten_tanh;
    b->op[OP_divide] = aten_divide;
    b->op[OP_gelu_tanh] = aten_gelu_tanh;
    b->op[OP_rotary] = aten_rotary;
    b->op[OP_linear] = aten_linear;
    b->op[OP_matmul_qk] = aten_matmul_qk;
    b->op[OP_matmul_pv] = aten_matmul_pv;
    b->op[OP_sdpa] = NULL;
    return 0;
}

void aten_close(struct backend *b)
{
    blas_close(cuda_of_backend(b)->blas);
    cuda_of_backend(b)->blas = NULL;
}

int aten_reserve(struct backend *b, size_t bytes, struct error *err)
{
    return blas_reserve(cuda_of_backend(b)->blas, bytes, err);
}

size_t aten_scratch_bytes(enum op op, const struct op_call *call)
{
    struct copies copies;

    switch (op) {
    case OP_linear:
        copies = linear_copies(call);
        break;
    case OP_matmul_qk:
        copies = matmul_qk_copies(call);
        break;
    case OP_matmul_pv:
        copies = matmul_pv_copies(call);
        break;
    default:
        return 0;
    }
    return copies_end(&copies);
}
