/* isolate_tensors.c - see isolate_tensors.h. */
#include "server/engine/isolate_tensors.h"

#include <math.h>
#include <string.h>

/* ---- moving ---- */

static struct tensor reordered(struct formula *f, const struct tensor *view)
{
    struct tensor t = array_make(f, view->rank, view->shape);
    const int64_t n = view->shape[view->rank - 1], step = view->stride[view->rank - 1];

    for (int64_t i = 0; !array_failed(f) && i < tensor_count(&t); i += n) {
        const double *from = array_data(view) + tensor_offset(view, i);

        for (int64_t k = 0; k < n; k++)
            array_data(&t)[i + k] = from[k * step];
    }
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

/* Rows [first, first + count) of x, each matrix's after the other's, to row `to` of t's. */
static void copy_rows(const struct tensor *x, int64_t first, int64_t count, const struct tensor *t,
                      int64_t to)
{
    const int64_t n = x->shape[x->rank - 1], rows = x->shape[x->rank - 2],
                  wide = t->shape[t->rank - 2];

    for (int64_t i = 0; n && rows && i < tensor_count(x) / (n * rows); i++)
        memcpy(array_data(t) + (i * wide + to) * n, array_data(x) + (i * rows + first) * n,
               (size_t)(count * n) * sizeof(double));
}

struct tensor array_join(struct formula *f, const struct tensor *a)
{
    const int rank = a[0].rank;
    struct tensor t = a[0];

    if (array_failed(f))
        return array_none;
    if (rank < 2 || a[1].rank != rank || a[0].shape[rank - 1] != a[1].shape[rank - 1] ||
        (rank > 2 &&
         memcmp(a[0].shape, a[1].shape, sizeof(a[0].shape[0]) * (size_t)(rank - 2)) != 0))
        return array_fail(f, "join: arrays that differ in rows alone are expected");
    t.shape[rank - 2] += a[1].shape[rank - 2];
    t = array_make(f, rank, t.shape);
    if (array_failed(f))
        return array_none;
    copy_rows(&a[0], 0, a[0].shape[rank - 2], &t, 0);
    copy_rows(&a[1], 0, a[1].shape[rank - 2], &t, a[0].shape[rank - 2]);
    return t;
}

struct tensor array_part(struct formula *f, const struct tensor *a)
{
    const int64_t first = count_of(&a[1]), count = count_of(&a[2]);
    struct tensor t = a[0];

    if (array_failed(f))
        return array_none;
    if (t.rank < 2 || first < 0 || count < 1 || count > t.shape[t.rank - 2] ||
        first > t.shape[t.rank - 2] - count)
        return array_fail(f, "part: rows that there are, and one at least, are expected");
    t.shape[t.rank - 2] = count;
    t = array_make(f, t.rank, t.shape);
    if (!array_failed(f))
        copy_rows(&a[0], first, count, &t, 0);
    return t;
}

/* ---- products ---- */

enum { LANES = 8 };

/* Eight sums, so that the compiler may keep them in registers. */
static double dot(const double *x, const double *y, int64_t n)
{
    double sum[LANES] = {0}, all = 0;
    int64_t k = 0;

    for (; k + LANES <= n; k += LANES)
        for (int l = 0; l < LANES; l++)
            sum[l] += x[k + l] * y[k + l];
    for (; k < n; k++)
        sum[k % LANES] += x[k] * y[k];
    for (int l = 0; l < LANES; l++)
        all += sum[l];
    return all;
}

/* x as bf16 has it, by its bits; numbers that are none of bf16's normal ones go the long way. */
static inline double narrowed(double x)
{
    const double size = fabs(x);
    uint64_t u;

    if (!(size >= 0x1p-126 && size < 0x1.fep127))
        return array_to_bf16(x);
    memcpy(&u, &x, sizeof(u));
    u += ((UINT64_C(1) << 44) - 1) + (u >> 45 & 1);
    u &= ~((UINT64_C(1) << 45) - 1);
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* Row by row of w: y[i] = x[i] w^T, M rows of x.  How a sum grows is each function's own. */
typedef void row_product(const double *x, const double *w, double *y, int64_t M, int64_t N,
                         int64_t K);

static void product_plain(const double *x, const double *w, double *y, int64_t M, int64_t N,
                          int64_t K)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t m = 0; m < M; m++)
            y[m * N + n] = dot(x + m * K, w + n * K, K);
}

