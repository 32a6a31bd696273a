/* panels_square_x86.h - pack_square of panels_body.h, with AVX2. */
#include <immintrin.h>

#include "kernels/cpu/panels.h"

/* 8 pairs of 8 columns, of which `columns` are there. */
static inline void pack_square(const bf16 *w, int64_t step, int64_t columns, uint32_t *panel)
{
    __m256i a[8], b[8];

    for (int i = 0; i < 8; i++)
        a[i] = i < columns ? _mm256_loadu_si256((const __m256i *)(const void *)(w + i * step))
                           : _mm256_setzero_si256();
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
        __m256i *low = (__m256i *)(void *)(panel + i * PANEL_COLUMNS);
        __m256i *high = (__m256i *)(void *)(panel + (i + 4) * PANEL_COLUMNS);

        _mm256_storeu_si256(low, _mm256_permute2x128_si256(a[i], a[i + 4], 0x20));
        _mm256_storeu_si256(high, _mm256_permute2x128_si256(a[i], a[i + 4], 0x31));
    }
}
