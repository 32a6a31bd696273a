/* sdpa_intel.h - the two products of sdpa_body.h as Intel's MKL and oneDNN have them (numerics.h, "sdpa"):
 * steps of tiles or pairs, with denormals flushed.  What flushes is not inlined, so that the compiler
 * cannot move code into or out of the part where the mode is on.
 *
 * Included by sdpa_row.h's users after a sdpa_pack_*.h, which includes a flush_*.h. */
#ifndef SAMEBIT_CPU_SDPA_INTEL_H
#define SAMEBIT_CPU_SDPA_INTEL_H

#include "kernels/cpu/sdpa_row.h"
#include "kernels/products.h"

/* ---- a strip of columns for the eight rows of a tile ---- */

/* Rows a, `a_step` apart, against the pairs of a strip: y[r * y_step + c]. */
struct strip_sums {
    const float *a;
    int64_t a_step;
    const uint32_t *b;
    int64_t n;      /* elements of k; if odd, the last one has a zero beside it in a and b */
    int64_t length; /* TILES: of a step */
    float *y;
    int64_t y_step;
};

enum { STEP_ROWS = ROWS / 2 };

/* TILES: y goes on. */
static __attribute__((noinline)) void strip_steps(const struct strip_sums *s)
{
    for (int r = 0; r < TILE; r += STEP_ROWS)
        for (int c = 0; c < STRIP; c += 2 * LANES) {
            const float *a = s->a + r * s->a_step;
            float *y = s->y + r * s->y_step + c;
            const uint32_t *word = s->b + c;

            for (int64_t first = 0; first < s->n; first += s->length) {
                const int64_t end = min_i64(first + s->length, s->n);
                VECTOR even[STEP_ROWS][2], odd[STEP_ROWS][2];

#pragma GCC unroll 8
                for (int i = 0; i < STEP_ROWS; i++)
                    even[i][0] = even[i][1] = odd[i][0] = odd[i][1] = ZERO;
                for (int64_t k = first; k < end; k += 2, word += STRIP) {
                    const VECTOR l0 = WIDEN_HIGH(word), r0 = WIDEN_HIGH(word + LANES);
                    const VECTOR l1 = WIDEN_LOW(word), r1 = WIDEN_LOW(word + LANES);

#pragma GCC unroll 8
                    for (int i = 0; i < STEP_ROWS; i++) {
                        const VECTOR x0 = ALL(a[i * s->a_step + k]);
                        const VECTOR x1 = ALL(a[i * s->a_step + k + 1]);

                        even[i][0] = FMA(x0, l0, even[i][0]);
                        even[i][1] = FMA(x0, r0, even[i][1]);
                        odd[i][0] = FMA(x1, l1, odd[i][0]);
                        odd[i][1] = FMA(x1, r1, odd[i][1]);
                    }
                }
#pragma GCC unroll 8
                for (int i = 0; i < STEP_ROWS; i++)
                    for (int v = 0; v < 2; v++) {
                        float *to = y + i * s->y_step + v * LANES;

                        STORE(to, ADD(FLOATS(to), ADD(even[i][v], odd[i][v])));
                    }
            }
        }
}

/* PAIRS in one block: y is set. */
static __attribute__((noinline)) void strip_pairs(const struct strip_sums *s)
{
    for (int r = 0; r < TILE; r += ROWS)
        for (int c = 0; c < STRIP; c += 2 * LANES) {
            const float *a = s->a + r * s->a_step;
            const uint32_t *word = s->b + c;
            VECTOR left[ROWS], right[ROWS];

#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
                left[i] = right[i] = ZERO;
            for (int64_t k = 0; k < s->n; k += 2, word += STRIP) {
                const VECTOR l0 = WIDEN_HIGH(word), r0 = WIDEN_HIGH(word + LANES);
                const VECTOR l1 = WIDEN_LOW(word), r1 = WIDEN_LOW(word + LANES);

#pragma GCC unroll 8
                for (int i = 0; i < ROWS; i++) {
                    const VECTOR x0 = ALL(a[i * s->a_step + k]);
                    const VECTOR x1 = ALL(a[i * s->a_step + k + 1]);

                    left[i] = FMA(x0, l0, FMA(x1, l1, left[i]));
                    right[i] = FMA(x0, r0, FMA(x1, r1, right[i]));
                }
            }
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                STORE(&s->y[(r + i) * s->y_step + c], left[i]);
                STORE(&s->y[(r + i) * s->y_step + c + LANES], right[i]);
            }
        }
}

/* ---- scores ---- */

/* x = q . k of a strip of keys; returns whether it has to be done one by one. */
static int strip_scores(const struct sdpa *s, const struct strip_sums *sums)
{
    const flush_mode mode = flush_begin();

    if (s->products == SDPA_MKL_INTEL)
        strip_pairs(sums);
    else
        strip_steps(sums);
    return flush_end(mode);
}

static void scores_one_by_one(const struct sdpa *s, const struct block *b, int64_t rows,
                              const struct tile *tile, int64_t first, int64_t end)
{
    const int64_t step = s->call->in[1]->stride[1];

    for (int64_t r = 0; r < tile->rows; r++)
        for (int64_t j = first; j < end; j++)
            ((float *)tile->x)[r * SDPA_KEYS + j] = cpu_sdpa_key(
                s, tile->query + r * tile->query_step, b->keys + j * step, rows, b->N, j);
}

