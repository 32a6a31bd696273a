/* normalize.h - the normalizers of tokenizer.json. */
#ifndef SAMEBIT_NORMALIZE_H
#define SAMEBIT_NORMALIZE_H

#include <jansson.h>
#include <stddef.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

struct normalizer; /* opaque, immutable */

/* Reads the value of "normalizer" (null: nothing is changed).  Knows NFC, NFD, NFKC, NFKD,
 * Lowercase, Strip, Prepend, Replace with a string, and Sequence; refuses others by name. */
struct normalizer *normalizer_open(const json_t *json, struct error *err);
void normalizer_close(struct normalizer *n);

/* Appends the normalized text.  The text is UTF-8. */
int normalizer_run(const struct normalizer *n, const char *text, size_t size, struct buffer *out,
                   struct error *err);

#endif
