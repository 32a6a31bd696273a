/* charsmap.h - SentencePiece's own normalization: a table of texts and what they become. */
#ifndef SAMEBIT_CHARSMAP_H
#define SAMEBIT_CHARSMAP_H

#include <jansson.h>
#include <stddef.h>

#include "kernels/base/error.h"
#include "server/tokenizer/aligned.h"

struct charsmap; /* opaque, immutable */

/* From the value of "precompiled_charsmap": base64 of SentencePiece's table.  Errors: 400 it is no
 * such table. */
struct charsmap *charsmap_open(const json_t *json, struct error *err);
void charsmap_close(struct charsmap *c);

/* Appends the normalized text.  The text is UTF-8. */
void charsmap_run(const struct charsmap *c, const char *text, size_t size, struct aligned *out);

#endif