static void intel_products(const struct sdpa *s, const struct block *b, int64_t rows,
                           struct tile *tile, int64_t from, int64_t to)
{
    struct strip_sums sums = {.a = tile->q,
                              .a_step = SDPA_WIDEST,
                              .n = s->width,
                              .length =
                                  s->products == SDPA_PACKED ? product_even_step(s->width) : 32,
                              .y_step = SDPA_KEYS};

    for (int64_t first = from / STRIP * STRIP; first < to; first += STRIP) {
        sums.b = b->k + first * s->width / 2;
        sums.y = tile->x + first;
        for (int r = 0; r < TILE; r++)
            memset(sums.y + r * SDPA_KEYS, 0, STRIP * sizeof(float));
        if (strip_scores(s, &sums))
            scores_one_by_one(s, b, rows, tile, first, min_i64(first + STRIP, b->N));
    }
}

/* ---- scores of one row, or of one key ---- */

/* Pair j of a row, in two halves. */
struct split_row {
    _Alignas(64) float even[SDPA_WIDEST / 2], odd[SDPA_WIDEST / 2];
};

enum { PAIR_LANES = 16 /* pair j goes to lane j % 16 */ };

static __attribute__((noinline)) void pair_lanes(const struct split_row *q, const bf16 *keys,
                                                 int64_t step, int64_t pairs, int64_t N,
                                                 float (*lane)[PAIR_LANES])
{
    for (int64_t j = 0; j < N; j++) {
        const bf16 *key = keys + j * step;
        VECTOR sum[PAIR_LANES / LANES];
        int64_t p = 0;

#pragma GCC unroll 4
        for (int v = 0; v < PAIR_LANES / LANES; v++)
            sum[v] = ZERO;
        for (; p + PAIR_LANES <= pairs; p += PAIR_LANES)
#pragma GCC unroll 4
            for (int v = 0; v < PAIR_LANES / LANES; v++) {
                const uint32_t *at = (const uint32_t *)(const void *)(key + 2 * (p + v * LANES));
                const int64_t i = p + v * LANES;

                sum[v] = FMA(FLOATS(q->odd + i), WIDEN_HIGH(at), sum[v]);
                sum[v] = FMA(FLOATS(q->even + i), WIDEN_LOW(at), sum[v]);
            }
#pragma GCC unroll 4
        for (int v = 0; v < PAIR_LANES / LANES; v++)
            STORE(&lane[j][v * LANES], sum[v]);
        for (int l = 0; p < pairs; p++, l++) {
            lane[j][l] = fmaf(q->odd[p], bf16_to_f32(key[2 * p + 1]), lane[j][l]);
            lane[j][l] = fmaf(q->even[p], bf16_to_f32(key[2 * p]), lane[j][l]);
        }
    }
}

/* x = q . k of one row; q: the row; rows: how many its group has. */
static void row_in_pair_lanes(const struct sdpa *s, const struct block *b, int64_t rows,
                              const bf16 *query, const float *q, float *x)
{
    const int64_t step = s->call->in[1]->stride[1], pairs = s->width / 2;
    float lane[SDPA_KEYS][PAIR_LANES];
    struct split_row split;
    flush_mode mode;
    int again;

    for (int64_t p = 0; p < pairs; p++) {
        split.even[p] = q[2 * p];
        split.odd[p] = q[2 * p + 1];
    }
    mode = flush_begin();
    pair_lanes(&split, b->keys, step, pairs, b->N, lane);
    again = flush_end(mode);
    for (int64_t j = 0; j < b->N; j++) {
        float v[8];

        for (int l = 0; l < 8; l++)
            v[l] = lane[j][l] + lane[j][l + 8];
        x[j] = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
        if (again)
            x[j] = cpu_sdpa_key(s, query, b->keys + j * step, rows, b->N, j);
    }
}

/* ---- values ---- */

/* o of each d, of one row, from what it was. */
static void values_one_by_one(const struct sdpa *s, const struct block *b, int64_t rows,
                              const float *x, const float *before, float *o)
{
    bf16 p[SDPA_KEYS];

    for (int64_t j = 0; j < b->N; j++)
        p[j] = (bf16)(f32_bits(x[j]) >> 16);
    for (int64_t d = 0; d < s->width; d++)
        o[d] = cpu_sdpa_value(s, p, b->values + d, rows, b->N, before[d]);
}

enum { FEW_KEYS = 8 /* whose products are summed from 0 */ };

