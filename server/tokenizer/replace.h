/* replace.h - Replace of tokenizer.json: every match of a pattern becomes a text. */
#ifndef SAMEBIT_TOKENIZER_REPLACE_H
#define SAMEBIT_TOKENIZER_REPLACE_H

#include <jansson.h>
#include <stddef.h>

#include "kernels/base/error.h"
#include "server/tokenizer/aligned.h"

struct replace; /* opaque, immutable */

/* From an object with "pattern" ({"String": ..} or {"Regex": ..}) and "content".  Errors name the
 * key. */
struct replace *replace_open(const json_t *json, struct error *err);
void replace_close(struct replace *r);

/* Appends the text with its matches replaced.  The text is UTF-8. */
int replace_run(const struct replace *r, const char *text, size_t size, struct aligned *out,
                struct error *err);

#endif
