/* added_tokens.h - tokens that are found in a text before anything else is done with it. */
#ifndef SAMEBIT_ADDED_TOKENS_H
#define SAMEBIT_ADDED_TOKENS_H

#include <jansson.h>

#include "kernels/base/error.h"
#include "server/tokenizer/normalize.h"
#include "server/tokenizer/pieces.h"
#include "server/tokenizer/token_map.h"

struct added_tokens; /* opaque, immutable */

/* From the value of "added_tokens" (missing: none).  An id in the file must be the one the
 * vocabulary has for the token or else the next free one, as the package counts them: otherwise the
 * package would give other ids than the file promises. */
struct added_tokens *added_tokens_open(const json_t *json, const struct token_map *vocabulary,
                                       const struct normalizer *normalizer, struct error *err);
void added_tokens_close(struct added_tokens *a);

/* Splits text at the tokens that are matched before (raw) or after normalizing, and appends its
 * pieces to `out`. */
void added_tokens_split(const struct added_tokens *a, int raw, const char *text, size_t size,
                        struct pieces *out);

/* Of the added tokens: content to id. */
const struct token_map *added_tokens_map(const struct added_tokens *a);
/* The text a token decodes to: its content as normalizing leaves it; NULL when the id is none of
 * them.  *special tells whether skipping special tokens skips it. */
const char *added_tokens_text(const struct added_tokens *a, int64_t id, size_t *size, int *special);

#endif
