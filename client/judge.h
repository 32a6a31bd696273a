/* judge.h - whether rounding alone explains what a program computed.
 *
 * The yardstick is computed: `ideal` is the same step in binary64, on the program's own inputs, and
 * `torch` is PyTorch's result on them.  PyTorch's distance from the ideal is what rounding to
 * bf16 causes there; a program of another dtype is allowed that distance, scaled by its unit of
 * rounding.  PyTorch's own bits are equal, but in a program of a finer dtype, where it is a mistake to
 * round to bf16. */
#ifndef SAMEBIT_JUDGE_H
#define SAMEBIT_JUDGE_H

#include "kernels/base/tensor.h"

enum judge_verdict { JUDGE_EQUAL, JUDGE_ROUNDING, JUDGE_BEYOND, JUDGE_VERDICTS };

struct judge {
    enum judge_verdict verdict;
    int64_t count, differing; /* elements; those of them that are not equal to PyTorch's */
    double distance;          /* root of sum (theirs - ideal)^2 / sum ideal^2 */
    double floor;             /* the distance that rounding alone can cause */
    double limit;             /* several times the floor: more is not due to rounding */
    double worst_row;         /* largest error of one row, divided by the RMS of the rows' norms */
    double bias;              /* sum (theirs - ideal) ideal / sum ideal^2, which is scale - 1 */
    double scale;             /* the factor by which ideal comes nearest to theirs */
    double scaled;            /* distance between theirs and scale * ideal */
    int64_t nan;   /* elements that are NaN in theirs and not in ideal: distance is NaN then */
    int64_t wrong; /* NaN where there is none, masked where it is seen, seen where it is masked */
    int64_t off;   /* of a bf16 program: elements that are not equal to ideal rounded to bf16 */
    int64_t worst; /* index of the element with the largest error, -1: none has any */
};

/* The unit of rounding of a dtype: half the distance from 1 to its next number.  F32 whose every
 * element is a bf16 number counts as bf16; F64 counts as F32, because transformers itself computes
 * the rotation's angles in F32. */
double judge_unit(enum dtype dtype, int holds_bf16);
/* Whether every element of an F32 tensor is a bf16 number. */
int judge_holds_bf16(const struct tensor *t);

/* The tensors have equal counts and are contiguous.  torch may be NULL: then the floor is `floor`.
 * unit: judge_unit of theirs.  op: of ops.def; where it is a sum, an F32 program's limit is wider,
 * since the error of a sum grows with its length. */
void judge_run(const struct tensor *theirs, const struct tensor *ideal, const struct tensor *torch,
               double unit, const char *op, double floor, struct judge *out);

extern const double judge_bf16; /* judge_unit(DTYPE_BF16) */

const char *judge_name(enum judge_verdict verdict);

#endif
