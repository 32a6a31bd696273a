/* isolate_functions.c - see isolate_functions.h. */
#include "server/engine/isolate_functions.h"

#include <math.h>
#include <string.h>

#include "server/engine/isolate_formula.h"
#include "server/engine/isolate_tensors.h"

/* ---- elements ---- */

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

static double f_f32(double x)
{
    return (double)(float)x;
}

/* To a multiple of the last of `bits` bits of the significand, ties to even; smallest: the exponent
 * (frexp's) below which the step stays. */
static double rounded(double x, int bits, int smallest)
{
    const int shift = 53 - bits;
    uint64_t u;
    int exponent;

    memcpy(&u, &x, sizeof(u));
    exponent = (int)(u >> 52 & 0x7ff) - 1022;
    if (exponent >= smallest && exponent <= 1000) { /* by its bits, which is quick */
        u += ((UINT64_C(1) << (shift - 1)) - 1) + (u >> shift & 1);
        u &= ~((UINT64_C(1) << shift) - 1);
        memcpy(&x, &u, sizeof(x));
        return x;
    }
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

/* e4m3: 3 bits behind the point, no infinity */
static double f_f8(double x)
{
    const double y = rounded(x, 4, -5);

    return fabs(y) > 448 ? copysign(448, y) : y;
}

static double f_tf32(double x)
{
    return rounded(x, 11, -125);
}

/* ---- along the last axis ---- */

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

    double middle[15];

    for (int k = 0; k < 15; k++)
        middle[k] = (code[k] + code[k + 1]) / 2;
    for (int64_t first = 0; first < n; first += 64) {
        const int64_t end = first + 64 < n ? first + 64 : n;
        double most = 0;

        for (int64_t i = first; i < end; i++)
            most = fabs(x[i]) > most ? fabs(x[i]) : most;
        for (int64_t i = first; i < end; i++) {
            const double share = most > 0 ? x[i] / most : -1;
            int best = 0;

            for (int k = 0; k < 15; k++)
                best += share > middle[k];
            y[i] = most * code[best];
        }
    }
}

/* ---- the list ---- */

static const struct function functions[] = {
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
    {"bf16", 1, array_to_bf16, NULL, 0, NULL},
    {"f16", 1, f_f16, NULL, 0, NULL},
    {"f32", 1, f_f32, NULL, 0, NULL},
    {"f8", 1, f_f8, NULL, 0, NULL},
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
    {"transpose", 1, NULL, NULL, 0, array_transpose},
    {"flat", 1, NULL, NULL, 0, array_flat},
    {"heads", 2, NULL, NULL, 0, array_heads},
    {"repeat", 2, NULL, NULL, 0, array_repeat},
    {"tile", 2, NULL, NULL, 0, array_tile},
    {"shift", 2, NULL, NULL, 0, array_shift},
    {"join", 2, NULL, NULL, 0, array_join},
    {"part", 3, NULL, NULL, 0, array_part},
    {"linear", 2, NULL, NULL, 0, array_linear},
    {"linear_bf16", 2, NULL, NULL, 0, array_linear_bf16},
    {"matmul", 2, NULL, NULL, 0, array_matmul},
    {"angles", 2, NULL, NULL, 0, array_angles},
    {"frequencies", 2, NULL, NULL, 0, array_frequencies},
    {"masked", 3, NULL, NULL, 0, array_masked},
    {"windowed", 3, NULL, NULL, 0, array_windowed},
};

const char *formula_names(void)
{
    return "element by element: sqrt rsqrt square exp tanh erf abs sin cos relu sigmoid\n"
           "rounding: bf16 f16 f32 f8 (e4m3) tf32, of a row int8 and nf4\n"
           "of a row to one number: mean sum max; to a row: softmax, halves (rotate_half), pairs\n"
           "(rotate neighbours), spread (the first half, each twice)\n"
           "transpose(x): the last two axes; heads(x, n): [T, n*D] as [n, T, D]; flat(x): back\n"
           "repeat(x, n), tile(x, n): heads, each n times, or all n times; shift(x, k): rows\n"
           "join(x, y): rows of x, then those of y; part(x, first, count): some rows\n"
           "linear(x, w): x w^T; linear_bf16: its sums in bf16; matmul(a, b)\n"
           "angles(positions, frequencies); frequencies(theta, D)\n"
           "masked(scores, k, value): keys more than k after their query; windowed(scores, n, "
           "value)\n";
}

const struct function *function_find(const char *name)
{
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
        if (strcmp(functions[i].name, name) == 0)
            return &functions[i];
    return NULL;
}
