/* rows.h - the loops over one row that every operation but the matrix products is made of.
 *
 * The same source (rows_body.h) is compiled for several instruction sets; nothing in it lets a
 * compiler change an order or a rounding, so all have equal bits.  n is the number of elements. */
#ifndef SAMEBIT_CPU_ROWS_H
#define SAMEBIT_CPU_ROWS_H

#include <stdint.h>

#include "kernels/base/bf16.h"
#include "kernels/ops.h"

enum { ROWS_DOTS = 4 };

struct rows {
    const char *isa; /* "avx512_bf16", "avx2", "neon", "plain" */
    void (*add)(const bf16 *a, const bf16 *b, bf16 *y, int64_t n);
    void (*mul)(const bf16 *a, const bf16 *b, bf16 *y, int64_t n);
    void (*add_value)(const bf16 *x, float value, bf16 *y, int64_t n);
    void (*scale)(const bf16 *x, float by, bf16 *y, int64_t n);
    void (*divide)(const bf16 *x, float by, bf16 *y, int64_t n);
    void (*tanh)(const bf16 *x, bf16 *y, int64_t n);
    void (*silu)(const bf16 *x, bf16 *y, int64_t n);
    /* y = bf(bf(silu(x)) * up). */
    void (*gate)(const bf16 *x, const bf16 *up, bf16 *y, int64_t n);
    void (*gelu_tanh)(const bf16 *x, bf16 *y, int64_t n); /* none of them left over: gelu.h */
    void (*rms_norm)(const bf16 *x, const bf16 *w, enum norm_weight weight, float eps, bf16 *y,
                     int64_t n);
    /* lanes: 8 or 16. */
    void (*layer_norm)(const bf16 *x, const bf16 *w, const bf16 *b, float eps, bf16 *y, int64_t n,
                       int lanes);
    /* One head: x, cos, sin and y have n elements, n is even. */
    void (*rope)(const bf16 *x, const bf16 *cos, const bf16 *sin, bf16 *y, int64_t n);
    /* The same as ops.h says for attrs. */
    void (*rope_as)(const struct op_attrs *attrs, const bf16 *x, const bf16 *cos, const bf16 *sin,
                    bf16 *y, int64_t n);
    /* lanes: 8 or 16 (numerics.h, "softmax"). */
    void (*softmax)(const bf16 *x, bf16 *y, int64_t n, int lanes);
    /* sum(exp(x - max)), in the softmax's order; *max is set. */
    float (*exp_sum)(const bf16 *x, int64_t n, int lanes, float *max);
    /* The first of the greatest, or the first NaN; 0 where n is 0. */
    int64_t (*argmax)(const bf16 *x, int64_t n);
    /* Of numerics ideal: y[i] = x times row i of w, i < ROWS_DOTS; each has the bits of ideal_dot(). */
    void (*dots)(const double *x, const double *w, int64_t n, double *y);
};

/* Each is there where its instructions may be: versions.c has the table. */
extern const struct rows rows_plain, rows_avx2, rows_avx512, rows_neon;

/* The widest that this CPU has. */
const struct rows *rows_best(void);

#endif
