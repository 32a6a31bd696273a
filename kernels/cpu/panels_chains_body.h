/* panels_chains_body.h - TILES, PAIRS_KEPT and LANES16 against a panel (panels.h), with fused
 * multiply-adds, compiled once for each instruction set.
 *
 * The file that includes it has defined:
 *
 *     LANES                     f32 of a vector
 *     CHAIN_ROWS, CHAIN_VECTORS rows and vectors of columns of TILES that are computed at a time: sums
 *                               of even and of odd k in twice as many registers
 *     VECTOR                    the type of a vector
 *     ZERO, ALL(x)              all 0; all x
 *     LOAD(from), STORE(to, x)  f32
 *     ADD(a, b), FMA(a, b, c)   a + b; a * b + c, rounded once
 *     EVEN(from), ODD(from)     the lower, the upper halves of LANES words, which are bf16, as f32
 *
 * and has included a flush_*.h. */
#include <string.h>

#include "kernels/cpu/panels.h"
#include "kernels/products.h"

#define CHAINS_INLINE static inline __attribute__((always_inline))
#define CHAINS_UNROLL _Pragma("GCC unroll 16")

enum {
    WIDE = 32,                       /* elements of k that are widened to f32 at a time */
    ROW_COLUMNS = PANEL_COLUMNS / 2, /* of one row that are computed at a time */
    ROW_VECTORS = ROW_COLUMNS / LANES,
};

/* Rows of x, from one k on; an odd number of elements is followed by a zero. */
static void widen_rows(const struct panel_piece *p, int64_t k, int64_t count, float (*wide)[WIDE])
{
    for (int r = 0; r < p->rows; r++) {
        const bf16 *x = p->x[r] + k;

        if (count == WIDE)
            for (int i = 0; i < WIDE; i++)
                wide[r][i] = bf16_to_f32(x[i]);
        else
            for (int64_t i = 0; i < count; i++)
                wide[r][i] = bf16_to_f32(x[i]);
        if (count % 2)
            wide[r][count] = 0.0f;
    }
}

/* ---- TILES ---- */

/* One step: sum[r][c] += chain of even k + chain of odd k.  rows and vectors are constants at every
 * call. */
CHAINS_INLINE void step_of(float (*x)[WIDE], const int rows, const int vectors,
                           const uint32_t *panel, int64_t pairs, float (*sum)[PANEL_COLUMNS])
{
    VECTOR even[CHAIN_ROWS][ROW_VECTORS], odd[CHAIN_ROWS][ROW_VECTORS], w[ROW_VECTORS];

    CHAINS_UNROLL for (int r = 0; r < rows; r++) CHAINS_UNROLL for (int v = 0; v < vectors; v++)
        even[r][v] = odd[r][v] = ZERO;
    for (int64_t i = 0; i < pairs; i++, panel += PANEL_COLUMNS) {
        CHAINS_UNROLL for (int v = 0; v < vectors; v++) w[v] = EVEN(panel + LANES * v);
        CHAINS_UNROLL for (int r = 0; r < rows; r++)
        {
            const VECTOR all = ALL(x[r][2 * i]);

            CHAINS_UNROLL for (int v = 0; v < vectors; v++) even[r][v] = FMA(all, w[v], even[r][v]);
        }
        CHAINS_UNROLL for (int v = 0; v < vectors; v++) w[v] = ODD(panel + LANES * v);
        CHAINS_UNROLL for (int r = 0; r < rows; r++)
        {
            const VECTOR all = ALL(x[r][2 * i + 1]);

            CHAINS_UNROLL for (int v = 0; v < vectors; v++) odd[r][v] = FMA(all, w[v], odd[r][v]);
        }
    }
    CHAINS_UNROLL for (int r = 0; r < rows; r++) CHAINS_UNROLL for (int v = 0; v < vectors; v++)
    {
        float *to = &sum[r][LANES * v];

        STORE(to, ADD(LOAD(to), ADD(even[r][v], odd[r][v])));
    }
}

