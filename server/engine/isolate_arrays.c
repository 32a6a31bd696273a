/* isolate_arrays.c - see isolate_arrays.h. */
#include "server/engine/isolate_arrays.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/bf16.h"

const struct tensor array_none = {.rank = -1};

struct tensor array_fail(struct formula *f, const char *what)
{
    error_set(f->err, 400, "formula '%.200s', at character %d: %s", f->text,
              (int)(f->at - f->text) + 1, what);
    return array_none;
}

int array_failed(const struct formula *f)
{
    return f->err->code != 0;
}

double *array_data(const struct tensor *t)
{
    return t->data;
}

/* Counts the bytes of an array to be made; -1: they would be more than there may be. */
static int take_bytes(struct formula *f, int rank, const int64_t *shape, uint64_t *bytes)
{
    *bytes = sizeof(double);
    for (int i = 0; i < rank; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(*bytes, (uint64_t)shape[i], bytes))
            return -1;
    if (f->bytes > f->means->bytes || *bytes > f->means->bytes - f->bytes)
        return -1;
    f->bytes += *bytes;
    return 0;
}

struct tensor array_make(struct formula *f, int rank, const int64_t *shape)
{
    struct tensor t = tensor_make(DTYPE_F64, rank, shape, NULL);
    uint64_t bytes;

    if (array_failed(f) || (f->means->poll && f->means->poll(f->means->user, f->err)))
        return array_none;
    if (f->count == FORMULA_ARRAYS)
        return array_fail(f, "too long");
    if (take_bytes(f, rank, shape, &bytes))
        return array_fail(f, "more memory than \"memory_bytes\" leaves");
    t.data = malloc(bytes + 1);
    if (!t.data)
        return array_fail(f, "out of memory");
    f->owned[f->count++] = t.data;
    return t;
}

struct tensor array_number(struct formula *f, double d)
{
    struct tensor t = array_make(f, 0, NULL);

    if (!array_failed(f))
        *array_data(&t) = d;
    return t;
}

struct tensor array_widened(struct formula *f, const struct tensor *from)
{
    struct tensor t = array_make(f, from->rank, from->shape);
    const int64_t piece = tensor_piece(from);
    const char *bytes = from->data;

    if (array_failed(f))
        return array_none;
    for (int64_t i = 0; i < tensor_count(&t); i += piece)
        tensor_convert(DTYPE_F64, array_data(&t) + i, from->dtype,
                       bytes + (size_t)tensor_offset(from, i) * dtype_size(from->dtype), piece);
    return t;
}

void array_free_all(struct formula *f)
{
    for (int i = 0; i < f->count; i++)
        free(f->owned[i]);
    f->count = 0;
}

/* ---- functions over them ---- */

double array_to_bf16(double x)
{
    return (double)bf16_to_f32(bf16_from_f64(x));
}

struct tensor array_map(struct formula *f, const struct tensor *a, unary_fn *fn)
{
    struct tensor t = array_make(f, a->rank, a->shape);

    for (int64_t i = 0; !array_failed(f) && i < tensor_count(&t); i++)
        array_data(&t)[i] = fn(array_data(a)[i]);
    return t;
}

/* a with axes of one in front, and steps of 0 where it has one and the other has more. */
static int stretch(const struct tensor *a, struct tensor *to, int rank, int64_t *shape)
{
    *to = (struct tensor){.dtype = DTYPE_F64, .rank = rank, .data = a->data};
    for (int i = 0; i < rank; i++) {
        const int k = i - (rank - a->rank);

        to->shape[i] = k < 0 ? 1 : a->shape[k];
        to->stride[i] = k < 0 || a->shape[k] == 1 ? 0 : a->stride[k];
        if (shape[i] == 1)
            shape[i] = to->shape[i];
        else if (to->shape[i] != 1 && to->shape[i] != shape[i])
            return -1;
    }
    return 0;
}

struct tensor array_combine(struct formula *f, const struct tensor *a, const struct tensor *b,
                            binary_fn *fn)
{
    int64_t shape[TENSOR_MAX_RANK] = {1, 1, 1, 1};
    const int rank = a->rank > b->rank ? a->rank : b->rank;
    struct tensor x, y, t;

    if (array_failed(f))
        return array_none;
    if (stretch(a, &x, rank, shape) || stretch(b, &y, rank, shape))
        return array_fail(f, "shapes that do not fit each other");
    t = array_make(f, rank, shape);
    if (array_failed(f))
        return array_none;
    memcpy(x.shape, shape, sizeof(shape));
    memcpy(y.shape, shape, sizeof(shape));
    for (int64_t i = 0; i < tensor_count(&t); i++)
        array_data(&t)[i] =
            fn(array_data(a)[tensor_offset(&x, i)], array_data(b)[tensor_offset(&y, i)]);
    return t;
}

struct tensor array_by_rows(struct formula *f, const struct tensor *a, row_fn *fn, int keep)
{
    const int last = a->rank - 1;
    struct tensor t = *a;
    int64_t n;

    if (array_failed(f))
        return array_none;
    if (last < 0)
        return array_fail(f, "a row is expected, not a number");
    n = a->shape[last];
    t.shape[last] = keep ? n : 1;
    t = array_make(f, a->rank, t.shape);
    for (int64_t i = 0; !array_failed(f) && i < tensor_count(a) / n; i++)
        fn(array_data(a) + i * n, array_data(&t) + i * (keep ? n : 1), n);
    return t;
}
