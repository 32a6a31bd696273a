/* prompt.h - the fields that every computing request shares:
 * "prompt" (text) or "tokens" (ids), "special", "numerics", "attention". */
#ifndef SAMEBIT_PROMPT_H
#define SAMEBIT_PROMPT_H

#include <jansson.h>

#include "server/engine/engine.h"
#include "server/http/settings.h"

/* For the list of known fields. */
#define PROMPT_FIELDS "prompt", "tokens", "special", "numerics", "attention"

/* Reads them.  *tokens: malloc'ed, the caller's; every id is one of the model's, and there is at
 * least one.  numerics and attention, if given, must be what is served. */
int prompt_read(const struct engine *e, const struct settings *settings, const json_t *root,
                int64_t **tokens, int64_t *count, struct error *err);

/* A text field, any characters (NUL too).  Borrowed from root. */
int prompt_text(const json_t *root, const char *key, const char **text, size_t *size,
                struct error *err);

#endif
