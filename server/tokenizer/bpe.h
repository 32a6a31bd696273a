/* bpe.h - byte pair encoding: the "model" of tokenizer.json. */
#ifndef SAMEBIT_BPE_H
#define SAMEBIT_BPE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/error.h"
#include "server/tokenizer/token_map.h"

struct bpe;      /* opaque, immutable */
struct bpe_work; /* room for one thread's merging, kept from word to word */

/* From the value of "model".  Errors name the key, and the merge by its index.  Refused by name:
 * models other than BPE, dropout, byte_fallback, prefixes and suffixes of subwords. */
struct bpe *bpe_open(const json_t *json, struct error *err);
void bpe_close(struct bpe *b);

/* The vocabulary without added tokens. */
const struct token_map *bpe_vocabulary(const struct bpe *b);

/* All zero is ready; bpe_work_close frees it.  The ids of all words so far are in ids[0..count). */
struct bpe_work {
    struct bpe_symbol *symbols;
    size_t symbol_count, symbol_capacity;
    struct bpe_merge *heap;
    size_t heap_count, heap_capacity;
    int64_t *ids;
    size_t count, capacity;
};
void bpe_work_close(struct bpe_work *w);

/* Appends the ids of one word, in n log n steps.  Characters without a token become the unknown
 * token, or nothing when there is none.  size is below 2^30. */
int bpe_encode(const struct bpe *b, struct bpe_work *w, const char *word, size_t size,
               struct error *err);
/* Appends an id as it is. */
int bpe_append(struct bpe_work *w, int64_t id, struct error *err);

#endif
