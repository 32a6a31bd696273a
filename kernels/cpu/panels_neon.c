/* panels_neon.c - PAIRS with two fused multiply-adds, 4 lanes wide: from 1 row x 64 columns to
 * 6 rows x 8 columns in 10 to 16 registers.
 * Where a result was flushed (flush_neon.h), the sums are computed again, and every result is looked
 * at. */
#include "kernels/cpu/flush_neon.h"
#include "kernels/cpu/neon.h"
#include "kernels/cpu/panels.h"
#include "kernels/products.h"

/* 8 pairs of 8 columns, four of each at a time. */
static inline void pack_square(const bf16 *w, int64_t step, int64_t columns, uint32_t *panel)
{
    uint32x4_t a[4];

    for (int c = 0; c < 8; c += 4)
        for (int p = 0; p < 8; p += 4) {
            for (int i = 0; i < 4; i++) {
                const bf16 *from = w + (c + i) * step + 2 * p;

                a[i] = c + i < columns ? vreinterpretq_u32_u16(vld1q_u16(from)) : vdupq_n_u32(0);
            }
            neon_store_turned(a, panel + p * PANEL_COLUMNS + c, PANEL_COLUMNS);
        }
}

#include "kernels/cpu/panels_body.h"

enum { LANES = 4, VECTORS = PANEL_COLUMNS / LANES, CHAIN_ROWS = 3, CHAIN_VECTORS = 4 };

/* Sums stay in registers only where every loop over them is unrolled. */
#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

INLINE float32x4_t even_of(uint32x4_t pairs)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
}

INLINE float32x4_t odd_of(uint32x4_t pairs)
{
    return vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
}

/* Returns pair p of x, or the single last element of an odd K. */
INLINE uint32_t pair_of(const bf16 *x, int64_t p, int64_t K)
{
    uint32_t pair;

    if (2 * p + 1 == K)
        return x[2 * p];
    memcpy(&pair, x + 2 * p, sizeof(pair));
    return pair;
}

/* ---- chains ---- */

/* Adds one pair; those of the rows are in a lane of `even` and `odd`. */
INLINE void step(float32x4_t (*acc)[VECTORS], const float32x4_t *odd, const float32x4_t *even,
                 const int lane, const int rows, const int vectors, const uint32_t *panel)
{
    UNROLL for (int v = 0; v < vectors; v++)
    {
        const uint32x4_t w = vld1q_u32(panel + LANES * v);
        const float32x4_t w_odd = odd_of(w), w_even = even_of(w);

        UNROLL for (int r = 0; r < rows; r++) acc[r][v] =
            vfmaq_n_f32(acc[r][v], w_odd, odd[r][lane]);
        UNROLL for (int r = 0; r < rows; r++) acc[r][v] =
            vfmaq_n_f32(acc[r][v], w_even, even[r][lane]);
    }
}

/* Computes one block's chains of some columns into chain[r][0..4 * vectors).  rows and vectors are
 * constants at every call. */
INLINE void chains_of(const bf16 *const *x, const int rows, const int vectors,
                      const uint32_t *panel, int64_t K, float (*chain)[PANEL_COLUMNS])
{
    float32x4_t acc[PANEL_ROWS][VECTORS], odd[PANEL_ROWS], even[PANEL_ROWS];
    int64_t p = 0;

    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) acc[r][v] =
        vdupq_n_f32(0.0f);
    for (; 2 * p + 2 * LANES <= K; p += LANES, panel += LANES * PANEL_COLUMNS) {
        UNROLL for (int r = 0; r < rows; r++)
        {
            const uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(x[r] + 2 * p));

            odd[r] = odd_of(pairs);
            even[r] = even_of(pairs);
        }
        UNROLL for (int lane = 0; lane < LANES; lane++)
            step(acc, odd, even, lane, rows, vectors, panel + lane * PANEL_COLUMNS);
    }
    for (; 2 * p < K; p++, panel += PANEL_COLUMNS) {
        UNROLL for (int r = 0; r < rows; r++)
        {
            const uint32x4_t pair = vdupq_n_u32(pair_of(x[r], p, K));

            odd[r] = odd_of(pair);
            even[r] = even_of(pair);
        }
        step(acc, odd, even, 0, rows, vectors, panel);
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++)
        vst1q_f32(&chain[r][LANES * v], acc[r][v]);
}

