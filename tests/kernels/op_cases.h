/* op_cases.h - inputs for every operation of ops.def, as the tests of all backends walk them. */
#ifndef SAMEBIT_TESTS_KERNELS_OP_CASES_H
#define SAMEBIT_TESTS_KERNELS_OP_CASES_H

#include "kernels/backend.h"
#include "tests/kernels/cases.h"

/* Everything in host memory.  Rank 0: none. */
struct op_case {
    enum op op;
    struct tensor in[3];
    int count;
    struct tensor weight, bias;
    struct op_attrs attrs;
    struct op_scope scope;
    struct tensor out; /* shape and strides; data is NULL */
    char label[160];
};

typedef void op_case_fn(void *user, const struct op_case *c);

/* Calls fn with every case of an operation, always the same; inputs are freed when it returns.
 * 0, or -1 when there are no cases. */
int op_cases_walk(enum op op, op_case_fn *fn, void *user);
/* The same with matrix products of so many outputs that a GPU takes its larger tiles. */
void op_cases_walk_large(op_case_fn *fn, void *user);

/* Elements between the first of a tensor and the end of its last block along the first axis: the
 * memory that its strides need. */
int64_t op_case_storage(const struct tensor *t);

/* ---- for those who make cases ---- */

struct op_visit {
    op_case_fn *fn;
    void *user;
};
typedef void op_cases_fn(struct random *r, const struct op_visit *visit);

op_cases_fn op_cases_linear, op_cases_matmul_qk, op_cases_matmul_pv, op_cases_sdpa,
    op_cases_many_outputs;

enum { OP_CASE_TOKENS = 6 };
extern const int64_t op_case_tokens[OP_CASE_TOKENS];

bf16 *op_case_take(int64_t n);
struct tensor op_case_filled(struct random *r, enum fill fill, int rank, const int64_t *shape);
/* [heads, length, width] as a view into [heads, length + spare, width]. */
struct tensor op_case_filled_cache(struct random *r, enum fill fill, int64_t heads, int64_t length,
                                   int64_t width);
struct tensor op_case_empty(int rank, const int64_t *shape);
/* Shows the case to the visitor and frees its inputs. */
void op_case_finish(const struct op_visit *visit, struct op_case *c);

#endif
