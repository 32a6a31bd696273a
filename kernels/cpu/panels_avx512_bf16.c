/* panels_avx512_bf16.c - PAIRS with vdpbf16ps: 6 rows x 64 columns in 24 registers. */
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/flush_x86.h"
#include "kernels/cpu/panels_square_x86.h"

#include "kernels/cpu/panels_body.h"

enum { VECTORS = PANEL_COLUMNS / 16, AHEAD = 48 /* pairs to prefetch ahead */ };

/* Sums stay in registers only where every loop over them is unrolled. */
#define UNROLL _Pragma("GCC unroll 6")
#define INLINE AVX512_INLINE

/* Returns the pair of x at p, in every lane. */
INLINE __m512bh pair_of(const bf16 *x, int64_t p)
{
    int32_t pair;

    memcpy(&pair, x + 2 * p, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
}

/* Adds one pair to the sums of every row.  Pairs of x are loaded one by one, since 24 sums and 4
 * columns leave only four registers.  last: the pair is the single last element of an odd K. */
INLINE void step(__m512 (*acc)[VECTORS], const bf16 *const *x, const int rows, const int vectors,
                 int64_t p, int last, const uint32_t *panel)
{
    __m512bh w[VECTORS];

    UNROLL for (int v = 0; v < vectors; v++) w[v] = (__m512bh)_mm512_load_si512(panel + 16 * v);
    UNROLL for (int r = 0; r < rows; r++)
    {
        const __m512bh pair = last ? (__m512bh)_mm512_set1_epi32(x[r][2 * p]) : pair_of(x[r], p);

        UNROLL for (int v = 0; v < vectors; v++) acc[r][v] =
            _mm512_dpbf16_ps(acc[r][v], pair, w[v]);
    }
}

/* Computes the chains of elements [k, k + K) of a tile.  t (may be NULL) says what to prefetch.  With
 * one row, where memory is the bound, it prefetches its own panel and then the next instead: into the
 * second-level cache, which takes more requests at a time than the first, and two of the four lines
 * of a pair, since the hardware prefetches the neighbouring ones.  These choices were measured. */
INLINE void chains_of(__m512 (*acc)[VECTORS], const bf16 *const *x, const int rows,
                      const int vectors, const uint32_t *panel, int64_t K,
                      const struct panel_tile *t, int64_t k)
{
    const char *first = t ? t->ahead[0] + k / 2 * t->stride[0] : NULL;
    const char *second = t ? t->ahead[1] + k / 2 * t->stride[1] : NULL;
    const int64_t change = t && rows == 1 ? (t->K - k) / 2 - AHEAD : INT64_MAX;
    const uint32_t *next = t ? (const uint32_t *)(const void *)t->next : NULL;
    const uint32_t *soon =
        change >= 0 ? panel + AHEAD * PANEL_COLUMNS : next - change * PANEL_COLUMNS;

    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] =
        _mm512_setzero_ps();
    for (int64_t p = 0; p < K / 2; p++, panel += PANEL_COLUMNS) {
        if (rows == 1) {
            if (p == change)
                soon = next;
            _mm_prefetch((const char *)soon, _MM_HINT_T1);
            _mm_prefetch((const char *)(soon + 16), _MM_HINT_T1);
            soon += PANEL_COLUMNS;
        } else if (t) {
            _mm_prefetch(first + p * t->stride[0], _MM_HINT_T1);
            _mm_prefetch(second + p * t->stride[1], _MM_HINT_T1);
        }
        step(acc, x, rows, vectors, p, 0, panel);
    }
    if (K % 2)
        step(acc, x, rows, vectors, K / 2, 1, panel);
}

/* `rows` and `vectors` are constants at every call. */
INLINE void pairs_of(const struct panel_piece *p, const int rows, const int vectors,
                     float (*sum)[PANEL_COLUMNS])
{
    const bf16 *x[PANEL_ROWS];
    __m512 acc[PANEL_ROWS][VECTORS];

    for (int r = 0; r < rows; r++)
        x[r] = p->x[r];
    chains_of(acc, x, rows, vectors, p->panel, p->K, NULL, 0);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++)
        _mm512_store_ps(&sum[r][16 * v], acc[r][v]);
}

