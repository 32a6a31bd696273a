/* tensor.c - see tensor.h. */
#include "kernels/tensor.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [DTYPE_BF16] = {"BF16", 2},
    [DTYPE_F16] = {"F16", 2},
    [DTYPE_F32] = {"F32", 4},
    [DTYPE_I64] = {"I64", 8},
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

struct tensor tensor_make(enum dtype dtype, int rank, const int64_t *shape, void *data)
{
    struct tensor t = {.dtype = dtype, .rank = rank, .data = data};
    int64_t stride = 1;

    for (int i = rank - 1; i >= 0; i--) {
        t.shape[i] = shape[i];
        t.stride[i] = stride;
        stride *= shape[i];
    }
    return t;
}

int64_t tensor_count(const struct tensor *t)
{
    int64_t n = 1;

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
        stride *= t->shape[i];
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
