/* token_text.h - one token, for people to read. */
#ifndef SAMEBIT_TOKEN_TEXT_H
#define SAMEBIT_TOKEN_TEXT_H

#include <jansson.h>

#include "kernels/base/buffer.h"
#include "server/engine/engine.h"

/* Appends `"token":"text"`, and `,"bytes":[...]` where the token's bytes alone are no whole
 * UTF-8 characters, so that text would lose them.  Without a tokenizer (NULL) `"token":null`. */
void token_put(struct buffer *out, const struct tokenizer *t, int64_t id);

/* Returns 0 when the engine has a tokenizer; else a 400 that names the request's field and says
 * why there is none and that ids are served. */
int token_text_needed(const struct engine *e, const char *field, struct error *err);

/* Reads a true or false that has two names, transformers' being the longer: "special" and
 * "add_special_tokens", "skip_special" and "skip_special_tokens".  *value stays as it is when the
 * request has neither; both with different values are a 400. */
int token_text_flag(const json_t *root, const char *name, int *value, struct error *err);

#endif
