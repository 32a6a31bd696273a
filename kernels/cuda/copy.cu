/* copy.cu - see copy.cuh. */
#include "kernels/cuda/copy.cuh"

#include "kernels/cuda/staging.cuh"

enum { THREADS = 256, AXES = TENSOR_MAX_RANK - 1 };

/* ---- to the device ---- */

/* Sends n neighbouring elements to the device, rounded to bf16 where the dtypes differ. */
static int upload(const struct cuda *cuda, enum dtype to_dtype, char *to, enum dtype from_dtype,
                  const char *from, int64_t n)
{
    const int64_t to_size = (int64_t)dtype_size(to_dtype);
    const int64_t from_size = (int64_t)dtype_size(from_dtype), most = STAGING_BYTES / to_size;

    for (int64_t i = 0; i < n; i += most) {
        const int64_t count = n - i < most ? n - i : most;
        void *piece = staging_take(cuda->staging);

        if (!piece)
            return -1;
        tensor_convert(to_dtype, piece, from_dtype, from + i * from_size, count);
        if (staging_send(cuda->staging, to + i * to_size, (size_t)(count * to_size)))
            return -1;
    }
    return 0;
}

int cuda_copy(struct backend *b, const struct tensor *dst, const struct tensor *src)
{
    const struct cuda *cuda = (const struct cuda *)b->state;
    const int64_t all = tensor_count(dst), to = tensor_piece(dst), from = tensor_piece(src);
    const int64_t piece = to < from ? to : from;
    const int64_t to_size = (int64_t)dtype_size(dst->dtype);
    const int64_t from_size = (int64_t)dtype_size(src->dtype);

    if (!tensor_can_copy(dst, src) || cuda_enter(cuda))
        return -1;
    for (int64_t i = 0; i < all; i += piece)
        if (upload(cuda, dst->dtype, (char *)dst->data + tensor_offset(dst, i) * to_size,
                   src->dtype, (const char *)src->data + tensor_offset(src, i) * from_size, piece))
            return -1;
    return 0;
}

/* ---- from the device ---- */

int cuda_read(struct backend *b, void *host, const struct tensor *src)
{
    const struct cuda *cuda = (const struct cuda *)b->state;
    const int64_t all = tensor_count(src), piece = tensor_piece(src);
    const int64_t size = (int64_t)dtype_size(src->dtype);

    if (cuda_enter(cuda))
        return -1;
    for (int64_t i = 0; i < all; i += piece)
        if (cuda_check(cudaMemcpyAsync(
                (char *)host + i * size, (const char *)src->data + tensor_offset(src, i) * size,
                (size_t)(piece * size), cudaMemcpyDeviceToHost, cuda->stream)))
            return -1;
    return cuda_check(cudaStreamSynchronize(cuda->stream));
}

/* ---- on the device ---- */

/* A tensor as pieces of `piece` contiguous units: the strides between pieces along every axis (an
 * axis that lies within a piece has extent 1). */
struct pieces {
    uint32_t piece, extent[AXES];
    int64_t stride[AXES]; /* in units */
};

template <typename unit>
static __global__ void gather_kernel(const unit *from, unit *to, struct pieces p, uint32_t count)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;

    if (i < count) {
        const uint32_t at = i / p.piece, outer = at / p.extent[2];

        to[i] = from[i % p.piece + at % p.extent[2] * p.stride[2] +
                     outer % p.extent[1] * p.stride[1] + outer / p.extent[1] * p.stride[0]];
    }
}

/* unit_size: in bytes; divides every piece and stride. */
static struct pieces pieces_of(const struct tensor *t, int64_t unit_size)
{
    const int64_t size = (int64_t)dtype_size(t->dtype), piece = tensor_piece(t);
    struct pieces p = {(uint32_t)(piece * size / unit_size), {1, 1, 1}, {0, 0, 0}};
    int64_t inner = 1;

    for (int axis = t->rank - 1, slot = AXES; axis >= 0; axis--) {
        inner *= t->shape[axis];
        if (inner > piece) {
            p.extent[--slot] = (uint32_t)t->shape[axis];
            p.stride[slot] = t->stride[axis] * size / unit_size;
        }
    }
    return p;
}

static int in_vectors(const struct tensor *t)
{
    const int64_t vector = 16 / (int64_t)dtype_size(t->dtype), piece = tensor_piece(t);
    int fits = (uintptr_t)t->data % 16 == 0 && piece % vector == 0;
    int64_t inner = 1;

    for (int axis = t->rank - 1; axis >= 0; axis--) {
        inner *= t->shape[axis];
        fits = fits && (inner <= piece || t->stride[axis] % vector == 0);
    }
    return fits;
}

template <typename unit>
static int gather(const struct cuda *cuda, void *to, const struct tensor *src)
{
    const uint32_t count = (uint32_t)(tensor_bytes(src) / sizeof(unit));

    LAUNCH(gather_kernel<unit>, dim3((count + THREADS - 1) / THREADS), dim3(THREADS), 0,
           cuda->stream, (const unit *)src->data, (unit *)to, pieces_of(src, sizeof(unit)), count);
    return cuda_launched();
}

int cuda_gather(const struct cuda *cuda, void *to, const struct tensor *src)
{
    if (tensor_count(src) == 0)
        return 0;
    return in_vectors(src) ? gather<uint4>(cuda, to, src) : gather<uint16_t>(cuda, to, src);
}
