/* sdpa_block.h - a block of keys and values, rearranged ("packed") so that the loops of sdpa_body.h read
 * one vector after the other.
 *
 * The file that includes it has included one of sdpa_pack_*.h, which pack eight keys (pack_square), one
 * key (pack_halves) or a pair of keys (pack_two) with an instruction set, and note the largest and
 * smallest magnitudes on the way (struct seen_sizes, no_sizes, extremes_of). */
#ifndef SAMEBIT_CPU_SDPA_BLOCK_H
#define SAMEBIT_CPU_SDPA_BLOCK_H

#include <string.h>

#include "kernels/cpu/sdpa.h"

enum {
    BLOCK_PAIRS = SDPA_KEYS / 2 + 8, /* most pairs of keys: each chain may end in half a one */
};

/* A block of keys and values, packed.  A word holds two elements that follow one another in a chain, the
 * earlier in the upper half: two d of a key in `k`, two keys of one d in `v`.  In `v` the pairs start
 * anew with every chain; an odd chain ends in a pair with a zero.
 *   k  [strip of keys][D / 2][STRIP]
 *   v  [strip of d][BLOCK_PAIRS][STRIP] */
struct block {
    int64_t n, N;
    struct extremes k_size, v_size;
    const bf16 *keys;
    const bf16 *values;
    _Alignas(64) uint32_t k[SDPA_KEYS / STRIP * SDPA_WIDEST / 2 * STRIP];
    _Alignas(64) uint32_t v[SDPA_WIDEST / STRIP * BLOCK_PAIRS * STRIP];
};

/* ---- packing ---- */

/* Packs keys [0, count) of the block, rounded up to whole strips. */
static void pack_keys(struct block *b, int64_t step, int64_t D, int64_t count)
{
    struct seen_sizes seen = no_sizes();

    for (int64_t first = 0; first < count; first += STRIP)
        for (int64_t d = 0; d < D; d += 8)
            for (int64_t l = 0; l < STRIP; l += 8)
                pack_square(b->keys + (first + l) * step + d, step, b->N - (first + l),
                            b->k + (first * D + d * STRIP) / 2 + l, &seen);
    b->k_size = extremes_of(&seen);
}

/* Packs keys for sums in lanes: in groups of four keys and, within these, of eight d.  Word 4 * key + l
 * has d = l in its lower half and d = l + 4 in its upper one.  Keys are padded with 0 to a multiple of
 * 16. */
static void pack_keys_in_lanes(struct block *b, int64_t step, int64_t D)
{
    for (int64_t j = 0; j < (b->N + 15) / 16 * 16; j++) {
        const bf16 *key = j < b->N ? b->keys + j * step : NULL;

        for (int64_t d = 0; d < D; d += 8)
            pack_halves(key ? key + d : NULL, b->k + (j / 4 * (D / 8) + d / 8) * 16 + j % 4 * 4);
    }
}

/* Packs the values of keys j and j + 1 into all strips; odd: there is no key j + 1. */
static inline void pack_pair(struct block *b, int64_t j, int odd, int64_t step, int64_t D,
                             uint32_t *to, struct seen_sizes *seen)
{
    const bf16 *from = b->values + j * step;

    for (int64_t d = 0; d < (D + STRIP - 1) / STRIP * STRIP; d += 8)
        pack_two(d < D ? from + d : NULL, d < D && !odd ? from + step + d : NULL,
                 to + d / STRIP * BLOCK_PAIRS * STRIP + d % STRIP, seen);
}

/* Keys of a block in one chain, which starts at a pair. */
static int64_t values_chain(const struct sdpa *s, int64_t N)
{
    if (s->products == SDPA_MKL_AMD)
        return sdpa_chain(N);
    return s->products == SDPA_MKL_INTEL && N > 384 ? (N + 1) / 2 : N;
}

static void pack_values(struct block *b, int64_t chain, int64_t step, int64_t D)
{
    struct seen_sizes seen = no_sizes();
    uint32_t *to = b->v;

    for (int64_t first = 0; first < b->N; first += chain) {
        const int64_t end = min_i64(first + chain, b->N);

        for (int64_t j = first; j < end; j += 2, to += STRIP)
            pack_pair(b, j, j + 1 == end, step, D, to, &seen);
    }
    b->v_size = extremes_of(&seen);
}

#endif
