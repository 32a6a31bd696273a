/* family_attention.h - the rows that differ with Hugging Face's attn_implementation.
 *
 * A part of reading a family; see family.h for the result. */
#ifndef SAMEBIT_FAMILY_ATTENTION_H
#define SAMEBIT_FAMILY_ATTENTION_H

#include <jansson.h>

#include "server/model/family.h"

/* Puts the rows of f->attention in the place of the word "attention" in root's "layer", and notes
 * the rows that only other attentions have.  Errors: no such rows, none of that attention. */
int family_choose(struct family *f, json_t *root, struct error *err);

#endif
