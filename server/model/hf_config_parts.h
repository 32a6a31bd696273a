/* hf_config_parts.h - the fields of struct hf_config, for the files named hf_config*.c only.
 *
 * hf_config.c opens and looks up, hf_config_rules.c knows the config classes, hf_config_rope.c the
 * two spellings of the rope parameters. */
#ifndef SAMEBIT_HF_CONFIG_PARTS_H
#define SAMEBIT_HF_CONFIG_PARTS_H

#include <jansson.h>

#include "server/model/hf_config.h"

#define HF_CONFIG_LARGEST ((int64_t)1 << 31) /* of any count */

enum { HF_CONFIG_NOTICES = 4 };

/* `root` is config.json as it is.  `values` is a copy with the defaults filled in and the derived
 * keys replaced: what transformers' config object would hold. */
struct hf_config {
    char *folder, *path, *text;
    const char *name;                    /* of the architecture; in root or in rules */
    const struct hf_architecture *rules; /* NULL: an architecture without rules */
    json_t *root, *values, *generation;  /* generation: NULL when there is no such file */
    int64_t layers;                      /* 0 without rules */
    unsigned char *sliding;              /* by layer */
    int no_memory;                       /* a default or derived value could not be put */
    char notices[HF_CONFIG_NOTICES][256];
    int notice_count;
};

/* Sets "PATH: KEY: what" with "config.json: KEY" as the param.  Returns -1. */
int hf_config_bad(const struct hf_config *c, const char *key, struct error *err, const char *format,
                  ...) __attribute__((format(printf, 4, 5)));

/* Python's bool() of a value; an absent one is false. */
int hf_config_truth(const json_t *value);

/* One more notice, "config.json: KEY: what"; those that have no room are left out. */
void hf_config_note(struct hf_config *c, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* NULL: without rules. */
const struct hf_architecture *hf_architecture_find(const char *name);
const struct hf_architecture *hf_architecture_of_type(const char *model_type);
const char *hf_architecture_name(const struct hf_architecture *a);
/* What its config class has of rope; of NULL, what most have. */
double hf_architecture_theta(const struct hf_architecture *a); /* where config.json says nothing */
double hf_architecture_partial(const struct hf_architecture *a); /* likewise; 0: only 1 is known */
int hf_architecture_takes_longrope(
    const struct hf_architecture *a); /* "su" and "yarn" are longrope */
int hf_architecture_rope_by_type(const struct hf_architecture *a); /* parameters by layer type */

/* Fills defaults into `values`, checks what the rules demand and derives head_dim,
 * num_key_value_heads, sliding_window (0 where none is in force), cache_window and `sliding`. */
int hf_config_apply_rules(struct hf_config *c, struct error *err);

/* Notes what the rope parameters say and the architecture does not follow. */
void hf_config_note_rope(struct hf_config *c);

#endif
