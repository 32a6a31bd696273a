/* pretokenize.h - the "pre_tokenizer" of tokenizer.json: splits a text into the words that are then
 * merged one by one. */
#ifndef SAMEBIT_PRETOKENIZE_H
#define SAMEBIT_PRETOKENIZE_H

#include <jansson.h>

#include "kernels/base/error.h"
#include "server/tokenizer/pieces.h"

struct pretokenizer; /* opaque, immutable */

/* From the value of "pre_tokenizer" (null: nothing is cut).  Knows ByteLevel, Split, Digits,
 * Punctuation, Metaspace, WhitespaceSplit, Whitespace, CharDelimiterSplit, FixedLength,
 * BertPreTokenizer and Sequence; refuses others by name. */
struct pretokenizer *pretokenizer_open(const json_t *json, struct error *err);
void pretokenizer_close(struct pretokenizer *p);

/* Cuts, and spells for the vocabulary, the pieces that are no tokens yet. */
int pretokenizer_run(const struct pretokenizer *p, struct pieces *pieces, struct error *err);

#endif
