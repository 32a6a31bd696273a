/* panels_avx2.c - products against panels, 8 lanes wide; all orders are panels_chains_body.h's. */
#include "kernels/cpu/flush_x86.h"
#include "kernels/cpu/panels_square_x86.h"

#include "kernels/cpu/panels_body.h"

enum { LANES = 8, CHAIN_ROWS = 3, CHAIN_VECTORS = 2 };

static inline __m256 even_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

static inline __m256 odd_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000u)));
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

static __attribute__((noinline)) void pairs_flushed(const struct panel_piece *p,
                                                    float (*sum)[PANEL_COLUMNS])
{
    sums_of(p, WIDE, PRODUCT_PAIRS, sum);
}

static void pairs(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS])
{
    flush_mode mode;

    clear_sums(p, sum);
    mode = flush_begin();
    pairs_flushed(p, sum);
    flush_end(mode);
}

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
