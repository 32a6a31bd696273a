/* backend_cuda.cu - the CUDA backend: which version of each operation runs, memory and copies. */
#include "kernels/cuda/cuda_state.cuh"
#include "kernels/cuda/linear.cuh"

#include <stdlib.h>
#include <string.h>

static op_fn *const ops[OP_COUNT] = {
#define OP(name, least, most, mirror) cuda_##name,
#include "kernels/ops.def"
};

static void *cuda_alloc(struct backend *b, size_t bytes)
{
    const struct cuda *cuda = (const struct cuda *)b->state;
    void *ptr;

    if (cudaMalloc(&ptr, bytes ? bytes : 1) != cudaSuccess)
        return NULL;
    cudaMemsetAsync(ptr, 0, bytes, cuda->stream);
    return ptr;
}

static void cuda_free(struct backend *b, void *ptr)
{
    (void)b;
    cudaFree(ptr);
}

static int cuda_copy(struct backend *b, const struct tensor *dst, const struct tensor *src)
{
    const struct cuda *cuda = (const struct cuda *)b->state;

    /* contiguous only, so far */
    return cudaMemcpyAsync(dst->data, src->data, (size_t)tensor_count(dst) * dtype_size(dst->dtype),
                           cudaMemcpyDefault, cuda->stream)
               ? -1
               : 0;
}

static int cuda_read(struct backend *b, void *host, const struct tensor *src)
{
    const struct cuda *cuda = (const struct cuda *)b->state;
    const struct tensor dst = tensor_make(src->dtype, src->rank, src->shape, host);

    return cuda_copy(b, &dst, src) || cudaStreamSynchronize(cuda->stream) ? -1 : 0;
}

static int cuda_weight_open(struct backend *b, enum op op, const struct tensor *plain,
                            struct weight *out, struct error *err)
{
    *out = weight{*plain, NULL};
    out->plain.data = cuda_alloc(b, (size_t)tensor_count(plain) * dtype_size(plain->dtype));
    if (!out->plain.data)
        return error_set(err, 500, "no memory on %s for a weight", b->device);
    if (cuda_copy(b, &out->plain, plain))
        return error_set(err, 500, "no copy to %s of a weight", b->device);
    if (op != OP_linear || plain->rank != 2)
        return 0;
    out->packed = cuda_alloc(b, cuda_pack_linear_bytes(plain));
    if (!out->packed || cuda_pack_linear((const struct cuda *)b->state, &out->plain, out->packed))
        return error_set(err, 500, "no memory on %s for a packed weight", b->device);
    return 0;
}

static void cuda_weight_close(struct backend *b, struct weight *w)
{
    cuda_free(b, w->plain.data);
    cuda_free(b, w->packed);
    w->plain.data = w->packed = NULL;
}

struct backend *backend_cuda_open(const char *device, enum numerics numerics, struct error *err)
{
    struct backend *b = (struct backend *)calloc(1, sizeof(*b));
    struct cuda *cuda = (struct cuda *)calloc(1, sizeof(*cuda));

    if (!b || !cuda || cudaStreamCreate(&cuda->stream) != cudaSuccess) {
        error_set(err, 500, "no memory for a backend");
        free(b);
        free(cuda);
        return NULL;
    }
    b->device = strdup(device);
    b->numerics = numerics;
    b->isa = "cuda";
    b->threads = 1;
    b->alloc = cuda_alloc;
    b->free = cuda_free;
    b->copy = cuda_copy;
    b->read = cuda_read;
    b->weight_open = cuda_weight_open;
    b->weight_close = cuda_weight_close;
    b->state = cuda;
    memcpy(b->op, ops, sizeof(ops));
    return b;
}

void backend_cuda_close(struct backend *b)
{
    struct cuda *cuda = (struct cuda *)b->state;

    cudaStreamDestroy(cuda->stream);
    free((void *)b->device);
    free(cuda);
    free(b);
}
