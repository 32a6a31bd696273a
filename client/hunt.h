/* hunt.h - someone's dump and the daemon's values of the same run, under the same names. */
#ifndef SAMEBIT_HUNT_H
#define SAMEBIT_HUNT_H

#include "client/client.h"
#include "client/side.h"
#include "client/understand.h"

struct hunt {
    struct side *theirs, *ours;
    json_t *request;       /* what ours is the answer to */
    json_t *catalogue;     /* the daemon's values, in order; NULL for one of samebit's own files */
    json_t *understanding; /* rows as struct understood has them; NULL where nothing had to be */
    json_t *only_eager; /* a name of the dump for which eager is asked, not the default; or NULL */
    struct align_model model; /* of the daemon, or as far as two files tell */
    int64_t
        padding;  /* first tokens that the dump's attention_mask leaves out, asked for so; else 0 */
    int from_one; /* the dump counts layers from 1 */
    json_t *unused;          /* keys of the map that no name of the dump fits; or NULL */
    struct understood found; /* its files have gone into the sides */
};

/* label: of the dump.  dump is taken.  asked: what the user says of the run (prompt, attention,
 * ...), borrowed; map: names, or NULL.  Errors: what the daemon says; 400. */
int hunt_open(struct hunt *h, struct client *c, const char *label, struct safetensors *dump,
              const json_t *asked, const json_t *map, struct error *err);
/* Two files: b's names are the known ones. */
int hunt_files(struct hunt *h, const char *label_a, struct safetensors *a, const char *label_b,
               struct safetensors *b, const json_t *map, struct error *err);
void hunt_close(struct hunt *h);

/* How the dump was understood, and what of it could not be read, for people. */
void hunt_print(const struct hunt *h, const struct side *theirs, FILE *stream);
/* Adds to an error what of the dump was not understood, so that it is not silent about it. */
void hunt_explain(const struct hunt *h, const struct side *theirs, struct error *err);
/* A map from a file, or NULL with an error.  dump: whose names it may have as they are; or NULL. */
json_t *hunt_read_map(const char *path, const struct safetensors *dump, struct error *err);
int hunt_save_map(const struct hunt *h, const char *path, struct error *err);

#endif
