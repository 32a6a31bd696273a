/* aten_probe.h - what a softmax's kernel adds up before it divides: a wrong order shows in the sum
 * at once, in a weight rounded to bf16 hardly ever. */
#ifndef SAMEBIT_TESTS_KERNELS_ATEN_PROBE_H
#define SAMEBIT_TESTS_KERNELS_ATEN_PROBE_H

#include "kernels/backend.h"
#include "kernels/base/bf16.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The sum of exponentials of each row, with the launch of aten_softmax.  x, sums: of the host.
 * 0, or -1. */
int aten_probe_sums(struct backend *b, const bf16 *x, int64_t rows, int64_t length, float *sums);

#ifdef __cplusplus
}
#endif

#endif
