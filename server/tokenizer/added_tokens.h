/* added_tokens.h - the "added_tokens" of tokenizer.json: tokens that are searched in the text
 * itself, before it is split into words and merged. */
#ifndef SAMEBIT_ADDED_TOKENS_H
#define SAMEBIT_ADDED_TOKENS_H

#include <jansson.h>

#include "kernels/base/error.h"
#include "server/tokenizer/normalize.h"
#include "server/tokenizer/pieces.h"
#include "server/tokenizer/token_map.h"

struct added_tokens; /* opaque, immutable */

/* Reads the value of "added_tokens" (missing: none).  A token has the id that the vocabulary has for
 * it, or else the next free one: the `tokenizers` package numbers them so, whatever the file says.
 * Of equal contents the last one's flags count. */
struct added_tokens *added_tokens_open(const json_t *json, const struct token_map *vocabulary,
                                       const struct normalizer *normalizer, struct error *err);
void added_tokens_close(struct added_tokens *a);

/* Appends the text to `out`, cut into pieces at the added tokens in it.  raw: 1 searches those with
 * "normalized": false, in the original text; 0 the others, in normalized text. */
void added_tokens_split(const struct added_tokens *a, int raw, const char *text, size_t size,
                        struct pieces *out);

/* Returns the map of the added tokens, from content to id. */
const struct token_map *added_tokens_map(const struct added_tokens *a);
/* Returns the text that an added token decodes to: its content, normalized if "normalized" is true.
 * NULL when the id is no added token.  *special: whether "skip special tokens" leaves it out. */
const char *added_tokens_text(const struct added_tokens *a, int64_t id, size_t *size, int *special);

/* Returns a sentence about the first token whose id is not the one in the file, or "". */
const char *added_tokens_moved(const struct added_tokens *a);

#endif
