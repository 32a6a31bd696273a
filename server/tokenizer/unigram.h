/* unigram.h - the Unigram "model" of tokenizer.json: the cut of a text whose pieces' scores add up to
 * most, as SentencePiece's unigram models have it. */
#ifndef SAMEBIT_UNIGRAM_H
#define SAMEBIT_UNIGRAM_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/error.h"
#include "server/tokenizer/id_list.h"
#include "server/tokenizer/token_map.h"

struct unigram; /* opaque, immutable */

/* From the value of "model", whose "type" is Unigram.  Errors name the key, and the piece by its
 * index. */
struct unigram *unigram_open(const json_t *json, struct error *err);
void unigram_close(struct unigram *u);

/* Of pieces that come twice the last has the text: token_map_find finds it, both ids have it. */
const struct token_map *unigram_vocabulary(const struct unigram *u);

/* All zero is ready; unigram_work_close frees it. */
struct unigram_work {
    struct unigram_node *nodes; /* one for every byte of the word, and its end */
    size_t node_capacity;
    struct unigram_cut {
        size_t start, size;
    } *cuts; /* from the last to the first */
    size_t cut_count, cut_capacity;
};
void unigram_work_close(struct unigram_work *w);

/* Appends the ids of one word.  A stretch without a piece becomes the tokens of its bytes
 * (byte_fallback), else the unknown token.  Errors: 400 there is none. */
int unigram_encode(const struct unigram *u, struct unigram_work *w, const char *word, size_t size,
                   struct id_list *ids, struct error *err);

#endif
