/* isolate_tensors.c - see isolate_tensors.h. */
#include "server/engine/isolate_tensors.h"

#include <math.h>
#include <string.h>

/* ---- moving ---- */

static struct tensor reordered(struct formula *f, const struct tensor *view)
{
    struct tensor t = array_make(f, view->rank, view->shape);

    for (int64_t i = 0; !array_failed(f) && i < tensor_count(&t); i++)
        array_data(&t)[i] = array_data(view)[tensor_offset(view, i)];
    return t;
}

static struct tensor swapped(struct formula *f, const struct tensor *a, int i, int k)
{
    struct tensor v = *a;

    if (array_failed(f))
        return array_none;
    if (a->rank <= (i > k ? i : k) || i < 0 || k < 0)
        return array_fail(f, "too few axes");
    v.shape[i] = a->shape[k];
    v.shape[k] = a->shape[i];
    v.stride[i] = a->stride[k];
    v.stride[k] = a->stride[i];
    return reordered(f, &v);
}

struct tensor array_transpose(struct formula *f, const struct tensor *a)
{
    return swapped(f, a, a->rank - 2, a->rank - 1);
}

/* The nearest whole number, of a number that is not far beyond any count of elements. */
static int64_t whole(double x)
{
    return fabs(x) < 0x1p53 ? (int64_t)rint(x) : -1;
}

/* A whole number from an array of one. */
static int64_t count_of(const struct tensor *a)
{
    return a->rank >= 0 && tensor_count(a) == 1 ? whole(*array_data(a)) : -1;
}

struct tensor array_heads(struct formula *f, const struct tensor *a)
{
    const int64_t n = count_of(&a[1]);
    struct tensor v = a[0];

    if (array_failed(f))
        return array_none;
    if (a[0].rank == 2 && n > 0 && a[0].shape[1] % n == 0)
        v = tensor_make(DTYPE_F64, 3, (const int64_t[]){a[0].shape[0], n, a[0].shape[1] / n},
                        a[0].data);
    return swapped(f, &v, 0, 1);
}

struct tensor array_flat(struct formula *f, const struct tensor *a)
{
    struct tensor t = swapped(f, a, 0, 1);

    if (array_failed(f) || t.rank != 3)
        return array_failed(f) ? array_none : array_fail(f, "flat: three axes are expected");
    return tensor_make(DTYPE_F64, 2, (const int64_t[]){t.shape[0], t.shape[1] * t.shape[2]},
                       t.data);
}

/* Heads k of the output are heads of(k) of the input. */
static struct tensor choose_heads(struct formula *f, const struct tensor *a, int tile)
{
    const int64_t n = count_of(&a[1]),
                  size = a[0].rank > 0 && a[0].shape[0] ? tensor_count(&a[0]) / a[0].shape[0] : 0;
    struct tensor t = a[0];

    if (array_failed(f))
        return array_none;
    if (n < 1 || size == 0 || __builtin_mul_overflow(t.shape[0], n, &t.shape[0]))
        return array_fail(f, "an array and how often are expected");
    t = array_make(f, t.rank, t.shape);
    for (int64_t h = 0; !array_failed(f) && h < t.shape[0]; h++)
        memcpy(array_data(&t) + h * size,
               array_data(&a[0]) + (tile ? h % a[0].shape[0] : h / n) * size,
               (size_t)size * sizeof(double));
    return t;
}

struct tensor array_repeat(struct formula *f, const struct tensor *a)
{
    return choose_heads(f, a, 0);
}

struct tensor array_tile(struct formula *f, const struct tensor *a)
{
    return choose_heads(f, a, 1);
}

struct tensor array_shift(struct formula *f, const struct tensor *a)
{
    const int axis = a[0].rank - 2;
    const int64_t k = a[1].rank >= 0 ? whole(*array_data(&a[1])) : 0;
    struct tensor t;
    int64_t rows, n;

    if (array_failed(f) || axis < 0 || a[1].rank < 0 || !(fabs(*array_data(&a[1])) < 0x1p53))
        return array_failed(f) ? array_none : array_fail(f, "shift: rows and how far are expected");
    t = array_make(f, a[0].rank, a[0].shape);
    rows = a[0].shape[axis];
    n = a[0].shape[axis + 1];
    for (int64_t i = 0; !array_failed(f) && i < tensor_count(&t) / n; i++) {
        int64_t from = i % rows - k;

        from = from < 0 ? 0 : from >= rows ? rows - 1 : from;
        memcpy(array_data(&t) + i * n, array_data(&a[0]) + (i / rows * rows + from) * n,
               (size_t)n * sizeof(double));
    }
    return t;
}

/* ---- products ---- */

