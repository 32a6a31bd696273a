/* rows.cuh - where the rows of a bf16 tensor lie, in a form to pass to a kernel; loads and stores of
 * eight elements. */
#ifndef SAMEBIT_CUDA_ROWS_CUH
#define SAMEBIT_CUDA_ROWS_CUH

#include "kernels/cuda/cuda_state.cuh"

enum { ROWS_AXES = TENSOR_MAX_RANK - 1, VECTOR = 8 /* bf16 in 128 bits */, WARP = 32 };

#define WHOLE_WARP 0xffffffffu

/* Rows are counted over all axes but the last, which is contiguous.  Fewer than 2^32 of them. */
struct rows {
    bf16 *data;
    uint32_t extent[ROWS_AXES]; /* 1 where the tensor has fewer axes */
    int64_t stride[ROWS_AXES];  /* in elements */
};

static inline struct rows rows_of(const struct tensor *t)
{
    struct rows r = {(bf16 *)t->data, {1, 1, 1}, {0, 0, 0}};

    for (int i = 0; i < t->rank - 1; i++) {
        r.extent[ROWS_AXES - (t->rank - 1) + i] = (uint32_t)t->shape[i];
        r.stride[ROWS_AXES - (t->rank - 1) + i] = t->stride[i];
    }
    return r;
}

static inline uint32_t rows_count(const struct tensor *t)
{
    uint32_t count = 1;

    for (int i = 0; i < t->rank - 1; i++)
        count *= (uint32_t)t->shape[i];
    return count;
}

static inline int64_t rows_width(const struct tensor *t)
{
    return t->rank ? t->shape[t->rank - 1] : 1;
}

static __forceinline__ __device__ bf16 *row_at(const struct rows &r, uint32_t row)
{
    const uint32_t outer = row / r.extent[2];

    return r.data + row % r.extent[2] * r.stride[2] + outer % r.extent[1] * r.stride[1] +
           outer / r.extent[1] * r.stride[0];
}

static inline unsigned blocks_for(int64_t work, int64_t per_block)
{
    return (unsigned)((work + per_block - 1) / per_block);
}

static inline __host__ __device__ bool is_aligned(const void *p, uintptr_t bytes)
{
    return (uintptr_t)p % bytes == 0;
}

/* ---- eight elements: element 2 i in the low half of word i ---- */

union vector {
    uint4 whole;
    uint32_t pair[VECTOR / 2];
};

static __forceinline__ __device__ bf16 vector_get(const union vector &v, int i)
{
    return (bf16)(v.pair[i / 2] >> (i % 2 * 16));
}

static __forceinline__ __device__ void vector_set(union vector *v, int i, bf16 b)
{
    if (i % 2)
        v->pair[i / 2] |= (uint32_t)b << 16;
    else
        v->pair[i / 2] = b;
}

#endif
