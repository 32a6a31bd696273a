/* panels_avx2.c - PAIRS with two fused multiply-adds, 8 lanes wide, that flush denormals as
 * vdpbf16ps does: 4 rows x 16 columns in 8 registers. */
#include "kernels/cpu/flush_x86.h"
#include "kernels/cpu/panels_square_x86.h"

#include "kernels/cpu/panels_body.h"

enum { ROWS = 4, LANES = 8, COLUMNS = 2 * LANES, CHAIN_ROWS = 3, CHAIN_VECTORS = 2 };

static inline __m256 even_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

static inline __m256 odd_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000u)));
}

static inline void step(__m256 (*acc)[2], const int32_t *x, const int rows, const uint32_t *panel)
{
    const __m256i *w = (const __m256i *)(const void *)panel;
    const __m256i left = _mm256_load_si256(w), right = _mm256_load_si256(w + 1);
    const __m256 odd[] = {odd_of(left), odd_of(right)};
    const __m256 even[] = {even_of(left), even_of(right)};

    for (int r = 0; r < rows; r++) {
        const __m256i pair = _mm256_set1_epi32(x[r]);
        const __m256 x_odd = odd_of(pair), x_even = even_of(pair);

        for (int v = 0; v < 2; v++) {
            acc[r][v] = _mm256_fmadd_ps(x_odd, odd[v], acc[r][v]);
            acc[r][v] = _mm256_fmadd_ps(x_even, even[v], acc[r][v]);
        }
    }
}

/* Computes one block's chains of 16 columns into chain[r][0..16). */
static inline __attribute__((always_inline)) void chains_of(const bf16 *const *x, const int rows,
                                                            const uint32_t *panel, int64_t K,
                                                            float (*chain)[PANEL_COLUMNS])
{
    __m256 acc[ROWS][2];
    int32_t pair[ROWS];

    for (int r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    for (int64_t p = 0; p < K / 2; p++, panel += PANEL_COLUMNS) {
        for (int r = 0; r < rows; r++)
            memcpy(&pair[r], x[r] + 2 * p, sizeof(pair[r]));
        step(acc, pair, rows, panel);
    }
    if (K % 2) {
        for (int r = 0; r < rows; r++)
            pair[r] = x[r][K - 1];
        step(acc, pair, rows, panel);
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 2; v++)
            _mm256_storeu_ps(&chain[r][LANES * v], acc[r][v]);
}

/* Runs with denormals flushed.  Not inlined, so that the compiler cannot move code into or out of the
 * part where the mode is on. */
static __attribute__((noinline)) void chains(const bf16 *const *x, int rows, const uint32_t *panel,
                                             int64_t K, float (*chain)[PANEL_COLUMNS])
{
    switch (rows) {
    case 1:
        chains_of(x, 1, panel, K, chain);
        break;
    case 2:
        chains_of(x, 2, panel, K, chain);
        break;
    case 3:
        chains_of(x, 3, panel, K, chain);
        break;
    default:
        chains_of(x, 4, panel, K, chain);
        break;
    }
}

static void pairs(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS])
{
    const flush_mode mode = flush_begin();

    for (int r = 0; r < p->rows; r += ROWS)
        for (int c = 0; c < PANEL_COLUMNS; c += COLUMNS)
            chains(p->x + r, p->rows - r < ROWS ? p->rows - r : ROWS, p->panel + c, p->K,
                   (float(*)[PANEL_COLUMNS])(void *)&sum[r][c]);
    flush_end(mode);
}

#define VECTOR __m256
#define ZERO _mm256_setzero_ps()
#define ALL(x) _mm256_set1_ps(x)
#define LOAD(from) _mm256_load_ps(from)
#define STORE(to, x) _mm256_store_ps(to, x)
#define ADD(a, b) _mm256_add_ps(a, b)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define WORDS(from) _mm256_load_si256((const __m256i *)(const void *)(from))
#define EVEN(from) even_of(WORDS(from))
#define ODD(from) odd_of(WORDS(from))

#include "kernels/cpu/panels_chains_body.h"

static void tile(const struct panel_tile *t)
{
    panels_tile(&panels_avx2, t);
}

const struct panels panels_avx2 = {
    .halves = 1,
    .sums = {[PRODUCT_PAIRS] = pairs,
             [PRODUCT_TILES] = panels_steps,
             [PRODUCT_PAIRS_KEPT] = panels_kept,
             [PRODUCT_LANES16] = panels_lanes16},
    .tile = tile,
    .finish = panels_finish,
    .finish_flushed = panels_finish_flushed,
    .pack_rows = panels_pack_rows,
    .pack_columns = panels_pack_columns,
};
