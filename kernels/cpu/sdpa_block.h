/* sdpa_block.h - a block of keys and values, widened and turned so that a pass over it reads one
 * vector after the other.  For sdpa_body.h, with AVX2 or more. */
#ifndef SAMEBIT_CPU_SDPA_BLOCK_H
#define SAMEBIT_CPU_SDPA_BLOCK_H

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/sdpa.h"

enum {
    STRIP = 32,       /* columns of a pass */
    HALF = STRIP / 2, /* words of packed columns: column l, and column HALF + l above it */
};

/* A block of keys and values: k by strips of keys, then d; v by strips of d, then keys. */
struct block {
    int64_t n, N;
    int k_most, v_most; /* greatest magnitudes, as bf16 */
    const bf16 *keys;
    const bf16 *values;
    _Alignas(64) uint32_t k[SDPA_KEYS / STRIP * SDPA_WIDEST * HALF];
    _Alignas(64) uint32_t v[SDPA_WIDEST / STRIP * SDPA_KEYS * HALF];
};

static __m256i load_pair(const bf16 *low, const bf16 *high)
{
    const __m128i zero = _mm_setzero_si128();
    const __m128i a = low ? _mm_loadu_si128((const __m128i *)(const void *)low) : zero;
    const __m128i b = high ? _mm_loadu_si128((const __m128i *)(const void *)high) : zero;

    return _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b));
}

static __m256i most_of(__m256i most, __m256i pairs)
{
    return _mm256_max_epu16(most, _mm256_and_si256(pairs, _mm256_set1_epi16(0x7fff)));
}

static int most_value(__m256i most)
{
    uint16_t each[16];
    int value = 0;

    memcpy(each, &most, sizeof(each));
    for (int i = 0; i < 16; i++)
        value = each[i] > value ? each[i] : value;
    return value;
}

/* to[i * HALF + l] = word i of a[l]. */
static inline void store_turned(__m256i *a, uint32_t *to)
{
    __m256i b[8];

    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm256_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm256_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) {
        __m256i *low = (__m256i *)(void *)(to + i * HALF);
        __m256i *high = (__m256i *)(void *)(to + (i + 4) * HALF);

        _mm256_store_si256(low, _mm256_permute2x128_si256(a[i], a[i + 4], 0x20));
        _mm256_store_si256(high, _mm256_permute2x128_si256(a[i], a[i + 4], 0x31));
    }
}

/* Keys [0, count) of the block, by whole strips. */
static void pack_keys(struct block *b, int64_t step, int64_t D, int64_t count)
{
    __m256i a[8], most = _mm256_setzero_si256();

    for (int64_t first = 0; first < count; first += STRIP)
        for (int64_t d = 0; d < D; d += 8)
            for (int64_t l = 0; l < HALF; l += 8) {
                for (int i = 0; i < 8; i++) {
                    const int64_t low = first + l + i, high = low + HALF;

                    a[i] = load_pair(low < b->N ? b->keys + low * step + d : NULL,
                                     high < b->N ? b->keys + high * step + d : NULL);
                    most = most_of(most, a[i]);
                }
                store_turned(a, b->k + (first / STRIP * D + d) * HALF + l);
            }
    b->k_most = most_value(most);
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

static void pack_values(struct block *b, int64_t step, int64_t D)
{
    __m256i most = _mm256_setzero_si256();

    for (int64_t j = 0; j < b->N; j++)
        for (int64_t d = 0; d < D; d += STRIP)
            for (int64_t l = 0; l < HALF; l += 8) {
                const int64_t low = d + l, high = low + HALF;
                const __m256i pairs = load_pair(low < D ? b->values + j * step + low : NULL,
                                                high < D ? b->values + j * step + high : NULL);
                uint32_t *to = b->v + (d / STRIP * SDPA_KEYS + j) * HALF + l;

                most = most_of(most, pairs);
                _mm256_store_si256((__m256i *)(void *)to, pairs);
            }
    b->v_most = most_value(most);
}

#endif