/* ---- PAIRS ---- */

/* Goes on with the chains of one block; last: the last pair is a single element, and nothing else. */
CHAINS_INLINE void chain_of(float (*x)[WIDE], const int rows, const int vectors,
                            const uint32_t *panel, int64_t pairs, int64_t last,
                            float (*sum)[PANEL_COLUMNS])
{
    VECTOR acc[CHAIN_ROWS][ROW_VECTORS];

    CHAINS_UNROLL for (int r = 0; r < rows; r++) CHAINS_UNROLL for (int v = 0; v < vectors; v++)
        acc[r][v] = LOAD(&sum[r][LANES * v]);
    for (int64_t i = 0; i < pairs; i++, panel += PANEL_COLUMNS) {
        if (!last || i + 1 < pairs)
            CHAINS_UNROLL for (int v = 0; v < vectors; v++)
            {
                const VECTOR w = ODD(panel + LANES * v);

                CHAINS_UNROLL for (int r = 0; r < rows; r++) acc[r][v] =
                    FMA(ALL(x[r][2 * i + 1]), w, acc[r][v]);
            }
        CHAINS_UNROLL for (int v = 0; v < vectors; v++)
        {
            const VECTOR w = EVEN(panel + LANES * v);

            CHAINS_UNROLL for (int r = 0; r < rows; r++) acc[r][v] =
                FMA(ALL(x[r][2 * i]), w, acc[r][v]);
        }
    }
    CHAINS_UNROLL for (int r = 0; r < rows; r++) CHAINS_UNROLL for (int v = 0; v < vectors; v++)
        STORE(&sum[r][LANES * v], acc[r][v]);
}

/* ---- pieces ---- */

/* Columns from c on of rows [r, r + rows). */
CHAINS_INLINE void columns_of(float (*x)[WIDE], const int rows, const int vectors,
                              const struct panel_piece *p, int64_t k, int64_t count,
                              const enum product kind, float (*sum)[PANEL_COLUMNS])
{
    for (int c = 0; c < p->columns; c += LANES * vectors) {
        const uint32_t *panel = p->panel + k / 2 * PANEL_COLUMNS + c;
        float(*to)[PANEL_COLUMNS] = (float(*)[PANEL_COLUMNS])(void *)&sum[0][c];

        if (kind != PRODUCT_TILES)
            chain_of(x, rows, vectors, panel, (count + 1) / 2,
                     kind == PRODUCT_PAIRS_KEPT ? count % 2 : 0, to);
        else
            step_of(x, rows, vectors, panel, (count + 1) / 2, to);
    }
}

/* How many of the rows that are left are taken together: as alike as they may be. */
static inline int rows_together(int left)
{
    const int times = (left + CHAIN_ROWS - 1) / CHAIN_ROWS;

    return (left + times - 1) / times;
}

CHAINS_INLINE void sums_of(const struct panel_piece *p, int64_t step, const enum product kind,
                           float (*sum)[PANEL_COLUMNS])
{
    _Alignas(64) float wide[PANEL_ROWS][WIDE];

    for (int64_t k = 0; k < p->K; k += step) {
        const int64_t count = p->K - k < step ? p->K - k : step;

        widen_rows(p, k, count, wide);
        for (int r = 0, rows; r < p->rows; r += rows) {
            rows = rows_together(p->rows - r);
            switch (rows) {
            case 1:
                columns_of(wide + r, 1, ROW_VECTORS, p, k, count, kind, sum + r);
                break;
            case 2:
                columns_of(wide + r, 2, CHAIN_VECTORS, p, k, count, kind, sum + r);
                break;
#if CHAIN_ROWS_MOST > 3
            case 4:
                columns_of(wide + r, 4, CHAIN_VECTORS, p, k, count, kind, sum + r);
                break;
            case 5:
                columns_of(wide + r, 5, CHAIN_VECTORS, p, k, count, kind, sum + r);
                break;
            case 6:
                columns_of(wide + r, 6, CHAIN_VECTORS, p, k, count, kind, sum + r);
                break;
#endif
            default:
                columns_of(wide + r, 3, CHAIN_VECTORS, p, k, count, kind, sum + r);
                break;
            }
        }
    }
}