/* A chain of roundings waits for itself: several rows of w go side by side. */
static void product_bf16(const double *x, const double *w, double *y, int64_t M, int64_t N,
                         int64_t K)
{
    for (int64_t n = 0; n < N; n += LANES)
        for (int64_t m = 0; m < M; m++) {
            const int64_t count = N - n < LANES ? N - n : LANES;
            double sum[LANES] = {0};

            for (int64_t k = 0; k < K; k++)
                for (int64_t l = 0; l < count; l++)
                    sum[l] = narrowed(sum[l] + x[m * K + k] * w[(n + l) * K + k]);
            memcpy(y + m * N + n, sum, (size_t)count * sizeof(*sum));
        }
}

/* [.., M, K] x [.., N, K] */
static struct tensor products(struct formula *f, const struct tensor *a, const struct tensor *b,
                              row_product *product)
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
    batch = M && K ? tensor_count(a) / (M * K) : 0;
    if (b->rank > 2 && tensor_count(b) != batch * N * K)
        return array_fail(f, "a product of as many matrices is expected");
    t.shape[t.rank - 1] = N;
    t = array_make(f, t.rank, t.shape);
    for (int64_t i = 0; !array_failed(f) && i < batch; i++)
        product(array_data(a) + i * M * K, array_data(b) + (b->rank > 2 ? i * N * K : 0),
                array_data(&t) + i * M * N, M, N, K);
    return t;
}

struct tensor array_linear(struct formula *f, const struct tensor *a)
{
    return products(f, &a[0], &a[1], product_plain);
}

struct tensor array_linear_bf16(struct formula *f, const struct tensor *a)
{
    return products(f, &a[0], &a[1], product_bf16);
}

struct tensor array_matmul(struct formula *f, const struct tensor *a)
{
    const struct tensor b = array_transpose(f, &a[1]);

    return products(f, &a[0], &b, product_plain);
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

/* Whether a key is hidden from a query, both counted from the first key; by: the function's number. */
typedef int hides_fn(int64_t query, int64_t key, double by);

static int hides_later(int64_t query, int64_t key, double by)
{
    return (double)key > (double)query + by;
}

static int hides_earlier(int64_t query, int64_t key, double by)
{
    return (double)(query - key) >= by;
}

/* Scores, a number, and a value in place of the scores of hidden keys. */
static struct tensor hide(struct formula *f, const struct tensor *a, hides_fn *hides,
                          const char *expected)
{
    struct tensor t;
    int64_t rows, keys;

    if (array_failed(f) || a[0].rank < 2 || a[1].rank < 0 || a[2].rank < 0)
        return array_failed(f) ? array_none : array_fail(f, expected);
    t = array_make(f, a[0].rank, a[0].shape);
    keys = a[0].shape[a[0].rank - 1];
    rows = a[0].shape[a[0].rank - 2];
    for (int64_t i = 0; !array_failed(f) && i < tensor_count(&t); i++) {
        const int64_t query = i / keys % rows + keys - rows;

        array_data(&t)[i] =
            hides(query, i % keys, *array_data(&a[1])) ? *array_data(&a[2]) : array_data(&a[0])[i];
    }
    return t;
}

struct tensor array_masked(struct formula *f, const struct tensor *a)
{
    return hide(f, a, hides_later, "masked: scores, an offset and a value are expected");
}

struct tensor array_windowed(struct formula *f, const struct tensor *a)
{
    return hide(f, a, hides_earlier, "windowed: scores, a window and a value are expected");
}
