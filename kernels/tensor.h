/* tensor.h - a typed view of memory.  A tensor never owns its data. */
#ifndef SAMEBIT_TENSOR_H
#define SAMEBIT_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dtype { DTYPE_BF16, DTYPE_F16, DTYPE_F32, DTYPE_I64 };

enum { TENSOR_MAX_RANK = 4 };

struct tensor {
    enum dtype dtype;
    int rank; /* 0..TENSOR_MAX_RANK */
    int64_t shape[TENSOR_MAX_RANK];
    int64_t stride[TENSOR_MAX_RANK]; /* in elements; the last one is 1 */
    void *data;                      /* on the backend that made it */
};

size_t dtype_size(enum dtype dtype);
/* safetensors' spelling: "BF16", "F16", "F32", "I64". */
const char *dtype_name(enum dtype dtype);
/* Returns 0 and sets *dtype, or -1 when the name is none of ours. */
int dtype_parse(const char *name, enum dtype *dtype);

/* A row-major tensor over data. */
struct tensor tensor_make(enum dtype dtype, int rank, const int64_t *shape, void *data);
int64_t tensor_count(const struct tensor *t); /* number of elements */
size_t tensor_bytes(const struct tensor *t);  /* count x element size */
int tensor_is_contiguous(const struct tensor *t);
/* The part [first, first + count) along axis, as a view of the same data. */
struct tensor tensor_slice(const struct tensor *t, int axis, int64_t first, int64_t count);
/* "[2, 3]" into out; returns out. */
char *tensor_shape_text(const struct tensor *t, char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
