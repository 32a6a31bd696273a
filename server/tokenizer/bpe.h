/* bpe.h - byte pair encoding: the "model" of tokenizer.json. */
#ifndef SAMEBIT_BPE_H
#define SAMEBIT_BPE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/error.h"
#include "server/tokenizer/token_map.h"

struct bpe;      /* opaque, immutable */
struct bpe_work; /* one thread's memory for merging, reused from word to word */

/* Reads the value of "model".  Errors name the key, and a merge by its index.  A model other than
 * BPE, dropout, byte_fallback, and a prefix or suffix of subwords are each refused by name. */
struct bpe *bpe_open(const json_t *json, struct error *err);
void bpe_close(struct bpe *b);

/* The vocabulary without added tokens. */
const struct token_map *bpe_vocabulary(const struct bpe *b);

/* Initialize with zeros; bpe_work_close frees it.  ids[0..count) are the ids of all words so far. */
struct bpe_work {
    struct bpe_symbol *symbols;
    size_t symbol_count, symbol_capacity;
    struct bpe_merge *heap;
    size_t heap_count, heap_capacity;
    int64_t *ids;
    size_t count, capacity;
};
void bpe_work_close(struct bpe_work *w);

/* Appends the ids of one word of `size` < 2^30 bytes, in O(size log size).  A character without a
 * token becomes the unknown token, or nothing when the model has none. */
int bpe_encode(const struct bpe *b, struct bpe_work *w, const char *word, size_t size,
               struct error *err);
/* Appends an id as it is. */
int bpe_append(struct bpe_work *w, int64_t id, struct error *err);

#endif
