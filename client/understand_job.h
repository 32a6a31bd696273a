/* understand_job.h - what understand.c, which finds what a dump's values are, shares with understand_names.c
 * and understand_write.c; nobody else includes it. */
#ifndef SAMEBIT_UNDERSTAND_JOB_H
#define SAMEBIT_UNDERSTAND_JOB_H

#include "client/understand.h"

/* A value as it will stand in the file. */
struct understand_piece {
    char *name;
    struct tensor view, shape;
    int reference;     /* position there; for what was not understood, behind all */
    int64_t first_row; /* of the reference, as struct alignment has it */
};

struct understand_job {
    const struct safetensors *dump, *reference;
    const struct understand_options *o;
    struct understood *out;
    struct understand_piece *pieces;
    int count;
    char *claimed; /* by position in the reference */
};

/* How a name is understood ("given", "exact", "name"), or NULL; out: paths joined by "+". */
const char *understand_meaning(const struct understand_options *o, const char *name, char *out,
                               size_t size);
/* Writes the n-th path of those joined by "+".  Returns 0 where there are not so many. */
int understand_path_at(const char *paths, int n, char *out, size_t size);

/* Whether a value that has no layer in its name holds one value of each layer: returns how many, and the path with
 * "*" for the layer; 0: no. */
int understand_stacked(const struct understand_options *o, const struct safetensors_entry *e,
                       char *pattern, size_t size);
/* Writes our path of layer i.  Returns 0 where it is none. */
int understand_stacked_path(const struct understand_options *o, const char *pattern, int i,
                            char *out, size_t size);

/* Writes the pieces into out->file, and into out->reference what of it has fewer rows.  -1: failed. */
int understand_write(struct understand_job *j, struct error *err);

#endif
