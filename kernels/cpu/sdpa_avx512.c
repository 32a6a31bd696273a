/* sdpa_avx512.c - scaled_dot_product_attention in registers of 16 lanes: 8 rows x 32 columns in
 * 16 registers. */
#include "kernels/cpu/sdpa_pack_x86.h"

enum { LANES = 16, ROWS = 8 };

#define VECTOR __m512
#define ZERO _mm512_setzero_ps()
#define ALL(x) _mm512_set1_ps(x)
#define FOUR(from) _mm512_broadcast_f32x4(_mm_loadu_ps(from)) /* again and again */
#define ADD(a, b) _mm512_add_ps(a, b)
#define FLOATS(from) _mm512_loadu_ps(from)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define DOT(pair, words, sum)                                                                      \
    _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)(pair)),                                \
                     (__m512bh)_mm512_load_si512(words))
#define STORE(to, x) _mm512_storeu_ps(to, x)
#define WIDEN_LOW(from) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(from), 16))
#define WIDEN_HIGH(from)                                                                           \
    _mm512_castsi512_ps(                                                                           \
        _mm512_and_si512(_mm512_loadu_si512(from), _mm512_set1_epi32((int)0xffff0000u)))

#include "kernels/cpu/sdpa_body.h"

int cpu_sdpa_avx512(const struct op_call *call)
{
    return sdpa_run(call);
}
