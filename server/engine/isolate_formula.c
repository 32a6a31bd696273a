/* isolate_formula.c - see isolate_formula.h: a recursive descent that computes as it reads.  Every
 * intermediate is an array of its own, freed at the end. */
#include "server/engine/isolate_formula.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/bf16.h"
#include "kernels/base/float16.h"

enum { ARRAYS = 256, DEPTH = 32, ARGUMENTS = 3, NAME = 160 };

struct formula {
    const char *text, *at;
    formula_lookup *lookup;
    void *user;
    struct error *err;
    double *owned[ARRAYS];
    int count, depth;
};

typedef struct tensor array_fn(struct formula *f, const struct tensor *a);

static const struct tensor none = {.rank = -1};

static struct tensor fail(struct formula *f, const char *what)
{
    error_set(f->err, 400, "formula '%.200s', at character %d: %s", f->text,
              (int)(f->at - f->text) + 1, what);
    return none;
}

static int failed(const struct formula *f)
{
    return f->err->code != 0;
}

static double *data(const struct tensor *t)
{
    return t->data;
}

static struct tensor make(struct formula *f, int rank, const int64_t *shape)
{
    struct tensor t = tensor_make(DTYPE_F64, rank, shape, NULL);

    if (failed(f))
        return none;
    if (f->count == ARRAYS)
        return fail(f, "too long");
    t.data = malloc((size_t)tensor_count(&t) * sizeof(double) + 1);
    if (!t.data)
        return fail(f, "out of memory");
    f->owned[f->count++] = t.data;
    return t;
}

static struct tensor number(struct formula *f, double d)
{
    struct tensor t = make(f, 0, NULL);

    if (!failed(f))
        *data(&t) = d;
    return t;
}

/* Contiguous F64. */
static struct tensor widened(struct formula *f, const struct tensor *from)
{
    struct tensor t = make(f, from->rank, from->shape);
    const int64_t piece = tensor_piece(from);
    const char *bytes = from->data;

    if (failed(f))
        return none;
    for (int64_t i = 0; i < tensor_count(&t); i += piece)
        tensor_convert(DTYPE_F64, data(&t) + i, from->dtype,
                       bytes + (size_t)tensor_offset(from, i) * dtype_size(from->dtype), piece);
    return t;
}

/* ---- elements ---- */

typedef double unary_fn(double x);
typedef double binary_fn(double a, double b);

static double f_add(double a, double b)
{
    return a + b;
}

static double f_sub(double a, double b)
{
    return a - b;
}

static double f_mul(double a, double b)
{
    return a * b;
}

static double f_div(double a, double b)
{
    return a / b;
}

static double f_square(double x)
{
    return x * x;
}

static double f_rsqrt(double x)
{
    return 1 / sqrt(x);
}

static double f_relu(double x)
{
    return x > 0 ? x : 0;
}

static double f_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double f_bf16(double x)
{
    return (double)bf16_to_f32(bf16_from_f64(x));
}

static double f_f32(double x)
{
    return (double)(float)x;
}

/* To a multiple of the last of `bits` bits of the significand, ties to even; smallest: the exponent
 * below which the step stays. */
static double rounded(double x, int bits, int smallest)
{
    int exponent;

    if (x == 0 || !isfinite(x))
        return x;
    frexp(x, &exponent);
    exponent = exponent < smallest ? smallest : exponent;
    return ldexp(rint(ldexp(x, bits - exponent)), exponent - bits);
}

static double f_f16(double x)
{
    const double y = rounded(x, 11, -13);

    return fabs(y) > 65504 ? copysign((double)INFINITY, y) : y;
}

static double f_tf32(double x)
{
    return rounded(x, 11, -125);
}

static struct tensor map(struct formula *f, const struct tensor *a, unary_fn *fn)
{
    struct tensor t = make(f, a->rank, a->shape);

