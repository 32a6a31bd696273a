/* profile.h - where in a value two runs are apart: by position, by head, by ULP, and whether the error grows
 * with the position. */
#ifndef SAMEBIT_PROFILE_H
#define SAMEBIT_PROFILE_H

#include "client/align.h"
#include "client/preset.h"

/* ULP 0, 1, 2, 3 to 4, 5 to 8, ..., up to 2^32. */
enum { PROFILE_BINS = 34 };

/* Which axes of a value are what. */
struct profile_axes {
    int position, head; /* -1: none */
    int64_t width;      /* of a head where the last axis holds all of them, else 0 */
    int64_t heads, shape[TENSOR_MAX_RANK];
    int rank;
};

/* One position, or one head. */
struct profile_line {
    int64_t elements, differing; /* in bits, NaN of other bits left out */
    int64_t failing;             /* not close under the preset */
    double max_abs;              /* over pairs of numbers */
    double distance;             /* root of sum (a - b)^2 / sum b^2 over numbers below 1e30 */
};

/* The error of a position is its distance.  It grows where there are at least 16 positions, Spearman's rank
 * correlation of error and position is at least 0.7, the median of the last quarter is at least three
 * times that of the first, and more than the unit of rounding of the narrower dtype: rounding alone gives
 * each position about the same. */
struct profile_growth {
    int known, grows;
    double correlation, first, last; /* medians of the first and the last quarter */
};

struct profile {
    struct profile_axes axes;
    struct profile_line *positions, *heads; /* or NULL */
    int64_t position_count, head_count;
    int64_t histogram[PROFILE_BINS];
    int64_t nan_pairs;    /* a NaN faces a number: in no bin */
    enum dtype ulp_dtype; /* the narrower one */
    int64_t worst;        /* flat index of the largest |a - b|, -1: none */
    double worst_abs, distance;
    struct profile_growth growth;
};

/* What is what in a value of that name ("step_1/model.layers.0.self_attn.q_proj"): [T, X], [heads, T, X],
 * these with leading axes of one, and what projections give, whose last axis holds the heads. */
struct profile_axes profile_axes_of(const char *name, const int64_t *shape, int rank,
                                    const struct align_model *model);

/* a, b: floats, contiguous, equal counts, of the axes' shape.  preset: whose `failing` is counted. */
int profile_make(const struct tensor *a, const struct tensor *b, const struct profile_axes *axes,
                 const struct preset *preset, struct profile *out, struct error *err);
void profile_clear(struct profile *p);

/* The smallest and the largest ULP of a bin. */
void profile_bin(int bin, uint64_t *from, uint64_t *to);

#endif
