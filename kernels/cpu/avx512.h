/* avx512.h - 16 bf16 to f32 and back, for the kernels that are written in AVX-512. */
#ifndef SAMEBIT_CPU_AVX512_H
#define SAMEBIT_CPU_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#include "kernels/base/bf16.h"

#define AVX512_INLINE static inline __attribute__((always_inline))

/* Loads the lanes of `there`; the other lanes are zero. */
AVX512_INLINE __m512 avx512_load(const bf16 *from, __mmask16 there)
{
    const __m256i values = _mm256_maskz_loadu_epi16(there, from);

    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

/* Returns the mask of the first `count` lanes, at most 16. */
AVX512_INLINE __mmask16 avx512_first(int64_t count)
{
    return _cvtu32_mask16(count >= 16 ? 0xffff : count > 0 ? (1u << count) - 1 : 0);
}

/* finish_round (finish.h) of 16 lanes. */
AVX512_INLINE __m256i avx512_round(__m512 f)
{
    const __m512i u = _mm512_castps_si512(f), high = _mm512_srli_epi32(u, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i rounded = _mm512_srli_epi32(sum, 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q);

    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0)));
}

/* Widens what avx512_round returned to f32. */
AVX512_INLINE __m512 avx512_widen(__m256i rounded)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
}

#endif
