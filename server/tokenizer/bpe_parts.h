/* bpe_parts.h - what bpe.c and bpe_json.c share; nobody else includes it. */
#ifndef SAMEBIT_BPE_PARTS_H
#define SAMEBIT_BPE_PARTS_H

#include "server/tokenizer/bpe.h"

enum { BPE_DIRECT = 0x400 };

struct bpe_pair {
    uint32_t left, right; /* ids */
    uint32_t rank, id;    /* what they become */
    int used;
};

struct bpe {
    struct token_map vocabulary;
    struct bpe_pair *pairs; /* open addressing by left and right */
    size_t pair_slots;      /* a power of two, or 0 without merges */
    int64_t unknown;        /* id of the unknown token, or -1 */
    int unknown_missing;    /* it has a name, but no id */
    int fuse_unknown, ignore_merges;
    int32_t direct[BPE_DIRECT]; /* id of the token that is this one character, or -1 */
};

/* Enters a pair; a later one takes the place of an equal one.  There must be an empty slot left. */
void bpe_put_pair(struct bpe *b, const struct bpe_pair *pair);

#endif
