/* understand.h - finds which of our values each value of another program's dump is, and rewrites the
 * dump with our names, shapes and order. */
#ifndef SAMEBIT_UNDERSTAND_H
#define SAMEBIT_UNDERSTAND_H

#include <stdio.h>

#include "client/align.h"
#include "kernels/base/safetensors.h"

struct understand_options {
    struct align_model model;
    int layers;          /* 0: not known */
    const json_t *known; /* name or alias -> our path */
    int from_one;        /* their layers are counted from 1: understand_counts_from_one() */
    const json_t
        *map; /* {"their name or regular expression": "our path"}, or NULL; \1 to \9; "*" for
                          * the layer where the leading axis holds all of them */
};

struct understood {
    /* The dump rewritten: values that were not understood keep their own names and shapes. */
    struct safetensors *file;
    /* Our values, cut to the rows that the dump has; NULL if nothing had to be cut. */
    struct safetensors *reference;
    /* A row for each of theirs, in their order: {"name", "value" (paths) or null, "how": "exact",
     * "given", "name", "numbers", "stacked" (one layer of several in one array; the first has "pattern",
     * where * is the layer) or "again", "layout", "distance", "nearest": [{"value", "distance"}],
     * "misfit": in words, where the name is known and the shape does not fit} */
    json_t *rows;
    int renamed, moved, unmatched; /* values renamed; values rearranged; values not understood */
};

/* Returns whether a dump needs no rewriting: each of its names is one of the reference's, with the
 * same shape but for a batch of one, and none could not be read. */
int understand_needless(const struct safetensors *dump, const struct safetensors *reference);

/* Rewrites a dump.  reference: our values of the same run, which the dump's numbers are compared with.
 * Errors: 400, 500. */
int understand(const struct safetensors *dump, const struct safetensors *reference,
               const struct understand_options *o, struct understood *out, struct error *err);
void understood_clear(struct understood *u);

/* Returns whether a dump counts layers from 1: its names, none of which are ours, have no layer 0 and one that
 * would be behind the last. */
int understand_counts_from_one(const struct safetensors *dump, const struct understand_options *o);

/* Returns the paths that can be told from the dump's names alone, those that are left out included,
 * to ask a daemon for: an array of strings.  unknown: an array; names that tell nothing are added. */
json_t *understand_names(const struct safetensors *dump, const struct understand_options *o,
                         json_t *unknown);

/* Returns 0 if every key of a map is a regular expression or a name of the dump (may be NULL), else a
 * 400 that names the file and the key. */
int understand_map_check(const json_t *map, const struct safetensors *dump, const char *file,
                         struct error *err);
/* Returns the keys of a map (may be NULL) that no name of the dump fits: an array of strings. */
json_t *understand_map_unused(const json_t *map, const struct safetensors *dump);

/* Returns {"their name": "our path"} for all values that were understood. */
json_t *understood_map(const struct understood *u);
/* Prints what was understood and what was not, a line each. */
void understood_print(const struct understood *u, FILE *stream);

#endif
