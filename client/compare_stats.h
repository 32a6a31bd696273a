/* compare_stats.h - how far two tensors of equal count are apart.
 *
 * The yardstick is bits: elements differ when their bit patterns do, so -0 differs from +0.  Only a
 * NaN is equal to a NaN of any bits, and counted where the bits are others, unless the caller wants
 * the bits of NaNs to count too.  Where the dtypes differ both sides are widened to F32 (exact; to
 * F64 where one is F64) and the bits of that are compared.  Distances are taken in F64. */
#ifndef SAMEBIT_COMPARE_STATS_H
#define SAMEBIT_COMPARE_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/tensor.h"

struct compare_stats {
    int64_t count;     /* elements of one side */
    int64_t differing; /* elements whose bits differ; with nan_bits also two NaNs of other bits */
    int64_t nan_other; /* elements that are NaN on both sides, of other bits; counted in any case */
    int64_t nan_pairs; /* elements where a NaN faces a number */
    double max_abs;  /* largest |a - b|; NaN when nan_pairs; infinity where only one is infinite */
    double mean_abs; /* over all elements, equal ones included; NaN when nan_pairs */
    /* Largest number of representable steps between a and b over the pairs of numbers, in the
     * narrower dtype of the two (both rounded to it): 0 between -0 and +0, 1 from the largest
     * finite number to infinity.  Of two signs the steps are counted through zero, every denormal
     * being one: 2 between the smallest denormal and its negative, 2 x 0x3f80 between 1 and -1 in
     * BF16.  I64: the difference itself. */
    uint64_t max_ulp;
    enum dtype ulp_dtype;
    double cosine; /* 1 where nothing differs or both are all zero, 0 where one is; NaN with NaN or
                      inf */
    int64_t first; /* flat index of the first differing element, -1 when there is none */
};

/* 1: floats with floats and I64 with I64 can be compared. */
int compare_stats_possible(enum dtype a, enum dtype b);

/* a, b: contiguous, the same number of elements, compare_stats_possible().  One pass; nothing is
 * allocated; the result depends on nothing but the elements.  nan_bits: two NaNs of other bits
 * differ. */
void compare_stats_run(const struct tensor *a, const struct tensor *b, int nan_bits,
                       struct compare_stats *out);

/* Steps between two numbers in a dtype, as max_ulp has it; 0 where one is a NaN. */
uint64_t compare_stats_ulps(enum dtype dtype, double a, double b);

/* Element i of a tensor of floats; of one of I64. */
double compare_stats_element(const struct tensor *t, int64_t i);
int64_t compare_stats_integer(const struct tensor *t, int64_t i);

/* Element i as text: the fewest digits that read back to the same bits of its dtype; "nan", "inf",
 * "-0".  Returns out. */
char *compare_stats_text(const struct tensor *t, int64_t i, char *out, size_t size);

#endif
