/* sdpa.c - scaled_dot_product_attention, one row at a time: the specification, for any CPU.
 *
 * The order of additions is that of ATen's flash attention for CPUs and of the library it leaves
 * its two products to, as found from outside on a CPU with AVX512_BF16. */
#include "kernels/cpu/sdpa.h"

#include <string.h>

#include "kernels/cpu/finish.h"
#include "kernels/products.h"

/* ---- query times keys ---- */

/* s[k % lanes] = fma(q[k], x[k], s[k % lanes]); lanes is 1, 4 or 8. */
static float sum_in_lanes(const bf16 *q, const bf16 *x, int64_t n, int lanes)
{
    float s[8] = {0};

    for (int64_t k = 0; k < n; k++)
        s[k % lanes] = fmaf(bf16_to_f32(q[k]), bf16_to_f32(x[k]), s[k % lanes]);
    if (lanes == 1)
        return s[0];
    if (lanes == 8)
        for (int l = 0; l < 4; l++)
            s[l] = s[l] + s[l + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

static float sum_in_chains(const bf16 *q, const bf16 *x, int64_t n)
{
    const int64_t chain = sdpa_chain(n);
    float sum = sum_in_lanes(q, x, min_i64(chain, n), 1);

    for (int64_t k = chain; k < n; k += chain)
        sum = sum + sum_in_lanes(q + k, x + k, min_i64(chain, n - k), 1);
    return sum;
}

/* Of key j of N, whose group has so many rows: by MKL on an AMD CPU. */
static float key_of_amd(const bf16 *q, const bf16 *key, int64_t D, int64_t rows, int64_t N,
                        int64_t j)
{
    const int wide = rows > 1 && N > 1 && j >= N - N % 4;

    return sdpa_in_lanes(rows, N) ? sum_in_lanes(q, key, D, wide ? 8 : 4)
                                  : sum_in_chains(q, key, D);
}

/* Pairs in two accumulators of 8 lanes: one row, or one key, by MKL on an Intel CPU. */
static float key_in_pair_lanes(const bf16 *q, const bf16 *key, int64_t D)
{
    float c[2][8] = {{0}}, *v = c[0];

    for (int64_t d = 0; d < D; d += 2) {
        float *s = &c[d / 16 % 2][d / 2 % 8];

        if (d + 1 < D)
            *s = product_fma_flushed(product_flushed(q[d + 1]), product_flushed(key[d + 1]), *s);
        *s = product_fma_flushed(product_flushed(q[d]), product_flushed(key[d]), *s);
    }
    for (int l = 0; l < 8; l++)
        v[l] = v[l] + c[1][l];
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

float cpu_sdpa_key(const struct sdpa *s, const bf16 *q, const bf16 *key, int64_t rows, int64_t N,
                   int64_t j)
{
    const int64_t D = s->width;

    if (s->products == SDPA_MKL_AMD)
        return key_of_amd(q, key, D, rows, N, j);
    if (s->products == SDPA_PACKED)
        return product_steps(q, key, 1, D, product_even_step(D), 0.0f);
    if (rows == 1 || N == 1)
        return key_in_pair_lanes(q, key, D);
    return s->products == SDPA_MKL_AMX ? product_steps(q, key, 1, D, 32, 0.0f)
                                       : product_pairs(q, key, 1, D, D);
}

/* rows: of the group; x: N sums. */
static void row_times_keys(const struct sdpa *s, int64_t rows, const bf16 *q, const bf16 *keys,
                           int64_t N, float *x)
{
    const int64_t step = s->call->in[1]->stride[1];

    for (int64_t j = 0; j < N; j++)
        x[j] = cpu_sdpa_key(s, q, keys + j * step, rows, N, j);
}

/* ---- softmax of a block ---- */

/* x = the scores as they enter the softmax; returns their maximum.  A NaN is more than anything,
 * but without a mask those of the keys left over count as less. */
static float row_scores(const struct sdpa *s, int64_t t, int64_t n, int64_t N, float *x)
{
    const int64_t whole = N / s->lanes * s->lanes;
    int64_t to, from = sdpa_seen(s, t, &to);
    float most = -INFINITY;

    for (int64_t j = 0; j < N; j++) {
        const int seen = n + j >= from && n + j < to;

        if (s->masked)
            x[j] = fmaf(x[j], s->scale, seen ? 0.0f : -INFINITY);
        else
            x[j] = (seen ? x[j] : -INFINITY) * s->scale;
        if (x[j] > most || (x[j] != x[j] && (s->masked || j < whole)))
            most = x[j];
    }
    return most;
}

/* p = bf(e) of every key; returns the sum of the e. */
static float row_weights(const struct sdpa *s, const float *x, float most, int64_t N, bf16 *p)
{
    const int64_t whole = N / s->lanes * s->lanes;
    const int accumulators = 2 * (int)s->lanes;
    float sum[32] = {0};

    for (int64_t j = 0; j < whole; j++) {
        const float e = sdpa_fexp(x[j] - most);

        sum[j % accumulators] += e;
        p[j] = bf16_from_f32(e);
    }
    for (int w = (int)s->lanes; w; w /= 2)
        for (int l = 0; l < w; l++)
            sum[l] = sum[l] + sum[l + w];
    for (int64_t j = whole; j < N; j++) {
        const float e = sdpa_exp_tail(x[j] - most);

        sum[0] += e;
        p[j] = bf16_from_f32(e);
    }
    return sum[0];
}

/* ---- weights times values ---- */

/* N values of one d, `step` apart, and what is kept of earlier blocks: y. */
static float values_of_one(const bf16 *p, const bf16 *v, int64_t step, int64_t N, float y)
{
    const int64_t fours = N & ~3;

#define V(j) bf16_to_f32(v[(j) * step])
#define P(j) bf16_to_f32(p[j])
    for (int64_t j = 0; j < fours; j += 4)
        y = y +
            (fmaf(V(j + 2), P(j + 2), V(j) * P(j)) + fmaf(V(j + 3), P(j + 3), V(j + 1) * P(j + 1)));
    for (int64_t j = N - 1; j >= fours; j--)
        y = fmaf(V(j), P(j), y);
    return y;
}

static float values_chained(const bf16 *p, const bf16 *v, int64_t step, int64_t N, float y)
{
    for (int64_t j = 0; j < N; j++)
        y = fmaf(V(j), P(j), y);
    return y;
}
#undef V
#undef P

static float values_of_many(const bf16 *p, const bf16 *v, int64_t step, int64_t N, float y)
{
    const int64_t chain = sdpa_chain(N);

    for (int64_t j = 0; j < N; j += chain) {
        const float sum = values_chained(p + j, v + j * step, step, min_i64(chain, N - j), 0.0f);

        y = y + sum;
    }
    return y;
}

/* Pairs in blocks, each added to y. */
static float values_in_blocks(const bf16 *p, const bf16 *v, int64_t step, int64_t N, int64_t block,
                              float y)
{
    for (int64_t j = 0; j < N; j += block) {
        const int64_t n = min_i64(block, N - j);

        y = y + product_pairs(p + j, v + j * step, step, n, n + n % 2);
    }
    return y;
}

float cpu_sdpa_value(const struct sdpa *s, const bf16 *p, const bf16 *v, int64_t rows, int64_t N,
                     float y)
{
    const int64_t step = s->call->in[2]->stride[1];

    if (s->products == SDPA_PACKED)
        return product_steps(p, v, step, N, product_even_step(N + N % 2), y);
    if (s->products != SDPA_MKL_AMD) {
        if (rows == 1)
            return values_in_blocks(p, v, step, N, 8, y);
        return s->products == SDPA_MKL_AMX
                   ? product_steps(p, v, step, N, 32, y)
                   : values_in_blocks(p, v, step, N, N > 384 ? (N + 1) / 2 : N, y);
    }
    return rows == 1  ? values_of_one(p, v, step, N, y)
           : rows < 4 ? values_chained(p, v, step, N, y)
                      : values_of_many(p, v, step, N, y);
}

static void row_times_values(const struct sdpa *s, int64_t rows, const bf16 *p, const bf16 *values,
                             int64_t N, int first, float *o)
{
    /* MKL on an AMD CPU makes a -0 +0. */
    const int clears = s->products == SDPA_MKL_AMD && (first || rows > 1);

    for (int64_t d = 0; d < s->width; d++) {
        const float y = cpu_sdpa_value(s, p, values + d, rows, N, o[d]);

        o[d] = clears ? 0.0f + y : y;
    }
}

/* ---- one row ---- */

static void sdpa_row(const struct sdpa *s, int64_t h, int64_t t)
{
    const struct tensor *q = s->call->in[0], *k = s->call->in[1], *v = s->call->in[2];
    const bf16 *query = (const bf16 *)q->data + h * q->stride[0] + t * q->stride[1];
    const bf16 *keys = (const bf16 *)k->data + h / s->shared * k->stride[0];
    const bf16 *values = (const bf16 *)v->data + h / s->shared * v->stride[0];
    bf16 p[SDPA_KEYS], *y = cpu_row(s->call->out, t) + h * s->width;
    float x[SDPA_KEYS], o[SDPA_WIDEST] = {0}, max = -INFINITY, sum = 0.0f, inverse;
    int64_t rows, start = sdpa_group_of(s, t, &rows), end = sdpa_group_keys(s, start, rows);

    for (int64_t n = 0; n < end; n += SDPA_KEYS) {
        const int64_t N = min_i64(SDPA_KEYS, s->keys - n);
        float most;

        row_times_keys(s, rows, query, keys + n * k->stride[1], N, x);
        most = row_scores(s, t, n, N, x);
        if (max > most)
            most = max;
        if (most == -INFINITY) {
            memset(p, 0, sizeof(p));
        } else {
            const float now = row_weights(s, x, most, N, p), old = sdpa_exp_old(max - most);

            sum = fmaf(old, sum, now);
            max = most;
            for (int64_t d = 0; d < s->width; d++)
                o[d] = o[d] * old;
        }
        row_times_values(s, rows, p, values + n * v->stride[1], N, n == 0, o);
    }
    inverse = 1.0f / (sum == 0.0f ? 1.0f : sum);
    for (int64_t d = 0; d < s->width; d++)
        y[d] = finish_round(o[d] * inverse);
}

static void sdpa_piece(const void *work, int64_t piece)
{
    const struct sdpa *s = work;

    sdpa_row(s, piece / s->tokens, piece % s->tokens);
}

int cpu_sdpa_plain(const struct op_call *call)
{
    const struct sdpa s = sdpa_of(call);

    cpu_run(call, sdpa_piece, &s, call->in[0]->shape[0] * s.tokens);
    return 0;
}

int cpu_sdpa(const struct op_call *call)
{
    const struct sdpa s = sdpa_of(call);

    return cpu_of(call)->sdpa[s.products](call);
}
