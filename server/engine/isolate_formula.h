/* isolate_formula.h - array expressions in binary64, in which hypotheses about a port are written:
 *
 *     w * (x / (sqrt(mean(x * x)) + eps))
 *     linear(x, transpose(w))
 *
 * A name is what `lookup` gives for it; shapes broadcast as numpy's do.  Functions: formula_names()
 * lists them, with what each does. */
#ifndef SAMEBIT_ISOLATE_FORMULA_H
#define SAMEBIT_ISOLATE_FORMULA_H

#include "kernels/base/error.h"
#include "kernels/base/tensor.h"

enum { FORMULA_MOST = 1000 }; /* characters of an expression */

/* Sets *out to the tensor of that name (any type but I64, any strides; borrowed for the evaluation).
 * Returns 0, or -1 with a 400 that says why there is none. */
typedef int formula_lookup(void *user, const char *name, struct tensor *out, struct error *err);

/* What an evaluation may use. */
struct formula_means {
    formula_lookup *lookup;
    /* Asked before each array that is made on the way; not 0 ends the evaluation, err says why.  May be
     * NULL. */
    int (*poll)(void *user, struct error *err);
    void *user;
    uint64_t bytes; /* of these arrays */
};

/* Writes the value to out (F64, any strides), whose shape it must have, but for axes of one in front.
 * Errors: 400, saying where in the text. */
int formula_eval(const char *text, const struct formula_means *means, const struct tensor *out,
                 struct error *err);

/* "mean(x): ...", a line each. */
const char *formula_names(void);

#endif
