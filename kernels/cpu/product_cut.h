/* product_cut.h - where a rule cuts the sum of a product: its pieces, in the order of k.
 *
 * A piece lies within one block.  Blocks' sums are added to their part's, parts' sums to the total:
 * where parts and blocks begin and end is said with each piece. */
#ifndef SAMEBIT_CPU_PRODUCT_CUT_H
#define SAMEBIT_CPU_PRODUCT_CUT_H

#include "kernels/base/integer.h"
#include "kernels/products.h"

struct product_piece {
    int64_t k, count;             /* elements [k, k + count) */
    int64_t step;                 /* TILES: of a step */
    int begins_block, ends_block; /* 0: its block's sum goes on */
    int first_block, ends_part;   /* of its part */
    int first_part;
};

/* A walk over the pieces. */
struct product_cut {
    const struct product_rule *rule;
    int64_t K, most; /* elements of a piece at most: where TILES are cut further */
    int64_t chunk, chunks, parts, block;
    int64_t k, part; /* where the walk is; parts begun */
    int64_t part_first, part_end, block_first, block_end;
};

/* most: at least a block's length, but of TILES, where 32 is enough. */
static inline struct product_cut product_cut_of(const struct product_rule *rule, int64_t K,
                                                int64_t most)
{
    struct product_cut c = {.rule = rule, .K = K, .most = most, .chunk = K, .block = rule->block};

    if (rule->kind == PRODUCT_LANES16)
        c.block = K;
    if (rule->kind == PRODUCT_TILES)
        c.chunk = rule->chunk;
    c.chunks = (K + c.chunk - 1) / c.chunk;
    c.parts = rule->kind == PRODUCT_TILES ? min_i64(rule->parts, c.chunks) : 1;
    return c;
}

/* 0: there is none left. */
static inline int product_cut_next(struct product_cut *c, struct product_piece *p)
{
    int64_t length, count;

    if (c->k >= c->K)
        return 0;
    if (c->k == c->part_end) {
        const int64_t chunks = c->chunks / c->parts + (c->part < c->chunks % c->parts);

        c->part++;
        c->part_first = c->k;
        c->part_end = min_i64(c->k + chunks * c->chunk, c->K);
    }
    if (c->k == c->block_end) {
        c->block_first = c->k;
        c->block_end = min_i64(c->k + c->block, c->part_end);
    }
    length = c->block_end - c->block_first;
    *p = (struct product_piece){.k = c->k};
    if (c->rule->kind == PRODUCT_TILES) {
        p->step = c->rule->even ? product_even_step(length) : 32;
    }
    count = c->block_end - c->k;
    p->count = count > c->most ? c->most / p->step * p->step : count;
    c->k += p->count;
    p->begins_block = p->k == c->block_first;
    p->ends_block = c->k == c->block_end;
    p->first_block = c->block_first == c->part_first;
    p->ends_part = c->k == c->part_end;
    p->first_part = c->part == 1;
    return 1;
}

/* Whether all pieces of a sum begin with a pair of panels (panels.h).  TILES always do. */
static inline int product_cut_is_paired(const struct product_rule *rule, int64_t K)
{
    return rule->kind != PRODUCT_DEALT || rule->block % 2 == 0 || rule->block >= K;
}

/* Whether sums by these rules are cut alike, so that their rows may share a pass. */
static inline int product_cut_is_alike(const struct product_rule *a, const struct product_rule *b)
{
    return a->kind == b->kind && a->block == b->block && a->chunk == b->chunk &&
           a->parts == b->parts && a->even == b->even && a->flushes_output == b->flushes_output;
}

#endif
