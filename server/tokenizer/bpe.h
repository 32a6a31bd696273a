/* bpe.h - byte pair encoding: the "model" of tokenizer.json. */
#ifndef SAMEBIT_BPE_H
#define SAMEBIT_BPE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"
#include "server/tokenizer/id_list.h"
#include "server/tokenizer/token_map.h"

struct bpe;      /* opaque, immutable */
struct bpe_work; /* room for one thread's merging, kept from word to word */

/* From the value of "model", whose "type" is BPE or missing.  Errors name the key, and the merge by
 * its index.  Refused by name: dropout. */
struct bpe *bpe_open(const json_t *json, struct error *err);
void bpe_close(struct bpe *b);

/* The vocabulary without added tokens. */
const struct token_map *bpe_vocabulary(const struct bpe *b);

/* All zero is ready; bpe_work_close frees it. */
struct bpe_work {
    struct bpe_symbol *symbols;
    size_t symbol_count, symbol_capacity;
    struct bpe_merge *heap;
    size_t heap_count, heap_capacity;
    struct buffer dressed; /* a character between prefix and suffix */
};
void bpe_work_close(struct bpe_work *w);

/* Appends the ids of one word, in n log n steps.  A character without a token becomes the tokens of
 * its bytes (byte_fallback), else the unknown token, or nothing when there is none.  size is below
 * 2^30. */
int bpe_encode(const struct bpe *b, struct bpe_work *w, const char *word, size_t size,
               struct id_list *ids, struct error *err);

#endif
