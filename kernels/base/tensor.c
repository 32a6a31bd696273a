/* tensor.c - see tensor.h. */
#include "kernels/base/tensor.h"

#include <stdio.h>
#include <string.h>

#include "kernels/base/bf16.h"
#include "kernels/base/float16.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [DTYPE_BF16] = {"BF16", 2}, [DTYPE_F16] = {"F16", 2}, [DTYPE_F32] = {"F32", 4},
    [DTYPE_I64] = {"I64", 8},   [DTYPE_F64] = {"F64", 8},
};

size_t dtype_size(enum dtype dtype)
{
    return dtypes[dtype].size;
}

const char *dtype_name(enum dtype dtype)
{
    return dtypes[dtype].name;
}

int dtype_parse(const char *name, enum dtype *dtype)
{
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            *dtype = (enum dtype)i;
            return 0;
        }
    return -1;
}

/* Only a tensor without elements has extents whose product does not fit: [0, 2^62, 2^62].  Nothing
 * is read by its strides. */
static int64_t stride_times(int64_t stride, int64_t extent)
{
    int64_t product;

    return __builtin_mul_overflow(stride, extent, &product) ? 0 : product;
}

struct tensor tensor_make(enum dtype dtype, int rank, const int64_t *shape, void *data)
{
    struct tensor t = {.dtype = dtype, .rank = rank, .data = data};
    int64_t stride = 1;

    for (int i = rank - 1; i >= 0; i--) {
        t.shape[i] = shape[i];
        t.stride[i] = stride;
        stride = stride_times(stride, shape[i]);
    }
    return t;
}

int64_t tensor_count(const struct tensor *t)
{
    int64_t n = 1;

    for (int i = 0; i < t->rank; i++)
        if (!t->shape[i])
            return 0;
    for (int i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

size_t tensor_bytes(const struct tensor *t)
{
    return (size_t)tensor_count(t) * dtype_size(t->dtype);
}

int tensor_is_contiguous(const struct tensor *t)
{
    int64_t stride = 1;

    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != stride)
            return 0;
        stride = stride_times(stride, t->shape[i]);
    }
    return 1;
}

struct tensor tensor_slice(const struct tensor *t, int axis, int64_t first, int64_t count)
{
    struct tensor s = *t;

    s.shape[axis] = count;
    s.data = (char *)t->data + (size_t)(first * t->stride[axis]) * dtype_size(t->dtype);
    return s;
}

int64_t tensor_piece(const struct tensor *t)
{
    int64_t n = 1;

    for (int i = t->rank - 1; i >= 0 && (t->shape[i] == 1 || t->stride[i] == n); i--)
        n = stride_times(n, t->shape[i]);
    return n;
}

int64_t tensor_offset(const struct tensor *t, int64_t i)
{
    int64_t offset = 0;

    for (int axis = t->rank - 1; axis >= 0; axis--) {
        offset += i % t->shape[axis] * t->stride[axis];
        i /= t->shape[axis];
    }
    return offset;
}

int tensor_can_copy(const struct tensor *dst, const struct tensor *src)
{
    const int rounds =
        (dst->dtype == DTYPE_BF16 || dst->dtype == DTYPE_F64) && src->dtype != DTYPE_I64;

    if (dst->rank != src->rank || (dst->dtype != src->dtype && !rounds))
        return 0;
    for (int i = 0; i < dst->rank; i++)
        if (dst->shape[i] != src->shape[i])
            return 0;
    return 1;
}

/* Widened, which is exact. */
static double element(enum dtype dtype, const char *from, int64_t i)
{
    uint16_t half;
    float f;
    double d;

    if (dtype == DTYPE_F64) {
        memcpy(&d, from + i * 8, sizeof(d));
        return d;
    }
    if (dtype == DTYPE_F32) {
        memcpy(&f, from + i * 4, sizeof(f));
        return (double)f;
    }
    memcpy(&half, from + i * 2, sizeof(half));
    return (double)(dtype == DTYPE_BF16 ? bf16_to_f32(half) : f32_from_f16(half));
}

void tensor_convert(enum dtype to_dtype, void *to, enum dtype from_dtype, const void *from,
                    int64_t n)
{
    if (to_dtype == from_dtype)
        memcpy(to, from, (size_t)n * dtype_size(to_dtype));
    else if (to_dtype == DTYPE_F64)
        for (int64_t i = 0; i < n; i++)
            ((double *)to)[i] = element(from_dtype, from, i);
    else if (from_dtype == DTYPE_F64)
        for (int64_t i = 0; i < n; i++)
            ((bf16 *)to)[i] = bf16_from_f64(element(from_dtype, from, i));
    else
        for (int64_t i = 0; i < n; i++)
            ((bf16 *)to)[i] = bf16_from_f32((float)element(from_dtype, from, i));
}

char *tensor_shape_text(const struct tensor *t, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "[");

    for (int i = 0; i < t->rank && at < size; i++)
        at +=
            (size_t)snprintf(out + at, size - at, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    if (at < size)
        snprintf(out + at, size - at, "]");
    return out;
}
