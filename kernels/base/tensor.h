/* tensor.h - a typed view of memory.  A tensor never owns its data. */
#ifndef SAMEBIT_TENSOR_H
#define SAMEBIT_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dtype { DTYPE_BF16, DTYPE_F16, DTYPE_F32, DTYPE_I64, DTYPE_F64 };

enum { TENSOR_MAX_RANK = 4 };

struct tensor {
    enum dtype dtype;
    int rank; /* 0..TENSOR_MAX_RANK */
    int64_t shape[TENSOR_MAX_RANK];
    int64_t stride[TENSOR_MAX_RANK]; /* in elements; the last one is 1 */
    void *data;                      /* on the backend that made it */
};

size_t dtype_size(enum dtype dtype);
/* safetensors' spelling: "BF16", "F16", "F32", "I64", "F64". */
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
/* Returns the elements of the longest stretch, along t's last axes, that lies without gaps. */
int64_t tensor_piece(const struct tensor *t);
/* Returns where element i (in row-major order) lies, in elements from data. */
int64_t tensor_offset(const struct tensor *t, int64_t i);

/* Whether dst can be made of src: equal shape, and equal dtype, a float rounded to BF16, or one
 * widened to F64. */
int tensor_can_copy(const struct tensor *dst, const struct tensor *src);
/* Converts n neighbouring elements, between dtypes that tensor_can_copy allows. */
void tensor_convert(enum dtype to_dtype, void *to, enum dtype from_dtype, const void *from,
                    int64_t n);

/* "[2, 3]" into out; returns out. */
char *tensor_shape_text(const struct tensor *t, char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
