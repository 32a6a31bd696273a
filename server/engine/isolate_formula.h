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

/* Sets *out to the tensor of that name (F64 or BF16, any strides; borrowed for the evaluation).
 * Returns 0, or -1 with a 400 that says why there is none. */
typedef int formula_lookup(void *user, const char *name, struct tensor *out, struct error *err);

/* Writes the value to out (F64, any strides), whose shape it must have, but for axes of one in front.
 * Errors: 400, saying where in the text. */
int formula_eval(const char *text, formula_lookup *lookup, void *user, const struct tensor *out,
                 struct error *err);

/* "mean(x): ...", a line each. */
const char *formula_names(void);

#endif