/* How many vectors of columns are summed at a time, by rows. */
static const int vectors_of[PANEL_ROWS + 1] = {0, 16, 8, 4, 4, 2, 2};

/* Runs with denormals flushed.  Not inlined, so that the compiler cannot move code into or out of the
 * part where the mode is on. */
static __attribute__((noinline)) void chains(const bf16 *const *x, int rows, const uint32_t *panel,
                                             int64_t K, float (*chain)[PANEL_COLUMNS])
{
    switch (rows) {
    case 1:
        chains_of(x, 1, 16, panel, K, chain);
        break;
    case 2:
        chains_of(x, 2, 8, panel, K, chain);
        break;
    case 3:
        chains_of(x, 3, 4, panel, K, chain);
        break;
    case 4:
        chains_of(x, 4, 4, panel, K, chain);
        break;
    case 5:
        chains_of(x, 5, 2, panel, K, chain);
        break;
    default:
        chains_of(x, 6, 2, panel, K, chain);
        break;
    }
}

/* ---- chains with denormals on the way ---- */

/* Denormals become zeros. */
static inline float32x4_t flushed(float32x4_t x)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(x), exponent = vdupq_n_u32(0x7f800000u);

    return vreinterpretq_f32_u32(
        vandq_u32(bits, vorrq_u32(vtstq_u32(bits, exponent), vdupq_n_u32(0x80000000u))));
}

/* product_fma_flushed of four columns. */
static inline float32x4_t fma_flushed(float x, float32x4_t w, float32x4_t acc)
{
    const float32x4_t sum = vfmaq_n_f32(acc, w, x);
    float32x4_t looked = sum;

    if (vmaxvq_u32(vceqq_f32(vabsq_f32(sum), vdupq_n_f32(FLT_MIN))))
        for (int l = 0; l < LANES; l++)
            looked[l] = product_fma_flushed(x, w[l], acc[l]);
    return flushed(looked);
}

static __attribute__((noinline)) void
chains_looked_at(const bf16 *x, int columns, const uint32_t *panel, int64_t K, float *chain)
{
    for (int c = 0; c < columns; c += LANES) {
        float32x4_t acc = vdupq_n_f32(0.0f);

        for (int64_t p = 0; 2 * p < K; p++) {
            const uint32_t pair = pair_of(x, p, K);
            const uint32x4_t w = vld1q_u32(panel + p * PANEL_COLUMNS + c);

            acc = fma_flushed(product_flushed((bf16)(pair >> 16)), flushed(odd_of(w)), acc);
            acc = fma_flushed(product_flushed((bf16)pair), flushed(even_of(w)), acc);
        }
        vst1q_f32(chain + c, acc);
    }
}

/* ---- struct panels ---- */

static void pairs(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS])
{
    const int columns = LANES * vectors_of[p->rows];

    for (int c = 0; c < PANEL_COLUMNS; c += columns) {
        const flush_mode mode = flush_begin();

        chains(p->x, p->rows, p->panel + c, p->K, (float(*)[PANEL_COLUMNS])(void *)&sum[0][c]);
        if (!flush_end(mode))
            continue;
        for (int r = 0; r < p->rows; r++)
            chains_looked_at(p->x[r], columns, p->panel + c, p->K, &sum[r][c]);
    }
}

#define VECTOR float32x4_t
#define ZERO vdupq_n_f32(0.0f)
#define ALL(x) vdupq_n_f32(x)
#define LOAD(from) vld1q_f32(from)
#define STORE(to, x) vst1q_f32(to, x)
#define ADD(a, b) vaddq_f32(a, b)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define EVEN(from) even_of(vld1q_u32(from))
#define ODD(from) odd_of(vld1q_u32(from))

#include "kernels/cpu/panels_chains_body.h"

static void tile(const struct panel_tile *t)
{
    panels_tile(&panels_neon, t);
}

const struct panels panels_neon = {
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
