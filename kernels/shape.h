/* shape.h - shapes that are known before the number of tokens is.
 *
 * An extent is a constant, T (tokens of the call) or L (keys that the call's attention sees).
 * The output shape of every op follows from its inputs when the program is built, so the loop
 * cannot meet a wrong one and the size of any reply is known before the run. */
#ifndef SAMEBIT_SHAPE_H
#define SAMEBIT_SHAPE_H

#include "kernels/ops.h"
#include "kernels/base/error.h"

enum extent_kind { EXTENT_CONST, EXTENT_TOKENS, EXTENT_KEYS };

struct extent {
    enum extent_kind kind;
    int64_t n; /* CONST: the number.  KEYS: the sliding window, 0 = none. */
};

struct shape {
    enum dtype dtype;
    int rank;
    struct extent at[TENSOR_MAX_RANK];
};

/* The number an extent stands for in a call. */
int64_t extent_resolve(const struct extent *e, const struct op_scope *scope);
/* A contiguous tensor of that shape over data. */
struct tensor shape_resolve(const struct shape *s, const struct op_scope *scope, void *data);
/* "[14, T, L]", "[2, min(L, 4096), 64]"; returns out. */
char *shape_text(const struct shape *s, char *out, size_t size);
/* The axis whose extent is T (of keys and values: L), or -1. */
int shape_token_axis(const struct shape *s);
/* Returns whether dtype, rank and every extent are equal. */
int shape_equal(const struct shape *a, const struct shape *b);
/* Whether an extent is L. */
int shape_has_keys(const struct shape *s);

/* Output shape of op.  in: as many as the row has, then NULL; weights: as op_call has them, NULL
 * where the checkpoint has none.  An error (code 400) says what does not fit what, without naming
 * the row. */
int shape_of(enum op op, const struct op_attrs *attrs, const struct shape *const in[OP_INPUTS],
             const struct tensor *const weights[OP_WEIGHTS], struct shape *out, struct error *err);

#endif
