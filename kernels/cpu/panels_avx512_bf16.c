/* panels_avx512_bf16.c - PAIRS with vdpbf16ps: 6 rows x 64 columns in 24 registers. */
#include "kernels/cpu/panels_body.h"

#include <immintrin.h>

enum { VECTORS = PANEL_COLUMNS / 16, AHEAD = 4096 / 4 /* pairs to prefetch ahead */ };

/* The pair of x at p, or of its single last element. */
static inline __m512bh pair_of(const bf16 *x, int64_t p)
{
    int32_t pair;

    memcpy(&pair, x + 2 * p, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
}

/* One pair of every row: the pairs are loaded one by one, since 24 sums and 4 columns leave four
 * registers.  last: the pair is x's single last element. */
static inline __attribute__((always_inline)) void step(__m512 (*acc)[VECTORS],
                                                       const bf16 *const *x, const int rows,
                                                       int64_t p, int last, const uint32_t *panel)
{
    __m512bh w[VECTORS];

    for (int v = 0; v < VECTORS; v++)
        w[v] = (__m512bh)_mm512_load_si512(panel + 16 * v);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        const __m512bh pair =
            last ? (__m512bh)_mm512_set1_epi32(x[r][2 * p]) : pair_of(x[r], p);

#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            acc[r][v] = _mm512_dpbf16_ps(acc[r][v], pair, w[v]);
    }
}

/* `rows` is a constant at every call. */
static inline __attribute__((always_inline)) void block_of(const bf16 *const *rows_of_x,
                                                           const int rows, const uint32_t *panel,
                                                           int64_t K, float (*sum)[PANEL_COLUMNS],
                                                           int first)
{
    const bf16 *x[PANEL_ROWS];
    __m512 acc[PANEL_ROWS][VECTORS];

    for (int r = 0; r < rows; r++) {
        x[r] = rows_of_x[r];
        for (int v = 0; v < VECTORS; v++)
            acc[r][v] = _mm512_setzero_ps();
    }
    for (int64_t p = 0; p < K / 2; p++, panel += PANEL_COLUMNS) {
        if (rows == 1)
            for (int v = 0; v < VECTORS; v++)
                _mm_prefetch((const char *)(panel + AHEAD + 16 * v), _MM_HINT_T0);
        step(acc, x, rows, p, 0, panel);
    }
    if (K % 2)
        step(acc, x, rows, K / 2, 1, panel);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++) {
            float *to = &sum[r][16 * v];

            _mm512_store_ps(to, first ? acc[r][v] : _mm512_add_ps(_mm512_load_ps(to), acc[r][v]));
        }
}

static void block(const bf16 *const *x, int rows, const uint32_t *panel, int64_t K,
                  float (*sum)[PANEL_COLUMNS], int first)
{
    switch (rows) {
    case 1:
        block_of(x, 1, panel, K, sum, first);
        break;
    case 2:
        block_of(x, 2, panel, K, sum, first);
        break;
    case 3:
        block_of(x, 3, panel, K, sum, first);
        break;
    case 4:
        block_of(x, 4, panel, K, sum, first);
        break;
    case 5:
        block_of(x, 5, panel, K, sum, first);
        break;
    default:
        block_of(x, 6, panel, K, sum, first);
        break;
    }
}

const struct panels panels_avx512_bf16 = {
    .block = block,
    .finish = panels_finish,
    .pack_rows = panels_pack_rows,
    .pack_columns = panels_pack_columns,
};
