/* compare.h - pairs the values of two sides and finds where they first differ.
 *
 * In three passes, so that numbers are fetched only where they are needed: compare_create pairs the
 * values and decides what it can by names, shapes and digests; the caller fetches the numbers of the
 * rows that are still COMPARE_OPEN; compare_run compares these and finds the first divergence. */
#ifndef SAMEBIT_COMPARE_H
#define SAMEBIT_COMPARE_H

#include "client/compare_stats.h"
#include "client/preset.h"
#include "client/profile.h"
#include "client/side.h"

enum compare_verdict {
    COMPARE_OPEN, /* numbers needed */
    COMPARE_EQUAL,
    COMPARE_CLOSE,   /* under a preset of tolerances: bits differ, and every pair is close */
    COMPARE_DIFFERS, /* in bits; under tolerances: some pair is not close, be it of two NaNs */
    COMPARE_SHAPE,   /* shapes differ by more than a batch of one */
    COMPARE_DTYPE,   /* dtypes that cannot be compared: I64 with floats, or two of which
                     * one is not supported (enum dtype) */
    COMPARE_ONLY_A,  /* missing in B */
    COMPARE_ONLY_B,
    COMPARE_VERDICTS
};

struct compare_row {
    const struct side_value *a, *b; /* NULL where missing */
    const char *name;               /* canonical */
    enum compare_verdict verdict;
    int widened;   /* dtypes differ: compared by value */
    int batch;     /* one side has a leading 1 that the other has not */
    int has_stats; /* stats hold numbers (what was COMPARE_OPEN) */
    struct compare_stats stats;
    int64_t failing, first_failing; /* under tolerances: elements that are not close; -1: none */
    struct profile *profile;        /* of floats that differ, after compare_profile; else NULL */
};

struct compare {
    struct compare_row *rows; /* in execution order, `tokens` first */
    int count;
    int totals[COMPARE_VERDICTS];
    int paired;            /* rows that both sides have */
    int64_t prompt_length; /* ids of `tokens` that are the prompt; <= 0 when not known */
    /* After compare_run. */
    int first; /* row of the first divergence, -1 when the values of both sides are equal */
    int64_t first_token;     /* first differing token id, -1 */
    int64_t elements, wrong; /* compared and differing elements of all rows */
    int64_t nan_other;       /* of all rows: NaN on both sides, of other bits */
    int nan_bits;            /* from the options */
    int64_t failing;         /* of all rows, under tolerances */
    struct preset preset;    /* from the options */
};

struct compare_options {
    const char *const *globs; /* canonical names to compare (glob.h); count 0: everything */
    int glob_count;
    int common;           /* leave out what only one side has */
    int nan_bits;         /* two NaNs of other bits differ; else any NaN is equal to any */
    struct preset preset; /* what counts as close; token ids have to be equal under each */
};

/* Borrows both sides. */
struct compare *compare_create(const struct side *a, const struct side *b,
                               const struct compare_options *options, struct error *err);
void compare_free(struct compare *c);

/* Reads the numbers of every open row.  progress (may be NULL) is told the value at hand and bytes;
 * not 0 ends the run with an error. */
int compare_run(struct compare *c,
                int (*progress)(void *user, const char *name, uint64_t done, uint64_t all),
                void *user, struct error *err);

/* Profiles each row of floats that differs in bits or is not close.  model: where the number and width of
 * heads are known; what is 0 is taken from the shapes of q_rope, k_rope and keys, where a side has them. */
int compare_profile(struct compare *c, const struct align_model *model, struct error *err);

/* 1 when every row is equal, or close. */
int compare_same(const struct compare *c);

const char *compare_verdict_name(enum compare_verdict verdict);

#endif