/* sum[i][d]: the chain of pairs of keys 8 * i and the seven after it. */
static __attribute__((noinline)) void chains_of_eight(const bf16 *v, int64_t step, int64_t N,
                                                      int64_t D, const float *restrict p,
                                                      float (*restrict sum)[SDPA_WIDEST])
{
    int64_t j = 0;

    for (; j + FEW_KEYS <= N; j += FEW_KEYS, v += FEW_KEYS * step, sum++)
        for (int64_t d = 0; d < D; d++) {
            float y = 0.0f;

#pragma GCC unroll 4
            for (int i = 0; i < FEW_KEYS; i += 2) {
                y = fmaf(p[j + i + 1], bf16_to_f32(v[(i + 1) * step + d]), y);
                y = fmaf(p[j + i], bf16_to_f32(v[i * step + d]), y);
            }
            sum[0][d] = y;
        }
    if (j < N)
        memset(sum[0], 0, (size_t)D * sizeof(float));
    for (; j < N; j += 2, v += 2 * step)
        for (int64_t d = 0; d < D; d++) {
            const float odd = j + 1 < N ? bf16_to_f32(v[step + d]) : 0.0f;

            sum[0][d] = fmaf(j + 1 < N ? p[j + 1] : 0.0f, odd, sum[0][d]);
            sum[0][d] = fmaf(p[j], bf16_to_f32(v[d]), sum[0][d]);
        }
}

static void row_times_values_in_eights(const struct sdpa *s, const struct block *b, const float *x,
                                       float *o)
{
    float sum[SDPA_KEYS / FEW_KEYS][SDPA_WIDEST], before[SDPA_WIDEST];
    flush_mode mode;

    memcpy(before, o, (size_t)s->width * sizeof(*o));
    mode = flush_begin();
    chains_of_eight(b->values, s->call->in[2]->stride[1], b->N, s->width, x, sum);
    if (flush_end(mode)) {
        values_one_by_one(s, b, 1, x, before, o);
        return;
    }
    for (int64_t i = 0; i * FEW_KEYS < b->N; i++)
        for (int64_t d = 0; d < s->width; d++)
            o[d] = o[d] + sum[i][d];
}

/* Makes zeros of -0, as adding products of weights that are zero does. */
static void add_zero(float *y, int64_t y_step)
{
    for (int r = 0; r < TILE; r++)
        for (int c = 0; c < STRIP; c++)
            y[r * y_step + c] += 0.0f;
}

/* Of keys before `from` and after `to` the weights are zero and the values finite. */
static int strip_values_in_steps(const struct sdpa *s, const struct block *b,
                                 const struct tile *tile, const uint32_t *v, float *o,
                                 int64_t o_step)
{
    const int64_t length = s->products == SDPA_PACKED ? product_even_step(b->N + b->N % 2) : 32;
    const int64_t from = tile->from < tile->to ? tile->from / length * length : 0;
    const int64_t to =
        min_i64(from + (max_i64(tile->to - from, 1) + length - 1) / length * length, b->N);
    const struct strip_sums sums = {
        tile->x + from, SDPA_KEYS, v + from / 2 * STRIP, to - from, length, o, o_step};
    flush_mode mode;
    int again;

    if (from > 0)
        add_zero(o, o_step);
    mode = flush_begin();
    strip_steps(&sums);
    again = flush_end(mode);
    if (to < b->N)
        add_zero(o, o_step);
    return again;
}

static int strip_values_in_pairs(const struct block *b, const struct tile *tile, const uint32_t *v,
                                 int64_t length, float *o, int64_t o_step)
{
    _Alignas(64) float sum[TILE * STRIP];
    int again = 0;

    for (int64_t first = 0, end; first < b->N; first = end) {
        int64_t from = tile->from > first ? (tile->from - first) / 2 * 2 : 0, to;
        struct strip_sums sums = {.a_step = SDPA_KEYS, .y = sum, .y_step = STRIP};
        flush_mode mode;

        end = min_i64(first + length, b->N);
        to = min_i64(end, max_i64(tile->to, first)) - first;
        from = min_i64(from, to);
        sums.a = tile->x + first + from;
        sums.b = v + from / 2 * STRIP;
        sums.n = to - from;
        mode = flush_begin();
        strip_pairs(&sums);
        again |= flush_end(mode);
        if (first + to < end)
            add_zero(sum, STRIP);
        for (int r = 0; r < TILE; r++)
            for (int c = 0; c < STRIP; c++)
                o[r * o_step + c] = o[r * o_step + c] + sum[r * STRIP + c];
        v += (length + 1) / 2 * STRIP;
    }
    return again;
}

static void intel_values(const struct sdpa *s, const struct block *b, int64_t rows,
                         const struct tile *tile, int64_t width)
{
    float before[FLUSH_MAY_FAIL ? TILE * SDPA_WIDEST : 1];
    int again = 0;

    if (FLUSH_MAY_FAIL)
        memcpy(before, tile->o, (size_t)(TILE * width) * sizeof(float));
    for (int64_t d = 0; d < width; d += STRIP) {
        const uint32_t *v = b->v + d * BLOCK_PAIRS;

        again |= s->products == SDPA_MKL_INTEL
                     ? strip_values_in_pairs(b, tile, v, values_chain(s, b->N), tile->o + d, width)
                     : strip_values_in_steps(s, b, tile, v, tile->o + d, width);
    }
    for (int64_t r = 0; again && r < tile->rows; r++)
        values_one_by_one(s, b, rows, tile->x + r * SDPA_KEYS, before + r * width,
                          tile->o + r * width);
}

#endif
