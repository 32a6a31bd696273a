/* trial.h - one hypothesis, run for a value of the dump: how near does what it computes come?
 *
 * A hypothesis is a row of configs/hypotheses: {"name", "op", "rows" (a glob, optional), "says",
 * "formula", "values" (optional: names in the layer that the formula reads), "loose" (it rounds on the
 * way, where a tie may fall otherwise), "with" (a name that hypotheses share which are one mistake made
 * in several steps), "wide" (of a value that a bf16 program keeps in float32)}. */
#ifndef SAMEBIT_TRIAL_H
#define SAMEBIT_TRIAL_H

#include "client/isolate.h"

struct trial {
    const struct isolation *x;
    const struct isolate_row *row; /* the value */
    const json_t *hypotheses;
    const char *path;      /* the step that formulas stand for */
    const json_t *best;    /* the hypothesis that comes nearest, */
    const char *best_path; /* for this step */
    struct judge judge;    /* and how near */
    json_t *nearest;       /* [{hypothesis, says, distance}], nearest first */
    struct progress *progress;
    uint64_t tried, all; /* hypotheses */
};

/* The text of a row under a key, or NULL. */
const char *trial_text(const json_t *row, const char *key);

/* "self_attn.q_rope" of "model.layers.0.self_attn.q_rope", "x" of "model.layers.0"; the path itself
 * outside of the layers.  prefix: set to "model.layers.0.", or "". */
const char *trial_row_name(const struct isolation *x, const char *path, char *prefix, size_t size);

/* Whether a hypothesis is one of that step. */
int trial_fits(const struct isolation *x, const json_t *h, const char *path);

/* Runs it for t->path.  What cannot be run here (no bias, another shape, a value that the dump lacks)
 * says nothing.  -1: the daemon does not answer. */
int trial_run(struct trial *t, const json_t *h, struct error *err);

/* Runs it, and those that go with it, for every step on the value's path that it fits, if these are
 * several and no hypothesis before it goes with it; else nothing. */
int trial_run_path(struct trial *t, const json_t *h, const json_t *path, struct error *err);

/* Whether the best reproduces the dump's values: within rounding; where the hypothesis rounds on the way,
 * where a tie falls may differ; of values that rounding explains, by the bits. */
int trial_explains(const struct trial *t);

#endif
