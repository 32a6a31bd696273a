/* family_attention.h - the rows that differ with Hugging Face's attn_implementation.
 *
 * A part of reading a family; see family.h for the result. */
#ifndef SAMEBIT_FAMILY_ATTENTION_H
#define SAMEBIT_FAMILY_ATTENTION_H

#include <jansson.h>

#include "server/model/family.h"

/* Replaces the word "attention" in the "layer" list of root by the rows of f->attention, and lists
 * in f->elsewhere the rows that only other attentions have.  Errors: the file has no such rows. */
int family_choose(struct family *f, json_t *root, struct error *err);

#endif
