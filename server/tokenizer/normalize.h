/* normalize.h - the normalizers of tokenizer.json. */
#ifndef SAMEBIT_NORMALIZE_H
#define SAMEBIT_NORMALIZE_H

#include <jansson.h>
#include <stddef.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

struct normalizer; /* opaque, immutable */

/* From the value of "normalizer" (null: nothing is changed).  Knows NFC, NFD, NFKC, NFKD,
 * Lowercase, Strip, StripAccents, Prepend, Replace, Nmt, ByteLevel, Precompiled and Sequence;
 * refuses others by name. */
struct normalizer *normalizer_open(const json_t *json, struct error *err);
void normalizer_close(struct normalizer *n);

/* Appends the normalized text.  The text is UTF-8.  *zero is how many of its leading bytes stem from
 * the very beginning of all text (aligned.h), and afterwards how many of what was appended do; it
 * may be NULL. */
int normalizer_run(const struct normalizer *n, const char *text, size_t size, size_t *zero,
                   struct buffer *out, struct error *err);

#endif