static void clear_sums(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS])
{
    memset(sum, 0, (size_t)p->rows * sizeof(*sum));
}

/* Runs with denormals flushed.  Not inlined, so that the compiler cannot move code into or out of the
 * part where the mode is on. */
static __attribute__((noinline)) void steps_flushed(const struct panel_piece *p,
                                                    float (*sum)[PANEL_COLUMNS])
{
    sums_of(p, p->step, PRODUCT_TILES, sum);
}

/* The steps of one column, as products.h has them. */
static float steps_one_by_one(const struct panel_piece *p, int r, int c, float sum)
{
    bf16 w[WIDE];

    for (int64_t k = 0; k < p->K; k += p->step) {
        const int64_t count = p->K - k < p->step ? p->K - k : p->step;

        for (int64_t i = 0; i < count; i++)
            w[i] = (bf16)(p->panel[(k + i) / 2 * PANEL_COLUMNS + c] >> (i % 2 * 16));
        sum = product_steps(p->x[r] + k, w, 1, count, p->step, sum);
    }
    return sum;
}

static void panels_steps(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS])
{
    float before[PANEL_ROWS][PANEL_COLUMNS];
    flush_mode mode;

    if (!p->goes_on)
        clear_sums(p, sum);
    if (FLUSH_MAY_FAIL)
        memcpy(before, sum, (size_t)p->rows * sizeof(*sum));
    mode = flush_begin();
    steps_flushed(p, sum);
    if (!flush_end(mode))
        return;
    for (int r = 0; r < p->rows; r++)
        for (int c = 0; c < p->columns; c++)
            sum[r][c] = steps_one_by_one(p, r, c, before[r][c]);
}

static void panels_kept(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS])
{
    clear_sums(p, sum);
    sums_of(p, WIDE, PRODUCT_PAIRS_KEPT, sum);
}

/* ---- LANES16 ---- */

/* Adds up lanes l < 8 and l + 8, and these as a tree, for all columns. */
static void lanes16_end(float (*lane)[PANEL_COLUMNS], int columns, float *sum)
{
    for (int l = 0; l < 8; l++)
        for (int c = 0; c < columns; c++)
            lane[l][c] = lane[l][c] + lane[l + 8][c];
    for (int c = 0; c < columns; c++)
        sum[c] = ((lane[0][c] + lane[1][c]) + (lane[2][c] + lane[3][c])) +
                 ((lane[4][c] + lane[5][c]) + (lane[6][c] + lane[7][c]));
}

static void lanes16_row(const bf16 *x, const struct panel_piece *p, float *sum)
{
    _Alignas(64) float lane[16][PANEL_COLUMNS];

    memset(lane, 0, sizeof(lane));
    for (int64_t k = 0; k < p->K; k += 2) {
        const uint32_t *panel = p->panel + k / 2 * PANEL_COLUMNS;
        float *to = lane[k / 2 % 16];

        for (int c = 0; c < p->columns; c += LANES) {
            VECTOR acc = LOAD(to + c);

            if (k + 1 < p->K)
                acc = FMA(ALL(bf16_to_f32(x[k + 1])), ODD(panel + c), acc);
            STORE(to + c, FMA(ALL(bf16_to_f32(x[k])), EVEN(panel + c), acc));
        }
    }
    lanes16_end(lane, p->columns, sum);
}

static void panels_lanes16(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS])
{
    for (int r = 0; r < p->rows; r++)
        lanes16_row(p->x[r], p, sum[r]);
}
