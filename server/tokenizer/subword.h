/* subword.h - the "model" of tokenizer.json, whichever kind it is: words to ids. */
#ifndef SAMEBIT_SUBWORD_H
#define SAMEBIT_SUBWORD_H

#include <jansson.h>

#include "kernels/base/error.h"
#include "server/tokenizer/bpe.h"
#include "server/tokenizer/id_list.h"
#include "server/tokenizer/token_map.h"
#include "server/tokenizer/unigram.h"

struct subword; /* opaque, immutable */

/* From the value of "model": BPE or Unigram; refuses others by name. */
struct subword *subword_open(const json_t *json, struct error *err);
void subword_close(struct subword *s);

/* The vocabulary without added tokens. */
const struct token_map *subword_vocabulary(const struct subword *s);

/* What one thread needs from word to word.  All zero is ready. */
struct subword_work {
    struct bpe_work bpe;
    struct unigram_work unigram;
};
void subword_work_close(struct subword_work *w);

/* Appends the ids of one word. */
int subword_encode(const struct subword *s, struct subword_work *w, const char *word, size_t size,
                   struct id_list *ids, struct error *err);

#endif
