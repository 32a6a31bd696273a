/* amx_sharing.h - a product of several rows: how its work is shared among the threads.
 *
 * A sharing says how many threads there are along each axis.  It gets the blocks that fit the caches
 * best (amx_sharing.c) and a score, an estimate of the share of the peak that it reaches
 * (amx_score.c); the best of all is the one that oneDNN takes.  Scores are binary32 where oneDNN's
 * are, in its order, since a tie decides about bits. */
#ifndef SAMEBIT_AMX_SHARING_H
#define SAMEBIT_AMX_SHARING_H

#include "kernels/numerics.h"

struct sharing {
    const struct product_shape *shape;
    int64_t on_b, on_m, on_k, on_n;       /* threads along B, M, K, N */
    int64_t b, m, k, n;                   /* of a thread, most */
    int64_t tile_rows, tile_k;            /* of a tile */
    int64_t rows, columns;                /* of a group of 2 x 2 tiles */
    int across;                           /* 1: rows outermost, the right operand stays in L2;
                                            0: columns outermost, the left one does */
    int spares_l1;                        /* K is not cut to fit into L1 */
    int64_t m_block, n_block, k_block;    /* elements of a block */
    int64_t m_blocks, n_blocks, k_blocks; /* blocks of a chunk */
    float score;
};

/* A choice of blocks: `side` columns (across) or rows (down), `depth` blocks of `block` k. */
struct blocks {
    int64_t side, depth, block;
    int across, copied; /* copied: the right operand is, in chunks */
};

/* Among so many threads along each axis; sets what a thread has of each. */
void sharing_among(struct sharing *g, int64_t on_b, int64_t on_m, int64_t on_k, int64_t on_n);
/* Sets the tiles, and the groups of them, after sharing_among. */
void sharing_set_tiles(struct sharing *g);

/* Bytes of L2 that the blocks take. */
int64_t blocks_l2_bytes(const struct sharing *g, const struct blocks *c);
/* The share of the peak that a sharing with its blocks should reach; 0: it cannot be had. */
float sharing_score(const struct sharing *g);

/* Sets *best, of which the shape is given, to the sharing of the highest score; its score stays 0
 * where none can be had. */
void sharing_search(struct sharing *best);

#endif
