/* isolate_arrays.h - the arrays that the evaluation of a formula (isolate_formula.h) computes with:
 * contiguous F64, each with memory of its own, all freed together at the end.
 *
 * A function that fails sets the formula's error, once, and returns array_none; one whose formula has
 * failed before returns array_none at once. */
#ifndef SAMEBIT_ISOLATE_ARRAYS_H
#define SAMEBIT_ISOLATE_ARRAYS_H

#include "kernels/base/error.h"
#include "kernels/base/tensor.h"
#include "server/engine/isolate_formula.h"

enum { FORMULA_ARRAYS = 256 }; /* of one evaluation, with all that is computed on the way */

/* One evaluation: how far it has read, and what it owns. */
struct formula {
    const char *text, *at;
    const struct formula_means *means;
    struct error *err;
    uint64_t bytes; /* of all that it owns */
    double *owned[FORMULA_ARRAYS];
    int count, depth;
};

typedef double unary_fn(double x);
typedef double binary_fn(double a, double b);
/* From a row of n to one of n, or to one number. */
typedef void row_fn(const double *x, double *y, int64_t n);
/* a: as many as the function takes. */
typedef struct tensor array_fn(struct formula *f, const struct tensor *a);

extern const struct tensor array_none; /* its rank is -1 */

/* A 400 that says what is wrong, and where in the text. */
struct tensor array_fail(struct formula *f, const char *what);
int array_failed(const struct formula *f);
double *array_data(const struct tensor *t);

/* Fails too where means->poll says so, and beyond means->bytes. */
struct tensor array_make(struct formula *f, int rank, const int64_t *shape);
struct tensor array_number(struct formula *f, double d);
/* A copy of a tensor of any type and strides. */
struct tensor array_widened(struct formula *f, const struct tensor *from);
void array_free_all(struct formula *f);

/* x as bf16 has it: the nearest, ties to even. */
double array_to_bf16(double x);

/* fn of each element. */
struct tensor array_map(struct formula *f, const struct tensor *a, unary_fn *fn);
/* fn of each pair of elements; shapes broadcast as numpy's do. */
struct tensor array_combine(struct formula *f, const struct tensor *a, const struct tensor *b,
                            binary_fn *fn);
/* fn of each row along the last axis.  keep: 1: rows as long as before, 0: of one. */
struct tensor array_by_rows(struct formula *f, const struct tensor *a, row_fn *fn, int keep);

#endif
