/* side.h - one side of a comparison: a list of named values, from a trace file or from the digests
 * a daemon gave.
 *
 * What dump_open() could not read is a value too: of rank -1, without numbers.
 *
 * If `ordered`, values are in the order of execution: those of files written by samebit are, others
 * are in the order of the file.  A value has an entry (numbers), a digest, or both. */
#ifndef SAMEBIT_SIDE_H
#define SAMEBIT_SIDE_H

#include <jansson.h>

#include "kernels/base/error.h"
#include "kernels/base/safetensors.h"

struct side_value {
    char *name;      /* as in the file: "step_1/model.layers.0.mlp" */
    char *canonical; /* the same with aliases of this side resolved */
    char dtype[16];
    int rank; /* -1: not known (a dtype we do not compute with) */
    int64_t shape[TENSOR_MAX_RANK];
    char sha256[65];                       /* "" when not known */
    const struct safetensors_entry *entry; /* NULL until fetched */
};

struct side {
    char *label;      /* the path or URL as given */
    json_t *metadata; /* object, never NULL */
    struct side_value *values;
    int count;
    int ordered;
    struct safetensors *file; /* or NULL */
    /* private */
    json_t *index;                   /* name -> position */
    json_t *aliases;                 /* alias -> path */
    struct safetensors_entry tokens; /* of a digest reply, over ids */
    int64_t *ids;
};

/* Takes the file: side_free closes it.  NULL when memory is out; the file is closed then too. */
struct side *side_from_file_take(const char *label, struct safetensors *file, struct error *err);

/* From the reply to a digest request: {"values": {name: {"shape", "dtype", "sha256"}, ...},
 * "tokens": [ids], ...}; the ids become the value `tokens`, with numbers.  label stands for its
 * origin in errors; reply is borrowed. */
struct side *side_from_digests(const char *label, const json_t *reply, struct error *err);

void side_free(struct side *s);

/* The value of that name, canonical name or alias, or NULL. */
struct side_value *side_find(const struct side *s, const char *name);

/* Sets the entries of values that have none to those of the same name in file, which it takes. */
int side_attach_take(struct side *s, struct safetensors *file, struct error *err);

/* A string of the metadata, or NULL. */
const char *side_text(const struct side *s, const char *key);

/* Returns what the metadata has under key, read as JSON ("[1,2]", "5"; a word is a string): a new
 * reference, or NULL when there is nothing. */
json_t *side_fact(const struct side *s, const char *key);

/* Returns {"name": "what it is"} of the values that dump_open() could not read: a new object, or NULL
 * when there are none. */
json_t *side_left_out(const json_t *metadata);

/* The ids of the prompt from the metadata's prompt_tokens ("[1,2,3]", "1,2,3", or an array): a new
 * array, or NULL when there are none. */
json_t *side_prompt_tokens(const struct side *s);

/* Returns the i of "step_i/...", 0 outside the decode steps. */
int side_step_of(const char *name);
/* Returns the i of "chunk_i/...", 0 where a prompt was not fed in chunks. */
int side_chunk_of(const char *name);
/* Returns the name without "step_i/" or "chunk_i/". */
const char *side_base_name(const char *name);

#endif