    for (int64_t i = 0; !failed(f) && i < tensor_count(&t); i++)
        data(&t)[i] = fn(data(a)[i]);
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

static struct tensor combine(struct formula *f, const struct tensor *a, const struct tensor *b,
                             binary_fn *fn)
{
    int64_t shape[TENSOR_MAX_RANK] = {1, 1, 1, 1};
    const int rank = a->rank > b->rank ? a->rank : b->rank;
    struct tensor x, y, t;

    if (failed(f))
        return none;
    if (stretch(a, &x, rank, shape) || stretch(b, &y, rank, shape))
        return fail(f, "shapes that do not fit each other");
    t = make(f, rank, shape);
    if (failed(f))
        return none;
    memcpy(x.shape, shape, sizeof(shape));
    memcpy(y.shape, shape, sizeof(shape));
    for (int64_t i = 0; i < tensor_count(&t); i++)
        data(&t)[i] = fn(data(a)[tensor_offset(&x, i)], data(b)[tensor_offset(&y, i)]);
    return t;
}

/* ---- along the last axis ---- */

typedef void row_fn(const double *x, double *y, int64_t n);

static void row_mean(const double *x, double *y, int64_t n)
{
    *y = 0;
    for (int64_t i = 0; i < n; i++)
        *y += x[i] / (double)n;
}

static void row_sum(const double *x, double *y, int64_t n)
{
    *y = 0;
    for (int64_t i = 0; i < n; i++)
        *y += x[i];
}

static void row_max(const double *x, double *y, int64_t n)
{
    *y = x[0];
    for (int64_t i = 1; i < n; i++)
        *y = x[i] > *y ? x[i] : *y;
}

static void row_softmax(const double *x, double *y, int64_t n)
{
    double most, sum = 0;

    row_max(x, &most, n);
    for (int64_t i = 0; i < n; i++)
        sum += y[i] = exp(x[i] - most);
    for (int64_t i = 0; i < n; i++)
        y[i] /= sum;
}

/* rotate_half: (-second half, first half) */
static void row_halves(const double *x, double *y, int64_t n)
{
    for (int64_t i = 0; i < n / 2; i++) {
        y[i] = -x[i + n / 2];
        y[i + n / 2] = x[i];
    }
}

/* (-x1, x0, -x3, x2, ...) */
static void row_pairs(const double *x, double *y, int64_t n)
{
    for (int64_t i = 0; i + 1 < n; i += 2) {
        y[i] = -x[i + 1];
        y[i + 1] = x[i];
    }
}

/* The first half, each twice: the table of angles for neighbouring pairs. */
static void row_spread(const double *x, double *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i / 2];
}

/* To whole steps of the largest, 127 of them. */
static void row_int8(const double *x, double *y, int64_t n)
{
    double most = 0;

    for (int64_t i = 0; i < n; i++)
        most = fabs(x[i]) > most ? fabs(x[i]) : most;
    for (int64_t i = 0; i < n; i++)
        y[i] = most > 0 ? rint(x[i] / most * 127) * most / 127 : 0;
}

/* bitsandbytes' 4-bit normal floats, in blocks of 64. */
static void row_nf4(const double *x, double *y, int64_t n)
{
    static const double code[] = {-1.0,
                                  -0.6961928009986877,
                                  -0.5250730514526367,
                                  -0.39491748809814453,
                                  -0.28444138169288635,
                                  -0.18477343022823334,
                                  -0.09105003625154495,
                                  0.0,
                                  0.07958029955625534,
                                  0.16093020141124725,
                                  0.24611230194568634,
                                  0.33791524171829224,
                                  0.44070982933044434,
                                  0.5626170039176941,
                                  0.7229568362236023,
                                  1.0};

    for (int64_t first = 0; first < n; first += 64) {
        const int64_t end = first + 64 < n ? first + 64 : n;
        double most = 0;

        for (int64_t i = first; i < end; i++)
            most = fabs(x[i]) > most ? fabs(x[i]) : most;
        for (int64_t i = first; i < end; i++) {
            int best = 0;

            for (int k = 1; most > 0 && k < 16; k++)
                if (fabs(code[k] - x[i] / most) < fabs(code[best] - x[i] / most))
                    best = k;
            y[i] = most * code[best];
        }
    }
}

/* keep: 1: rows as long as before, 0: of one. */
static struct tensor by_rows(struct formula *f, const struct tensor *a, row_fn *fn, int keep)
{
    const int last = a->rank - 1;
    struct tensor t = *a;
    int64_t n;

    if (failed(f))
        return none;
    if (last < 0)
        return fail(f, "a row is expected, not a number");
    n = a->shape[last];
    t.shape[last] = keep ? n : 1;
    t = make(f, a->rank, t.shape);
    for (int64_t i = 0; !failed(f) && i < tensor_count(a) / n; i++)
        fn(data(a) + i * n, data(&t) + i * (keep ? n : 1), n);
    return t;
}

