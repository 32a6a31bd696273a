/* bpe_parts.h - the fields of struct bpe, for bpe.c and bpe_json.c only. */
#ifndef SAMEBIT_BPE_PARTS_H
#define SAMEBIT_BPE_PARTS_H

#include "server/tokenizer/bpe.h"

enum { BPE_DIRECT = 0x400 };

struct bpe_pair {
    uint32_t left, right; /* ids */
    uint32_t rank, id;    /* of the merge, and of the token that it makes */
    int used;
};

struct bpe {
    struct token_map vocabulary;
    struct bpe_pair *pairs; /* open addressing by left and right */
    size_t pair_slots;      /* a power of two, or 0 without merges */
    int64_t unknown;        /* id of the unknown token, or -1 */
    int unknown_missing;    /* "unk_token" names a token that the vocabulary lacks */
    int fuse_unknown, ignore_merges;
    int byte_fallback;
    int64_t bytes[256];    /* with byte_fallback: ids of <0x00> to <0xFF>, or -1 */
    char *prefix, *suffix; /* of characters inside a word, of its last; NULL: none */
    size_t prefix_size;
    int32_t direct[BPE_DIRECT]; /* id of the token that is this one character, or -1 */
};

/* Stores a pair; an equal one stored before is overwritten.  The table must have a free slot. */
void bpe_put_pair(struct bpe *b, const struct bpe_pair *pair);

#endif
