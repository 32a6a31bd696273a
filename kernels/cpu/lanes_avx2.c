/* lanes_avx2.c - DOT8 and FOUR in registers of 8 lanes; see lanes_body.h. */
#include <immintrin.h>

#include "kernels/base/bf16.h"

typedef __m256 eight;

static inline eight eight_zero(void)
{
    return _mm256_setzero_ps();
}

static inline eight eight_all(float x)
{
    return _mm256_set1_ps(x);
}

/* from: 32-byte aligned */
static inline eight eight_load(const float *from)
{
    return _mm256_load_ps(from);
}

static inline void eight_store(float *to, eight v)
{
    _mm256_storeu_ps(to, v);
}

static inline eight eight_widen(const bf16 *x)
{
    const __m128i half = _mm_loadu_si128((const __m128i *)(const void *)x);

    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

static inline eight eight_add(eight a, eight b)
{
    return _mm256_add_ps(a, b);
}

/* a * b + c, rounded once */
static inline eight eight_fma(eight a, eight b, eight c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
static inline float eight_sum(eight v)
{
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#include "kernels/cpu/lanes_body.h"
