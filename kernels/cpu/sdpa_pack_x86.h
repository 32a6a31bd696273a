/* sdpa_pack_x86.h - the packing functions that sdpa_block.h needs, with AVX2. */
#ifndef SAMEBIT_CPU_SDPA_PACK_X86_H
#define SAMEBIT_CPU_SDPA_PACK_X86_H

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/flush_x86.h"
#include "kernels/cpu/sdpa.h"

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

/* ---- turning ---- */

/* Stores four words of each of eight rows, transposed: to[i * STRIP + r]. */
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

/* Eight elements of each of eight keys, of which `count` are there: to[i * STRIP + key] is the pair of
 * elements 2 * i and 2 * i + 1. */
static inline void pack_square(const bf16 *from, int64_t step, int64_t count, uint32_t *to,
                               struct seen_sizes *seen)
{
    const __m256i swap = _mm256_set1_epi32(0x01000302),
                  quad = _mm256_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0, 0x0c0c0c0c,
                                          0x08080808, 0x04040404, 0);
    const __m256i halves = _mm256_add_epi8(swap, quad);
    __m256i a[4];

    for (int i = 0; i < 4; i++) {
        a[i] = _mm256_set_m128i(load_eight(i + 4 < count ? from + (i + 4) * step : NULL),
                                load_eight(i < count ? from + i * step : NULL));
        see_sizes(seen, a[i]);
        a[i] = _mm256_shuffle_epi8(a[i], halves);
    }
    store_turned(a, to);
}

/* Makes words with element l of a key in the lower half and l + 4 in the upper; NULL: zeros. */
static inline void pack_halves(const bf16 *key, uint32_t *to)
{
    const __m128i x = load_eight(key);

    _mm_store_si128((__m128i *)(void *)to, _mm_unpacklo_epi16(x, _mm_srli_si128(x, 8)));
}

/* Makes eight pairs of an element of `first` and one of `second`; NULL: zeros. */
static inline void pack_two(const bf16 *first, const bf16 *second, uint32_t *to,
                            struct seen_sizes *seen)
{
    const __m128i a = load_eight(first), b = load_eight(second);
    const __m256i pairs = _mm256_set_m128i(_mm_unpackhi_epi16(b, a), _mm_unpacklo_epi16(b, a));

    see_sizes(seen, pairs);
    _mm256_store_si256((__m256i *)(void *)to, pairs);
}

#endif
