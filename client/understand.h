/* understand.h - whose value is whose: a dump in another program's names and layouts, as ours. */
#ifndef SAMEBIT_UNDERSTAND_H
#define SAMEBIT_UNDERSTAND_H

#include <stdio.h>

#include "client/align.h"
#include "kernels/base/safetensors.h"

struct understand_options {
    struct align_model model;
    int layers;          /* 0: not known */
    const json_t *known; /* name or alias -> our path */
    const json_t *map;   /* {"their name or regular expression": "our path"}, or NULL; \1 to \9 */
};

struct understood {
    /* The values in our names, shapes and order, and what was not understood in theirs. */
    struct safetensors *file;
    /* Our values, cut to the rows that theirs have; NULL where none had to be. */
    struct safetensors *reference;
    /* A row for each of theirs, in their order: {"name", "value" (paths) or null, "how": "exact",
     * "given", "name" or "numbers", "layout", "distance", "nearest": [{"value", "distance"}]} */
    json_t *rows;
    int renamed, moved, unmatched; /* how many are not as they were; how many are not understood */
};

/* Whether every name of the dump is one of the reference's, with its shape or a batch of one. */
int understand_needless(const struct safetensors *dump, const struct safetensors *reference);

/* reference: our values of the same run, which the dump's are held against.  Errors: 400, 500. */
int understand(const struct safetensors *dump, const struct safetensors *reference,
               const struct understand_options *o, struct understood *out, struct error *err);
void understood_clear(struct understood *u);

/* The known paths that the dump's names mean by themselves, to ask a daemon for: an array of
 * strings.  *unknown: how many names mean nothing by themselves. */
json_t *understand_names(const struct safetensors *dump, const struct understand_options *o,
                         int *unknown);

/* {"their name": "our path"} of all that was understood. */
json_t *understood_map(const struct understood *u);
/* What was understood and what not, a line each, for people. */
void understood_print(const struct understood *u, FILE *stream);

#endif
