/* rows_avx512.c - the row loops in registers of 16 lanes. */
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/rows_body.h"

/* sleef_expf of 16.  Clamping first changes nothing: beyond -104 and 100 the results are 0 and
 * infinity, which 2^-159 and 2^159 times the polynomial round to as well.  vscalefps rounds once,
 * as the two exact factors of sleef_expf do; a NaN goes through. */
AVX512_INLINE __m512 exp_of(__m512 d)
{
    __m512 q, s, u = _mm512_set1_ps(0.000198527617612853646278381f);

    d = _mm512_max_ps(_mm512_set1_ps(-110.0f), d);
    d = _mm512_min_ps(_mm512_set1_ps(110.0f), d);
    q = _mm512_roundscale_ps(_mm512_mul_ps(d, _mm512_set1_ps(SLEEF_R_LN2)),
                             _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    s = _mm512_fnmadd_ps(q, _mm512_set1_ps(SLEEF_L2U), d);
    s = _mm512_fnmadd_ps(q, _mm512_set1_ps(SLEEF_L2L), s);
    u = _mm512_fmadd_ps(u, s, _mm512_set1_ps(0.00139304355252534151077271f));
    u = _mm512_fmadd_ps(u, s, _mm512_set1_ps(0.00833336077630519866943359f));
    u = _mm512_fmadd_ps(u, s, _mm512_set1_ps(0.0416664853692054748535156f));
    u = _mm512_fmadd_ps(u, s, _mm512_set1_ps(0.166666671633720397949219f));
    u = _mm512_fmadd_ps(u, s, _mm512_set1_ps(0.5f));
    u = _mm512_add_ps(_mm512_set1_ps(1.0f), _mm512_fmadd_ps(_mm512_mul_ps(s, s), u, s));
    return _mm512_scalef_ps(u, q);
}

AVX512_INLINE __m256i silu_of(__m512 v)
{
    const __m512 minus =
        _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MIN)));

    return avx512_round(_mm512_div_ps(v, _mm512_add_ps(_mm512_set1_ps(1.0f), exp_of(minus))));
}

static void silu_16(const bf16 *x, bf16 *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 there = avx512_first(n - i);

        _mm256_mask_storeu_epi16(y + i, there, silu_of(avx512_load(x + i, there)));
    }
}

static void gate_16(const bf16 *x, const bf16 *up, bf16 *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 there = avx512_first(n - i);
        const __m512 act = avx512_widen(silu_of(avx512_load(x + i, there)));
        const __m512 product = _mm512_mul_ps(act, avx512_load(up + i, there));

        _mm256_mask_storeu_epi16(y + i, there, avx512_round(product));
    }
}

const struct rows rows_avx512 = ROWS_TABLE("avx512_bf16", silu_16, gate_16);
