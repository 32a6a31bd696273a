/* template.h - the post-processor of tokenizer.json: special tokens put around a text's ids. */
#ifndef SAMEBIT_TEMPLATE_H
#define SAMEBIT_TEMPLATE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/error.h"

struct template; /* opaque, immutable */

/* Reads the value of "post_processor" (null: ids stay as they are).  Knows TemplateProcessing (its
 * "single"), RobertaProcessing, BertProcessing, ByteLevel (which changes no ids) and Sequence; refuses
 * others by name. */
struct template *template_open(const json_t *json, struct error *err);
void template_close(struct template *t);

/* Sets *all to the ids of a text with the special tokens around them (without, if special is 0).
 * *all is malloc'ed, the caller frees it. */
int template_apply(const struct template *t, const int64_t *ids, size_t count, int special,
                   int64_t **all, size_t *all_count, struct error *err);

/* Returns one more than the largest id that the template adds, 0 when it adds none. */
int64_t template_largest(const struct template *t);

#endif
