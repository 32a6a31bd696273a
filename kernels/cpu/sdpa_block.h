/* sdpa_block.h - a block of keys and values, paired and turned so that a pass over it reads one
 * vector after the other.  For sdpa_body.h, with AVX2 or more. */
#ifndef SAMEBIT_CPU_SDPA_BLOCK_H
#define SAMEBIT_CPU_SDPA_BLOCK_H

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/sdpa.h"

/* The greatest and the least magnitude but zero, as bf16 without sign. */
struct extremes {
    int most, least;
};

enum {
    STRIP = 32,                        /* columns of a pass */
    BLOCK_PAIRS = SDPA_KEYS / 2 + 8,   /* most pairs of keys: each chain may end in half a one */
};

/* A block of keys and values.  A word is a pair along the chain that it is summed in, the earlier
 * element in the upper half: of d for k, of keys for v, whose pairs start anew with every chain and
 * end, where it is odd, with a zero.
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

static __m128i load_eight(const bf16 *from)
{
    return from ? _mm_loadu_si128((const __m128i *)(const void *)from) : _mm_setzero_si128();
}

/* ---- magnitudes seen ---- */

struct seen_sizes {
    __m256i most, least; /* least: minus one, so that a zero is the greatest */
};

static struct seen_sizes no_sizes(void)
{
    return (struct seen_sizes){_mm256_setzero_si256(), _mm256_set1_epi16(-1)};
}

static inline void see_sizes(struct seen_sizes *seen, __m256i x)
{
    const __m256i size = _mm256_and_si256(x, _mm256_set1_epi16(0x7fff));

    seen->most = _mm256_max_epu16(seen->most, size);
    seen->least = _mm256_min_epu16(seen->least, _mm256_sub_epi16(size, _mm256_set1_epi16(1)));
}

static struct extremes extremes_of(const struct seen_sizes *seen)
{
    struct extremes e = {0, 0x7fff};
    uint16_t most[16], least[16];

    memcpy(most, &seen->most, sizeof(most));
    memcpy(least, &seen->least, sizeof(least));
    for (int i = 0; i < 16; i++) {
        e.most = most[i] > e.most ? most[i] : e.most;
        e.least = least[i] < e.least ? least[i] + 1 : e.least;
    }
    return e;
}

/* ---- packing ---- */

/* Words of eight rows, four of each, one row beside the other: to[i * STRIP + r]. */
static inline void store_turned(const __m256i *a, uint32_t *to)
{
    const __m256i low01 = _mm256_unpacklo_epi32(a[0], a[1]);
    const __m256i high01 = _mm256_unpackhi_epi32(a[0], a[1]);
    const __m256i low23 = _mm256_unpacklo_epi32(a[2], a[3]);
    const __m256i high23 = _mm256_unpackhi_epi32(a[2], a[3]);
    const __m256i word[4] = {
        _mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23),
        _mm256_unpacklo_epi64(high01, high23), _mm256_unpackhi_epi64(high01, high23)};

    for (int i = 0; i < 4; i++)
        _mm256_store_si256((__m256i *)(void *)(to + i * STRIP), word[i]);
}

/* Keys [0, count) of the block, by whole strips. */
static void pack_keys(struct block *b, int64_t step, int64_t D, int64_t count)
{
    const __m256i swap = _mm256_set1_epi32(0x01000302), quad = _mm256_set_epi32(
        0x0c0c0c0c, 0x08080808, 0x04040404, 0, 0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    const __m256i halves = _mm256_add_epi8(swap, quad);
    struct seen_sizes seen = no_sizes();
    __m256i a[4];

    for (int64_t first = 0; first < count; first += STRIP)
        for (int64_t d = 0; d < D; d += 8)
            for (int64_t l = 0; l < STRIP; l += 8) {
                for (int i = 0; i < 4; i++) {
                    const int64_t low = first + l + i, high = low + 4;
                    const bf16 *from = b->keys + low * step + d;

                    a[i] = _mm256_set_m128i(load_eight(high < b->N ? from + 4 * step : NULL),
                                            load_eight(low < b->N ? from : NULL));
                    see_sizes(&seen, a[i]);
                    a[i] = _mm256_shuffle_epi8(a[i], halves);
                }
                store_turned(a, b->k + (first * D + d * STRIP) / 2 + l);
            }
    b->k_size = extremes_of(&seen);
}

/* For sums in lanes: k by fours of keys, then eights of d; word 4 * key + l is d = l, and l + 4
 * above it.  Keys up to a multiple of 16 are 0. */
static void pack_keys_in_lanes(struct block *b, int64_t step, int64_t D)
{
    for (int64_t j = 0; j < (b->N + 15) / 16 * 16; j++)
        for (int64_t d = 0; d < D; d += 8) {
            uint32_t *to = b->k + (j / 4 * (D / 8) + d / 8) * 16 + j % 4 * 4;
            __m128i x = _mm_setzero_si128();

            if (j < b->N)
                x = _mm_loadu_si128((const __m128i *)(const void *)(b->keys + j * step + d));
            _mm_store_si128((__m128i *)(void *)to, _mm_unpacklo_epi16(x, _mm_srli_si128(x, 8)));
        }
}

/* Keys j and j + 1 of all strips; odd: there is no j + 1. */
static inline void pack_pair(struct block *b, int64_t j, int odd, int64_t step, int64_t D,
                             uint32_t *to, struct seen_sizes *seen)
{
    const bf16 *from = b->values + j * step;

    for (int64_t d = 0; d < (D + STRIP - 1) / STRIP * STRIP; d += 8) {
        const __m128i first = load_eight(d < D ? from + d : NULL);
        const __m128i second = load_eight(d < D && !odd ? from + step + d : NULL);
        const __m256i pairs = _mm256_set_m128i(_mm_unpackhi_epi16(second, first),
                                               _mm_unpacklo_epi16(second, first));

        see_sizes(seen, pairs);
        _mm256_store_si256((__m256i *)(void *)(to + d / STRIP * BLOCK_PAIRS * STRIP + d % STRIP),
                           pairs);
    }
}

static void pack_values(struct block *b, int64_t step, int64_t D)
{
    const int64_t chain = sdpa_chain(b->N);
    struct seen_sizes seen = no_sizes();
    uint32_t *to = b->v;

    for (int64_t first = 0; first < b->N; first += chain) {
        const int64_t end = sdpa_least(first + chain, b->N);

        for (int64_t j = first; j < end; j += 2, to += STRIP)
            pack_pair(b, j, j + 1 == end, step, D, to, &seen);
    }
    b->v_size = extremes_of(&seen);
}

#endif
