/* unigram.h - the Unigram "model" of tokenizer.json, as in SentencePiece: splits a text into the pieces
 * of the vocabulary whose scores have the largest sum. */
#ifndef SAMEBIT_UNIGRAM_H
#define SAMEBIT_UNIGRAM_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/error.h"
#include "server/tokenizer/id_list.h"
#include "server/tokenizer/token_map.h"

struct unigram; /* opaque, immutable */

/* Reads the value of "model", whose "type" is Unigram.  Errors name the key, and a piece by its index.
 */
struct unigram *unigram_open(const json_t *json, struct error *err);
void unigram_close(struct unigram *u);

/* If a piece is in the list twice, both ids have its text and token_map_find returns the last one. */
const struct token_map *unigram_vocabulary(const struct unigram *u);

/* One thread's memory.  Initialize with zeros; unigram_work_close frees it. */
struct unigram_work {
    struct unigram_node *nodes; /* one for every byte of the word, and its end */
    size_t node_capacity;
    struct unigram_cut {
        size_t start, size;
    } *cuts; /* from the last to the first */
    size_t cut_count, cut_capacity;
};
void unigram_work_close(struct unigram_work *w);

/* Appends the ids of one word.  Characters that are in no piece become the tokens of their bytes
 * (byte_fallback) or the unknown token.  Errors: 400 if the model has neither. */
int unigram_encode(const struct unigram *u, struct unigram_work *w, const char *word, size_t size,
                   struct id_list *ids, struct error *err);

#endif
