/* ideal.h - every operation in binary64: what mathematics gives, of the same bf16 weights.
 *
 * Nobody's bits.  Its distance from PyTorch's values, on the same inputs, is what rounding alone
 * explains.  Contracts are those of ops.h with every rounding to bf16 left out and sums in binary64;
 * masked scores are bf16's lowest value, as they are there, so that rows that see nothing mean the
 * same. */
#ifndef SAMEBIT_CPU_IDEAL_H
#define SAMEBIT_CPU_IDEAL_H

#include "kernels/ops.h"

/* Fills the table: F64 activations, plain bf16 weights. */
void ideal_fill(op_fn **op);

/* Row r of x times row n of a bf16 matrix of `width` columns, in binary64. */
double ideal_dot(const double *x, const double *w, int64_t width);

#endif