/* ---- moving ---- */

static struct tensor reordered(struct formula *f, const struct tensor *view)
{
    struct tensor t = make(f, view->rank, view->shape);

    for (int64_t i = 0; !failed(f) && i < tensor_count(&t); i++)
        data(&t)[i] = data(view)[tensor_offset(view, i)];
    return t;
}

static struct tensor swapped(struct formula *f, const struct tensor *a, int i, int k)
{
    struct tensor v = *a;

    if (failed(f))
        return none;
    if (a->rank <= (i > k ? i : k) || i < 0 || k < 0)
        return fail(f, "too few axes");
    v.shape[i] = a->shape[k];
    v.shape[k] = a->shape[i];
    v.stride[i] = a->stride[k];
    v.stride[k] = a->stride[i];
    return reordered(f, &v);
}

static struct tensor f_transpose(struct formula *f, const struct tensor *a)
{
    return swapped(f, a, a->rank - 2, a->rank - 1);
}

/* A whole number from an array of one. */
static int64_t count_of(const struct tensor *a)
{
    return a->rank >= 0 && tensor_count(a) == 1 ? (int64_t)rint(*data(a)) : -1;
}

/* [T, n * D] (or [T, n, D]) as [n, T, D]. */
static struct tensor f_heads(struct formula *f, const struct tensor *a)
{
    const int64_t n = count_of(&a[1]);
    struct tensor v = a[0];

    if (failed(f))
        return none;
    if (a[0].rank == 2 && n > 0 && a[0].shape[1] % n == 0)
        v = tensor_make(DTYPE_F64, 3, (const int64_t[]){a[0].shape[0], n, a[0].shape[1] / n},
                        a[0].data);
    return swapped(f, &v, 0, 1);
}

/* [n, T, D] as [T, n * D]. */
static struct tensor f_flat(struct formula *f, const struct tensor *a)
{
    struct tensor t = swapped(f, a, 0, 1);

    if (failed(f) || t.rank != 3)
        return failed(f) ? none : fail(f, "flat: three axes are expected");
    return tensor_make(DTYPE_F64, 2, (const int64_t[]){t.shape[0], t.shape[1] * t.shape[2]},
                       t.data);
}

/* Heads k of the output are heads of(k) of the input. */
static struct tensor choose_heads(struct formula *f, const struct tensor *a, int tile)
{
    const int64_t n = count_of(&a[1]),
                  size = a[0].rank > 0 && a[0].shape[0] ? tensor_count(&a[0]) / a[0].shape[0] : 0;
    struct tensor t = a[0];

    if (failed(f))
        return none;
    if (n < 1 || size == 0)
        return fail(f, "an array and how often are expected");
    t.shape[0] *= n;
    t = make(f, t.rank, t.shape);
    for (int64_t h = 0; !failed(f) && h < t.shape[0]; h++)
        memcpy(data(&t) + h * size, data(&a[0]) + (tile ? h % a[0].shape[0] : h / n) * size,
               (size_t)size * sizeof(double));
    return t;
}

static struct tensor f_repeat(struct formula *f, const struct tensor *a)
{
    return choose_heads(f, a, 0);
}

static struct tensor f_tile(struct formula *f, const struct tensor *a)
{
    return choose_heads(f, a, 1);
}

/* Rows (the axis before the last) k later; those that come in are the nearest ones. */
static struct tensor f_shift(struct formula *f, const struct tensor *a)
{
    const int axis = a[0].rank - 2;
    const double k = a[1].rank >= 0 ? *data(&a[1]) : 0;
    struct tensor t;
    int64_t rows, n;

