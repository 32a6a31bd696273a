/* judge.h - whether rounding alone explains what a program computed.
 *
 * The yardstick is computed: `ideal` is the same step in binary64, on the program's own inputs, and
 * `torch` is PyTorch's result on them.  How far PyTorch's bits lie from the ideal is what bf16's
 * rounding does there; a program of another dtype has that, scaled by its unit of rounding. */
#ifndef SAMEBIT_JUDGE_H
#define SAMEBIT_JUDGE_H

#include "kernels/base/tensor.h"

enum judge_verdict { JUDGE_EQUAL, JUDGE_ROUNDING, JUDGE_BEYOND, JUDGE_VERDICTS };

struct judge {
    enum judge_verdict verdict;
    int64_t count, differing; /* elements; of these other than PyTorch's, by value */
    double distance;          /* root of sum (theirs - ideal)^2 / sum ideal^2 */
    double floor;             /* the same that rounding explains */
    double limit;             /* beyond it is no rounding */
    double worst_row;         /* the largest distance of one row, of the mean row's length */
    double bias;   /* sum (theirs - ideal) ideal / sum ideal^2: a common factor, less one */
    double scale;  /* the factor that brings ideal nearest to theirs, */
    double scaled; /* and the distance that is left */
    int64_t wrong; /* NaN where there is none, masked where it is seen, seen where it is masked */
    int64_t off;   /* of a bf16 program: elements that ideal, rounded to bf16, is not */
    int64_t worst; /* element of the largest distance, -1 */
};

/* Half the distance from 1 to the next number of the dtype that the values are of: F32 that holds
 * nothing but bf16 numbers counts as bf16, F64 as F32, in which transformers itself has the angles. */
double judge_unit(enum dtype dtype, int holds_bf16);
/* Whether every element of an F32 tensor is a bf16 number. */
int judge_holds_bf16(const struct tensor *t);

/* All of equal count, contiguous; torch may be NULL: then the floor is `floor`.  unit: of theirs.
 * op: by which the error of sums is known to grow. */
void judge_run(const struct tensor *theirs, const struct tensor *ideal, const struct tensor *torch,
               double unit, const char *op, double floor, struct judge *out);

extern const double judge_bf16; /* judge_unit(DTYPE_BF16) */

const char *judge_name(enum judge_verdict verdict);

#endif