/* [.., M, K] x [.., N, K]; step: how a sum is rounded as it grows, or NULL. */
static struct tensor products(struct formula *f, const struct tensor *a, const struct tensor *b,
                              unary_fn *step)
{
    struct tensor t = *a;
    int64_t M, N, K, batch;

    if (array_failed(f))
        return array_none;
    if (a->rank < 2 || b->rank < 2 || a->shape[a->rank - 1] != b->shape[b->rank - 1])
        return array_fail(f, "a product of rows of equal length is expected");
    M = a->shape[a->rank - 2];
    K = a->shape[a->rank - 1];
    N = b->shape[b->rank - 2];
    batch = tensor_count(a) / (M * K);
    if (b->rank > 2 && tensor_count(b) / (N * K) != batch)
        return array_fail(f, "a product of as many matrices is expected");
    t.shape[t.rank - 1] = N;
    t = array_make(f, t.rank, t.shape);
    for (int64_t i = 0; !array_failed(f) && i < batch * M * N; i++) {
        const double *x = array_data(a) + i / N * K;
        const double *y = array_data(b) + ((b->rank > 2 ? i / (M * N) * N : 0) + i % N) * K;
        double sum = 0;

        if (step)
            for (int64_t k = 0; k < K; k++)
                sum = step(sum + x[k] * y[k]);
        else
            for (int64_t k = 0; k < K; k++)
                sum += x[k] * y[k];
        array_data(&t)[i] = sum;
    }
    return t;
}

struct tensor array_linear(struct formula *f, const struct tensor *a)
{
    return products(f, &a[0], &a[1], NULL);
}

struct tensor array_linear_bf16(struct formula *f, const struct tensor *a)
{
    return products(f, &a[0], &a[1], array_to_bf16);
}

struct tensor array_matmul(struct formula *f, const struct tensor *a)
{
    const struct tensor b = array_transpose(f, &a[1]);

    return products(f, &a[0], &b, NULL);
}

/* ---- attention ---- */

struct tensor array_angles(struct formula *f, const struct tensor *a)
{
    const int64_t rows = a[0].rank == 1 ? a[0].shape[0] : 0;
    const int64_t n = a[1].rank == 1 ? a[1].shape[0] : 0;
    struct tensor t;

    if (array_failed(f) || !rows || !n)
        return array_failed(f) ? array_none
                               : array_fail(f, "angles: positions and frequencies are expected");
    t = array_make(f, 2, (const int64_t[]){rows, 2 * n});
    for (int64_t i = 0; !array_failed(f) && i < rows * 2 * n; i++)
        array_data(&t)[i] = array_data(&a[0])[i / (2 * n)] * array_data(&a[1])[i % n];
    return t;
}

struct tensor array_frequencies(struct formula *f, const struct tensor *a)
{
    const int64_t n = count_of(&a[1]) / 2;
    struct tensor t;

    if (array_failed(f) || n < 1)
        return array_failed(f) ? array_none
                               : array_fail(f, "frequencies: theta and a width are expected");
    t = array_make(f, 1, &n);
    for (int64_t i = 0; !array_failed(f) && i < n; i++)
        array_data(&t)[i] = pow(*array_data(&a[0]), -(double)i / (double)n);
    return t;
}

struct tensor array_masked(struct formula *f, const struct tensor *a)
{
    struct tensor t;
    int64_t rows, keys;

    if (array_failed(f) || a[0].rank < 2 || a[1].rank < 0 || a[2].rank < 0)
        return array_failed(f)
                   ? array_none
                   : array_fail(f, "masked: scores, an offset and a value are expected");
    t = array_make(f, a[0].rank, a[0].shape);
    keys = a[0].shape[a[0].rank - 1];
    rows = a[0].shape[a[0].rank - 2];
    for (int64_t i = 0; !array_failed(f) && i < tensor_count(&t); i++) {
        const int64_t l = i % keys, q = i / keys % rows;
        const int hidden = (double)l > (double)(q + keys - rows) + *array_data(&a[1]);

        array_data(&t)[i] = hidden ? *array_data(&a[2]) : array_data(&a[0])[i];
    }
    return t;
}

struct tensor array_windowed(struct formula *f, const struct tensor *a)
{
    struct tensor t;
    int64_t rows, keys;

    if (array_failed(f) || a[0].rank < 2 || a[1].rank < 0 || a[2].rank < 0)
        return array_failed(f)
                   ? array_none
                   : array_fail(f, "windowed: scores, a window and a value are expected");
    t = array_make(f, a[0].rank, a[0].shape);
    keys = a[0].shape[a[0].rank - 1];
    rows = a[0].shape[a[0].rank - 2];
    for (int64_t i = 0; !array_failed(f) && i < tensor_count(&t); i++) {
        const int64_t l = i % keys, q = i / keys % rows;

        array_data(&t)[i] = (double)(q + keys - rows - l) >= *array_data(&a[1])
                                ? *array_data(&a[2])
                                : array_data(&a[0])[i];
    }
    return t;
}
