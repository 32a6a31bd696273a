/* sdpa_avx2.c - scaled_dot_product_attention in registers of 8 lanes: 4 rows x 16 columns in
 * 8 registers. */
#include "kernels/cpu/sdpa_pack_x86.h"

enum { LANES = 8, ROWS = 4 };

#define VECTOR __m256
#define ZERO _mm256_setzero_ps()
#define ALL(x) _mm256_set1_ps(x)
#define FOUR(from) _mm256_broadcast_ps((const __m128 *)(const void *)(from)) /* twice */
#define ADD(a, b) _mm256_add_ps(a, b)
#define FLOATS(from) _mm256_loadu_ps(from)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define STORE(to, x) _mm256_storeu_ps(to, x)
#define LOAD(from) _mm256_loadu_si256((const __m256i *)(const void *)(from))
#define WIDEN_LOW(from) _mm256_castsi256_ps(_mm256_slli_epi32(LOAD(from), 16))
#define WIDEN_HIGH(from)                                                                           \
    _mm256_castsi256_ps(_mm256_and_si256(LOAD(from), _mm256_set1_epi32((int)0xffff0000u)))

#include "kernels/cpu/sdpa_body.h"

int cpu_sdpa_avx2(const struct op_call *call)
{
    return sdpa_run(call);
}