/* Calls with `rows` as a constant, so that the compiler can keep the sums in registers. */
#define WITH_ROWS(rows, call)                                                                      \
    switch (rows) {                                                                                \
    case 1:                                                                                        \
        call(1);                                                                                   \
        break;                                                                                     \
    case 2:                                                                                        \
        call(2);                                                                                   \
        break;                                                                                     \
    case 3:                                                                                        \
        call(3);                                                                                   \
        break;                                                                                     \
    case 4:                                                                                        \
        call(4);                                                                                   \
        break;                                                                                     \
    case 5:                                                                                        \
        call(5);                                                                                   \
        break;                                                                                     \
    default:                                                                                       \
        call(6);                                                                                   \
        break;                                                                                     \
    }

static void pairs_of_half(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS])
{
#define PAIRS_OF_HALF(count) pairs_of(p, count, VECTORS / 2, sum)
    WITH_ROWS(p->rows, PAIRS_OF_HALF)
}

static void pairs(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS])
{
#define PAIRS_OF(count) pairs_of(p, count, VECTORS, sum)
    if (p->columns < PANEL_COLUMNS)
        pairs_of_half(p, sum);
    else
        WITH_ROWS(p->rows, PAIRS_OF)
}

/* Rounds and stores vector v of a row's sums. */
INLINE void finish_vector(const struct panel_tile *t, int r, int v, __m512 sum)
{
    const __mmask16 there = avx512_first(t->columns - 16 * v);
    __m256i y;

    if (t->bias)
        sum = _mm512_add_ps(sum, avx512_load(t->bias + 16 * v, there));
    y = avx512_round(sum);
    if (t->add[r]) {
        sum = avx512_load(t->add[r] + 16 * v, there);
        y = avx512_round(_mm512_add_ps(avx512_widen(y), sum));
    }
    _mm256_mask_storeu_epi16(t->y[r] + 16 * v, there, y);
}

/* `rows` and `vectors` are constants at every call. */
INLINE void tile_of(const struct panel_tile *t, const int rows, const int vectors)
{
    _Alignas(64) float sum[PANEL_ROWS][PANEL_COLUMNS];
    const int64_t block = t->rule[0]->block;
    const uint32_t *panel = t->panel;
    const bf16 *x[PANEL_ROWS];
    __m512 acc[PANEL_ROWS][VECTORS];

    for (int r = 0; r < rows; r++)
        x[r] = t->x[r];
    for (int64_t k = 0;; k += block) {
        const int64_t left = t->K - k, count = left < block ? left : block;

        chains_of(acc, x, rows, vectors, panel, count, t, k);
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) if (k)
            acc[r][v] = _mm512_add_ps(_mm512_load_ps(&sum[r][16 * v]), acc[r][v]);
        if (left <= block)
            break;
        UNROLL for (int r = 0; r < rows; r++)
        {
            UNROLL for (int v = 0; v < vectors; v++) _mm512_store_ps(&sum[r][16 * v], acc[r][v]);
            x[r] += count;
        }
        panel += count / 2 * PANEL_COLUMNS;
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++)
        finish_vector(t, r, v, acc[r][v]);
}

static void half_tile(const struct panel_tile *t)
{
#define HALF_TILE_OF(count) tile_of(t, count, VECTORS / 2)
    WITH_ROWS(t->rows, HALF_TILE_OF)
}

/* ---- other orders ---- */

enum { LANES = 16, CHAIN_ROWS = 6, CHAIN_VECTORS = 2 };

#define CHAIN_ROWS_MOST 6
#define VECTOR __m512
#define ZERO _mm512_setzero_ps()
#define ALL(x) _mm512_set1_ps(x)
#define LOAD(from) _mm512_load_ps(from)
#define STORE(to, x) _mm512_store_ps(to, x)
#define ADD(a, b) _mm512_add_ps(a, b)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define EVEN(from) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(from), 16))
#define ODD(from)                                                                                  \
    _mm512_castsi512_ps(                                                                           \
        _mm512_and_si512(_mm512_load_si512(from), _mm512_set1_epi32((int)0xffff0000u)))

#include "kernels/cpu/panels_chains_body.h"

static void tile(const struct panel_tile *t)
{
#define TILE_OF(count) tile_of(t, count, VECTORS)
    if (t->rule[0]->kind != PRODUCT_PAIRS || t->rule[0]->flushes_output)
        panels_tile(&panels_avx512_bf16, t);
    else if (t->half)
        half_tile(t);
    else
        WITH_ROWS(t->rows, TILE_OF)
}

const struct panels panels_avx512_bf16 = {
    .halves = 2,
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
