/* prompt.h - the fields that computing requests share: "prompt" (text) or "tokens" (ids),
 * "special", "numerics", "attention", "torch_threads"; and those of a prompt that is fed in another way than at
 * once: "padding" (so many of its first tokens are left padding), "position_ids" (from where
 * positions are counted then), "batch" (it is one of so many rows of a call) and "chunks" (lengths of
 * the calls). */
#ifndef SAMEBIT_PROMPT_H
#define SAMEBIT_PROMPT_H

#include <jansson.h>

#include "server/engine/run.h"
#include "server/http/settings.h"

/* For the lists of known fields. */
#define PROMPT_FIELDS                                                                              \
    "prompt", "tokens", "special", "add_special_tokens", "numerics", "attention", "torch_threads"
#define PROMPT_CALL_FIELDS "padding", "position_ids", "batch", "chunks"

enum { PROMPT_BATCH_MOST = 1 << 20 };

/* All zero is none.  Owns tokens and chunks. */
struct prompt {
    int64_t *tokens, count; /* every id is one of the model's, and there is at least one */
    enum attention attention;
    int64_t padding;
    int ids_from_mask;     /* run_request.ids_from_mask */
    int64_t batch;         /* 0 where it is not given */
    int64_t torch_threads; /* 0 where it is not given */
    int64_t *chunks, chunk_count;
};

/* Reads them.  numerics, if given, must be what is served.  The caller clears the prompt, also
 * after an error. */
int prompt_read(const struct engine *e, const struct settings *settings, const json_t *root,
                struct prompt *out, struct error *err);
/* The engine that the request's "numerics" means: e, or where they are "ideal" e's twin. */
struct engine *prompt_engine(struct engine *e, const json_t *root, struct error *err);
/* Sets the fields of the run that a prompt has; the run borrows them. */
void prompt_apply(const struct prompt *p, struct run_request *run);
void prompt_clear(struct prompt *p);
/* What the settings allow a run. */
struct run_limits prompt_limits(const struct settings *settings);

/* A text field, any characters (NUL too), as long as the settings allow: encoding takes time.
 * Borrowed from root. */
int prompt_text(const struct settings *settings, const json_t *root, const char *key,
                const char **text, size_t *size, struct error *err);

#endif