    if (failed(f) || axis < 0)
        return failed(f) ? none : fail(f, "shift: rows are expected");
    t = make(f, a[0].rank, a[0].shape);
    rows = a[0].shape[axis];
    n = a[0].shape[axis + 1];
    for (int64_t i = 0; !failed(f) && i < tensor_count(&t) / n; i++) {
        int64_t from = i % rows - (int64_t)k;

        from = from < 0 ? 0 : from >= rows ? rows - 1 : from;
        memcpy(data(&t) + i * n, data(&a[0]) + (i / rows * rows + from) * n,
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

    if (failed(f))
        return none;
    if (a->rank < 2 || b->rank < 2 || a->shape[a->rank - 1] != b->shape[b->rank - 1])
        return fail(f, "a product of rows of equal length is expected");
    M = a->shape[a->rank - 2];
    K = a->shape[a->rank - 1];
    N = b->shape[b->rank - 2];
    batch = tensor_count(a) / (M * K);
    if (b->rank > 2 && tensor_count(b) / (N * K) != batch)
        return fail(f, "a product of as many matrices is expected");
    t.shape[t.rank - 1] = N;
    t = make(f, t.rank, t.shape);
    for (int64_t i = 0; !failed(f) && i < batch * M * N; i++) {
        const double *x = data(a) + i / N * K;
        const double *y = data(b) + ((b->rank > 2 ? i / (M * N) * N : 0) + i % N) * K;
        double sum = 0;

        if (step)
            for (int64_t k = 0; k < K; k++)
                sum = step(sum + x[k] * y[k]);
        else
            for (int64_t k = 0; k < K; k++)
                sum += x[k] * y[k];
        data(&t)[i] = sum;
    }
    return t;
}

static struct tensor f_linear(struct formula *f, const struct tensor *a)
{
    return products(f, &a[0], &a[1], NULL);
}

static struct tensor f_linear_bf16(struct formula *f, const struct tensor *a)
{
    return products(f, &a[0], &a[1], f_bf16);
}

static struct tensor f_matmul(struct formula *f, const struct tensor *a)
{
    const struct tensor b = f_transpose(f, &a[1]);

    return products(f, &a[0], &b, NULL);
}

/* cos and sin tables' angles: [T, 2 n] of positions [T] and frequencies [n]. */
static struct tensor f_angles(struct formula *f, const struct tensor *a)
{
    const int64_t rows = a[0].rank == 1 ? a[0].shape[0] : 0;
    const int64_t n = a[1].rank == 1 ? a[1].shape[0] : 0;
    struct tensor t;

    if (failed(f) || !rows || !n)
        return failed(f) ? none : fail(f, "angles: positions and frequencies are expected");
    t = make(f, 2, (const int64_t[]){rows, 2 * n});
    for (int64_t i = 0; !failed(f) && i < rows * 2 * n; i++)
        data(&t)[i] = data(&a[0])[i / (2 * n)] * data(&a[1])[i % n];
    return t;
}

/* theta^(-2 i / D), [D / 2] of theta and D. */
static struct tensor f_frequencies(struct formula *f, const struct tensor *a)
{
    const int64_t n = count_of(&a[1]) / 2;
    struct tensor t;

    if (failed(f) || n < 1)
        return failed(f) ? none : fail(f, "frequencies: theta and a width are expected");
    t = make(f, 1, &n);
    for (int64_t i = 0; !failed(f) && i < n; i++)
        data(&t)[i] = pow(*data(&a[0]), -(double)i / (double)n);
    return t;
}

/* Scores that query t (row) does not see of key l: l - t > past keys + k. */
static struct tensor f_masked(struct formula *f, const struct tensor *a)
{
    struct tensor t;
    int64_t rows, keys;

    if (failed(f) || a[0].rank < 2 || a[1].rank < 0 || a[2].rank < 0)
        return failed(f) ? none : fail(f, "masked: scores, an offset and a value are expected");
    t = make(f, a[0].rank, a[0].shape);
    keys = a[0].shape[a[0].rank - 1];
    rows = a[0].shape[a[0].rank - 2];
    for (int64_t i = 0; !failed(f) && i < tensor_count(&t); i++) {
        const int64_t l = i % keys, q = i / keys % rows;
        const int hidden = (double)l > (double)(q + keys - rows) + *data(&a[1]);

        data(&t)[i] = hidden ? *data(&a[2]) : data(&a[0])[i];
    }
    return t;
}

/* Scores of keys that lie n or more behind their query. */
static struct tensor f_windowed(struct formula *f, const struct tensor *a)
{
    struct tensor t;
    int64_t rows, keys;

    if (failed(f) || a[0].rank < 2 || a[1].rank < 0 || a[2].rank < 0)
        return failed(f) ? none : fail(f, "windowed: scores, a window and a value are expected");
    t = make(f, a[0].rank, a[0].shape);
    keys = a[0].shape[a[0].rank - 1];
    rows = a[0].shape[a[0].rank - 2];
    for (int64_t i = 0; !failed(f) && i < tensor_count(&t); i++) {
        const int64_t l = i % keys, q = i / keys % rows;

        data(&t)[i] = (double)(q + keys - rows - l) >= *data(&a[1]) ? *data(&a[2]) : data(&a[0])[i];
    }
    return t;
}

/* ---- the list ---- */

static const struct function {
    const char *name;
    int arguments;
    unary_fn *unary;
    row_fn *row;
    int keep;
    array_fn *array;
} functions[] = {
    {"sqrt", 1, sqrt, NULL, 0, NULL},
    {"rsqrt", 1, f_rsqrt, NULL, 0, NULL},
    {"square", 1, f_square, NULL, 0, NULL},
    {"exp", 1, exp, NULL, 0, NULL},
    {"tanh", 1, tanh, NULL, 0, NULL},
    {"erf", 1, erf, NULL, 0, NULL},
    {"abs", 1, fabs, NULL, 0, NULL},
    {"sin", 1, sin, NULL, 0, NULL},
    {"cos", 1, cos, NULL, 0, NULL},
    {"relu", 1, f_relu, NULL, 0, NULL},
    {"sigmoid", 1, f_sigmoid, NULL, 0, NULL},
    {"bf16", 1, f_bf16, NULL, 0, NULL},
    {"f16", 1, f_f16, NULL, 0, NULL},
    {"f32", 1, f_f32, NULL, 0, NULL},
    {"tf32", 1, f_tf32, NULL, 0, NULL},
    {"mean", 1, NULL, row_mean, 0, NULL},
    {"sum", 1, NULL, row_sum, 0, NULL},
    {"max", 1, NULL, row_max, 0, NULL},
    {"softmax", 1, NULL, row_softmax, 1, NULL},
    {"halves", 1, NULL, row_halves, 1, NULL},
    {"pairs", 1, NULL, row_pairs, 1, NULL},
    {"spread", 1, NULL, row_spread, 1, NULL},
    {"int8", 1, NULL, row_int8, 1, NULL},
    {"nf4", 1, NULL, row_nf4, 1, NULL},
    {"transpose", 1, NULL, NULL, 0, f_transpose},
    {"flat", 1, NULL, NULL, 0, f_flat},
    {"heads", 2, NULL, NULL, 0, f_heads},
    {"repeat", 2, NULL, NULL, 0, f_repeat},
    {"tile", 2, NULL, NULL, 0, f_tile},
    {"shift", 2, NULL, NULL, 0, f_shift},
    {"linear", 2, NULL, NULL, 0, f_linear},
    {"linear_bf16", 2, NULL, NULL, 0, f_linear_bf16},
    {"matmul", 2, NULL, NULL, 0, f_matmul},
    {"angles", 2, NULL, NULL, 0, f_angles},
    {"frequencies", 2, NULL, NULL, 0, f_frequencies},
    {"masked", 3, NULL, NULL, 0, f_masked},
    {"windowed", 3, NULL, NULL, 0, f_windowed},
};

const char *formula_names(void)
{
    return "element by element: sqrt rsqrt square exp tanh erf abs sin cos relu sigmoid\n"
           "rounding: bf16 f16 f32 tf32, of a row int8 and nf4\n"
           "of a row to one number: mean sum max; to a row: softmax, halves (rotate_half), pairs\n"
           "(rotate neighbours), spread (the first half, each twice)\n"
           "transpose(x): the last two axes; heads(x, n): [T, n*D] as [n, T, D]; flat(x): back\n"
           "repeat(x, n), tile(x, n): heads, each n times, or all n times; shift(x, k): rows\n"
           "linear(x, w): x w^T; linear_bf16: its sums in bf16; matmul(a, b)\n"
           "angles(positions, frequencies); frequencies(theta, D)\n"
           "masked(scores, k, value): keys more than k after their query; windowed(scores, n, "
           "value)\n";
}

static const struct function *find(const char *name)
{
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
        if (strcmp(functions[i].name, name) == 0)
            return &functions[i];
    return NULL;
}

/* ---- reading ---- */

static struct tensor read_sum(struct formula *f);

static char next(struct formula *f)
{
    while (*f->at == ' ')
        f->at++;
    return *f->at;
}

static int takes(struct formula *f, char c)
{
    if (next(f) != c)
        return 0;
    f->at++;
    return 1;
}

static struct tensor call(struct formula *f, const char *name)
{
    const struct function *fn = find(name);
    struct tensor a[ARGUMENTS] = {none, none, none};

    if (!fn)
        return fail(f, "no such function");
    for (int i = 0; i < fn->arguments; i++) {
        if (i && !takes(f, ','))
            return fail(f, "',' is expected");
        a[i] = read_sum(f);
        if (failed(f))
            return none;
    }
    if (!takes(f, ')'))
        return fail(f, "')' is expected");
    if (fn->unary)
        return map(f, &a[0], fn->unary);
    return fn->row ? by_rows(f, &a[0], fn->row, fn->keep) : fn->array(f, a);
}

static struct tensor read_name(struct formula *f)
{
    struct tensor found;
    char name[NAME];
    size_t n = 0;

    while (isalnum((unsigned char)*f->at) || *f->at == '_' || *f->at == '.') {
        if (n + 1 == sizeof(name))
            return fail(f, "too long a name");
        name[n++] = *f->at++;
    }
    name[n] = '\0';
    if (takes(f, '('))
        return call(f, name);
    if (f->lookup(f->user, name, &found, f->err)) {
        error_set(f->err, 400, "no value '%s'", name);
        return none;
    }
    return widened(f, &found);
}

static struct tensor read_one(struct formula *f)
{
    const char c = next(f);
    char *end;
    double d;

    if (isdigit((unsigned char)c)) {
        d = strtod(f->at, &end);
        f->at = end;
        return number(f, d);
    }
    if (isalpha((unsigned char)c))
        return read_name(f);
    if (takes(f, '-')) {
        const struct tensor zero = number(f, 0), x = read_one(f);

        return combine(f, &zero, &x, f_sub);
    }
    if (takes(f, '(')) {
        const struct tensor x = read_sum(f);

        return failed(f) || takes(f, ')') ? x : fail(f, "')' is expected");
    }
    return fail(f, "a number, a name or '(' is expected");
}

static struct tensor read_product(struct formula *f)
{
    struct tensor x = read_one(f);

    for (char c; !failed(f) && ((c = next(f)) == '*' || c == '/');) {
        struct tensor y;

        f->at++;
        y = read_one(f);
        x = combine(f, &x, &y, c == '*' ? f_mul : f_div);
    }
    return x;
}

static struct tensor read_sum(struct formula *f)
{
    struct tensor x;

    if (++f->depth > DEPTH)
        return fail(f, "nested too deep");
    x = read_product(f);
    for (char c; !failed(f) && ((c = next(f)) == '+' || c == '-');) {
        struct tensor y;

        f->at++;
        y = read_product(f);
        x = combine(f, &x, &y, c == '+' ? f_add : f_sub);
    }
    f->depth--;
    return x;
}

static int give(struct formula *f, const struct tensor *x, const struct tensor *out)
{
    struct tensor v = *x;
    char has[96], wants[96];

    while (v.rank > out->rank && v.shape[0] == 1) {
        memmove(v.shape, v.shape + 1, sizeof(v.shape[0]) * (size_t)--v.rank);
        memmove(v.stride, v.stride + 1, sizeof(v.stride[0]) * (size_t)v.rank);
    }
    if (v.rank != out->rank || memcmp(v.shape, out->shape, sizeof(int64_t) * (size_t)v.rank) != 0)
        return error_set(f->err, 400, "formula '%.200s' gives %s, the value has %s", f->text,
                         tensor_shape_text(&v, has, sizeof(has)),
                         tensor_shape_text(out, wants, sizeof(wants)));
    for (int64_t i = 0; i < tensor_count(out); i++)
        data(out)[tensor_offset(out, i)] = data(&v)[i];
    return 0;
}

int formula_eval(const char *text, formula_lookup *lookup, void *user, const struct tensor *out,
                 struct error *err)
{
    struct error own = {0};
    struct formula f = {.text = text, .at = text, .lookup = lookup, .user = user, .err = &own};
    const struct tensor x = strlen(text) > FORMULA_MOST ? fail(&f, "too long") : read_sum(&f);

    if (!failed(&f) && next(&f))
        fail(&f, "the end is expected");
    if (!failed(&f))
        give(&f, &x, out);
    for (int i = 0; i < f.count; i++)
        free(f.owned[i]);
    if (own.code && err)
        *err = own;
    return own.code ? -1 : 0;
}
