/* align.h - another program's layout of a value, read as ours.
 *
 * Both hold the same numbers in another order: heads last instead of first, heads flattened, axes
 * swapped, pairs of a rotation side by side, axes of one.  All of these are views: no number
 * moves. */
#ifndef SAMEBIT_ALIGN_H
#define SAMEBIT_ALIGN_H

#include "kernels/base/tensor.h"

struct align_model {
    int64_t heads, kv_heads, width; /* 0: not known */
    int64_t tokens;                 /* of the call */
    int named;                      /* the value is known by its name, not by its numbers */
};

struct alignment {
    struct tensor view;  /* of the other's data: row-major order of it is that of `value` */
    struct tensor value; /* ours: rank and shape; without data */
    int64_t first_row;   /* of the reference, where only its last row is there; else 0 */
    double distance;     /* see align_distance(); infinite where nothing is comparable */
    char layout[96];     /* what was done, in words; "" for nothing */
};

/* Returns sqrt(sum (a - b)^2 / sum b^2 + m) over the elements that are numbers below 1e30 in both; m is the
 * share of all elements that are masked (1e30 or more) in one alone, since where the mask stands belongs to the
 * layout.  Infinity where there is nothing to compare.  a and b have equal counts and any strides. */
double align_distance(const struct tensor *a, const struct tensor *b);

/* Finds the layout in which other is nearest to reference (contiguous).  One other than the plain
 * layout is chosen only if the plain one does not fit the shape, or is clearly farther.
 * Returns 0, or -1 when none fits. */
int align_find(const struct align_model *m, const struct tensor *other,
               const struct tensor *reference, struct alignment *out);

/* Finds the layout in which other holds two or three matrices [T, columns] joined into one: beside each
 * other in either order, column by column, of queries, keys and values also head by head.  out: one for
 * each part.  Returns 0, or -1 where the number of elements does not fit. */
int align_fused(const struct align_model *m, const struct tensor *other,
                const struct tensor *const *parts, int count, struct alignment *out);

#endif
