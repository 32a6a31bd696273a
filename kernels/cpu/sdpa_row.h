/* sdpa_row.h - the parts of sdpa_body.h that go row by row: sums in lanes, and the softmax of a block.
 * The loops are written so that the compiler can vectorize them. */
#ifndef SAMEBIT_CPU_SDPA_ROW_H
#define SAMEBIT_CPU_SDPA_ROW_H

#include <string.h>

#include "kernels/cpu/finish.h"
#include "kernels/cpu/sdpa_block.h"

/* ---- one key in eight lanes ---- */

static inline float key_in_wide_lanes(const float *q, const bf16 *key, int64_t D)
{
    float s[8] = {0};

    for (int64_t d = 0; d < D; d += 8)
        for (int l = 0; l < 8; l++)
            s[l] = fmaf(q[d + l], bf16_to_f32(key[d + l]), s[l]);
    for (int l = 0; l < 4; l++)
        s[l] = s[l] + s[l + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* ---- values, for groups of three rows or less ---- */

static inline void clear_minus_zeros(float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = 0.0f + y[i];
}

static void row_times_values(const struct sdpa *s, const struct block *b, int64_t rows,
                             const float *restrict p, float *restrict y)
{
    const int64_t step = s->call->in[2]->stride[1], fours = b->N & ~3;
    const bf16 *v = b->values;

    if (rows > 1) {
        for (int64_t j = 0; j < b->N; j++, v += step)
            for (int64_t d = 0; d < s->width; d++)
                y[d] = fmaf(bf16_to_f32(v[d]), p[j], y[d]);
        return;
    }
    for (int64_t j = 0; j < fours; j += 4, v += 4 * step)
        for (int64_t d = 0; d < s->width; d++) {
            const float v0 = bf16_to_f32(v[d]), v1 = bf16_to_f32(v[d + step]);
            const float v2 = bf16_to_f32(v[d + 2 * step]), v3 = bf16_to_f32(v[d + 3 * step]);

            y[d] = y[d] + (fmaf(v2, p[j + 2], v0 * p[j]) + fmaf(v3, p[j + 3], v1 * p[j + 1]));
        }
    for (int64_t j = b->N - 1; j >= fours; j--)
        for (int64_t d = 0; d < s->width; d++)
            y[d] = fmaf(bf16_to_f32(b->values[j * step + d]), p[j], y[d]);
}

/* ---- softmax of a row in a block ---- */

/* Returns an integer that compares as the number does (0 and -0 may compare as different). */
static inline int32_t order(float x)
{
    const int32_t i = (int32_t)f32_bits(x);

    return i ^ (i >> 31 & 0x7fffffff);
}

/* x *= scale; returns the maximum, or NaN where there is one. */
static float row_scale(float *restrict x, int64_t n, float scale)
{
    int32_t most = order(-INFINITY), nan = 0;

    for (int64_t j = 0; j < n; j++) {
        const float y = x[j] * scale;
        const int32_t key = order(y);

        x[j] = y;
        nan |= (f32_bits(y) & 0x7fffffff) > 0x7f800000;
        most = key > most ? key : most;
    }
    return nan ? NAN : f32_from_bits((uint32_t)(most ^ (most >> 31 & 0x7fffffff)));
}

/* Likewise, but a NaN counts as less than any number. */
static float row_scale_left_over(float *x, int64_t n, float scale)
{
    float most = -INFINITY;

    for (int64_t j = 0; j < n; j++) {
        x[j] = x[j] * scale;
        most = x[j] > most ? x[j] : most;
    }
    return most;
}

/* Scales the scores and returns the maximum of those in [from, to). */
static float row_most(const struct sdpa *s, int64_t N, int64_t from, int64_t to, float *x)
{
    const int64_t whole = s->masked ? N : N / s->lanes * s->lanes;
    const int64_t end = min_i64(to, whole), left = from > whole ? from : whole;
    float most = -INFINITY, other;

    if (from < end)
        most = row_scale(x + from, end - from, s->scale);
    if (left >= to)
        return most;
    other = row_scale_left_over(x + left, to - left, s->scale);
    return other > most ? other : most;
}

/* Returns whether masking makes a score NaN instead of -inf. */
static int row_spoilt(const float *x, int64_t n, float scale)
{
    int nan = 0;

    for (int64_t j = 0; j < n; j++)
        nan |= fmaf(x[j], scale, -INFINITY) != -INFINITY;
    return nan;
}

static void row_exp(float *restrict x, int64_t n, float most)
{
    for (int64_t j = 0; j < n; j++)
        x[j] = sdpa_fexp(x[j] - most);
}

/* Rounds the weights to bf16 and returns their sum before rounding; x is 0 outside [from, to).  `lanes`
 * is a constant at every call. */
static inline float row_sum_by(float *restrict x, int64_t from, int64_t to, const int lanes)
{
    float sum[32] = {0};
    int64_t j = from / (2 * lanes) * (2 * lanes);

    for (; j + lanes < to; j += 2 * lanes)
        for (int l = 0; l < 2 * lanes; l++) {
            sum[l] += x[j + l];
            x[j + l] = bf16_to_f32(finish_round(x[j + l]));
        }
    for (int l = 0; j < to && l < lanes; l++) {
        sum[l] += x[j + l];
        x[j + l] = bf16_to_f32(finish_round(x[j + l]));
    }
    for (int w = lanes; w; w /= 2)
        for (int l = 0; l < w; l++)
            sum[l] = sum[l] + sum[l + w];
    return sum[0];
}

/* Turns the scores in [from, to) into weights and all others into 0; returns the sum of the weights
 * before rounding. */
static float row_weights(float *x, int64_t from, int64_t to, int64_t N, float most, int lanes)
{
    const int64_t whole = N / lanes * lanes, end = min_i64(to, whole);
    float sum;

    memset(x, 0, (size_t)from * sizeof(*x));
    memset(x + to, 0, (size_t)(SDPA_KEYS - to) * sizeof(*x));
    if (from < end)
        row_exp(x + from, end - from, most);
    for (int64_t j = from > whole ? from : whole; j < to; j++)
        x[j] = sdpa_exp_tail(x[j] - most);
    sum = lanes == 16 ? row_sum_by(x, from, end, 16) : row_sum_by(x, from, end, 8);
    for (int64_t j = whole; j < to; j++) {
        sum += x[j];
        x[j] = bf16_to_f32(finish_round(x[j]));
    }
    return sum;
}

/* Turns the N scores in x into weights, and updates max, sum and o.  Scores outside [from, to) were
 * computed only if `looked`. */
static void row_softmax(const struct sdpa *s, const struct block *b, int64_t from, int64_t to,
                        int looked, float *x, float *max, float *sum, float *o)
{
    float most = row_most(s, b->N, from, to, x), old, now;

    if (looked && (row_spoilt(x, from, s->scale) || row_spoilt(x + to, b->N - to, s->scale)))
        most = NAN;
    if (*max > most)
        most = *max;
    if (most == -INFINITY) {
        memset(x, 0, SDPA_KEYS * sizeof(*x));
        return;
    }
    now = row_weights(x, from, to, b->N, most, (int)s->lanes);
    old = sdpa_exp_old(*max - most);
    *sum = fmaf(old, *sum, now);
    *max = most;
    for (int64_t d = 0; b->n && d < s->width; d++)
        o[d] = o[d] * old;
}

/* Returns the first key of the block that row t sees; *to: one past the last. */
static int64_t seen_in(const struct sdpa *s, const struct block *b, int64_t t, int64_t *to)
{
    int64_t from = sdpa_seen(s, t, to) - b->n;

    *to -= b->n;
    *to = *to < 0 ? 0 : min_i64(*to, b->N);
    return from < 0 ? 0 : min_i64(from, *to);
}

#endif
