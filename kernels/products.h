/* products.h - the orders of a sum of products, one element at a time.  This spelling is the
 * specification (numerics.h has it in words); the vector versions and the tiles of a GPU, whose
 * exact path calls it too, must give equal bits. */
#ifndef SAMEBIT_PRODUCTS_H
#define SAMEBIT_PRODUCTS_H

#include <float.h>
#include <math.h>
#include <stdint.h>

#include "kernels/backend.h"
#include "kernels/base/bf16.h"

/* Whose bits: the call's own where it has one. */
static inline const struct torch_host *product_host(const struct op_call *call)
{
    return call->scope.torch ? call->scope.torch : &call->backend->torch;
}

static inline int64_t product_batch(const struct op_call *call)
{
    return call->scope.batch > 1 ? call->scope.batch : 1;
}

/* The rows that PyTorch's call would have, whatever part of them this call is asked for. */
static inline struct product_rule product_rule_of_linear(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *w = &call->weight->plain;
    struct product_shape shape = {PRODUCT_OF_LINEAR, 1,           0,
                                  w->shape[0],       w->shape[1], product_host(call)};

    shape.M = product_batch(call) * call->scope.tokens;
    for (int i = 1; i < x->rank - 1; i++)
        shape.M *= x->shape[i];
    return call->backend->numerics->rule(&shape);
}

/* For each of H heads: T x D times D x L, and T x L times L x D. */
static inline struct product_rule product_rule_of_heads(const struct op_call *call,
                                                        enum product_use use, int64_t N, int64_t K)
{
    const struct tensor *x = call->in[0];
    const struct product_shape shape = {
        use, product_batch(call) * x->shape[0], x->shape[1], N, K, product_host(call)};

    return call->backend->numerics->rule(&shape);
}

static inline struct product_rule product_rule_of_qk(const struct op_call *call)
{
    const struct tensor *k = call->in[1];

    return product_rule_of_heads(call, PRODUCT_OF_QK, k->shape[1], k->shape[2]);
}

static inline struct product_rule product_rule_of_pv(const struct op_call *call)
{
    const struct tensor *v = call->in[1];

    return product_rule_of_heads(call, PRODUCT_OF_PV, v->shape[2], v->shape[1]);
}

/* Whether |x * w + acc|, which fmaf has rounded up to FLT_MIN, is below it when rounded to 24 bits
 * without a limit to the exponent: then it counts as denormal. */
BF16_INLINE int product_is_tiny(float x, float w, float acc)
{
    const float up = 0x1p64f; /* acc and x * w are below 2^-100, or their sum were no FLT_MIN */
    const float sum = fabsf(x) < fabsf(w) ? fmaf(x * up, w, acc * up) : fmaf(x, w * up, acc * up);

    return fabsf(sum) < FLT_MIN * up;
}

/* fmaf with a denormal result flushed to zero. */
BF16_INLINE float product_fma_flushed(float x, float w, float acc)
{
    const float r = fmaf(x, w, acc), size = fabsf(r);

    if (size < FLT_MIN || (size == FLT_MIN && product_is_tiny(x, w, acc)))
        return copysignf(0.0f, r);
    return r;
}

/* A denormal input counts as zero. */
BF16_INLINE float product_flushed(bf16 b)
{
    return bf16_to_f32(b & 0x7f80 ? b : b & 0x8000);
}

/* In all of these element k of w is w[k * step]. */
BF16_INLINE float product_pairs(const bf16 *x, const bf16 *w, int64_t step, int64_t K,
                                int64_t block)
{
    float total = 0.0f;

    for (int64_t first = 0; first < K; first += block) {
        const int64_t end = first + block < K ? first + block : K;
        float acc = 0.0f;

        for (int64_t k = first; k < end; k += 2) {
            const int whole = k + 1 < end;

            acc = product_fma_flushed(whole ? product_flushed(x[k + 1]) : 0.0f,
                                      whole ? product_flushed(w[(k + 1) * step]) : 0.0f, acc);
            acc = product_fma_flushed(product_flushed(x[k]), product_flushed(w[k * step]), acc);
        }
        total = first ? total + acc : acc;
    }
    return total;
}

BF16_INLINE float product_lanes8(const float *v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

BF16_INLINE float product_dot8(const bf16 *x, const bf16 *w, int64_t K)
{
    const int64_t in64 = K & ~(int64_t)63, in16 = K & ~(int64_t)15;
    float acc[8][8] = {{0.0f}}, tail[8] = {0.0f}, sum;
    int64_t k = 0;

    for (; k < in64; k++)
        acc[k / 8 % 8][k % 8] = fmaf(bf16_to_f32(x[k]), bf16_to_f32(w[k]), acc[k / 8 % 8][k % 8]);
    for (int half = 4; half; half /= 2)
        for (int r = 0; r < half; r++)
            for (int l = 0; l < 8; l++)
                acc[r][l] = acc[r][l] + acc[r + half][l];
    for (; k < in16; k++)
        tail[k % 8] = fmaf(bf16_to_f32(x[k]), bf16_to_f32(w[k]), tail[k % 8]);
    sum = product_lanes8(acc[0]) + product_lanes8(tail);
    for (; k < K; k++)
        sum = fmaf(bf16_to_f32(x[k]), bf16_to_f32(w[k]), sum);
    return sum;
}

BF16_INLINE float product_four(const bf16 *x, const bf16 *w, int64_t step, int64_t K)
{
    float p[4] = {0.0f};

    for (int64_t k = 0; k < K; k++) {
        const int64_t i = k < (K & ~(int64_t)3) ? k % 4 : 0;

        p[i] = fmaf(bf16_to_f32(x[k]), bf16_to_f32(w[k * step]), p[i]);
    }
    return ((p[0] + p[1]) + p[2]) + p[3];
}

BF16_INLINE float product_chain(const bf16 *x, const bf16 *w, int64_t step, int64_t K)
{
    float sum = 0.0f;

    for (int64_t k = 0; k < K; k++)
        sum = fmaf(bf16_to_f32(x[k]), bf16_to_f32(w[k * step]), sum);
    return sum;
}

/* PAIRS whose denormals are kept. */
BF16_INLINE float product_pairs_kept(const bf16 *x, const bf16 *w, int64_t step, int64_t K,
                                     int64_t block)
{
    float total = 0.0f;

    for (int64_t first = 0; first < K; first += block) {
        const int64_t end = first + block < K ? first + block : K;
        float acc = 0.0f;

        for (int64_t k = first; k < end; k += 2) {
            if (k + 1 < end)
                acc = fmaf(bf16_to_f32(x[k + 1]), bf16_to_f32(w[(k + 1) * step]), acc);
            acc = fmaf(bf16_to_f32(x[k]), bf16_to_f32(w[k * step]), acc);
        }
        total = first ? total + acc : acc;
    }
    return total;
}

/* One row of gemm:jit:bf16: pair j into lane j % 16. */
BF16_INLINE float product_lanes16(const bf16 *x, const bf16 *w, int64_t step, int64_t K)
{
    float c[16] = {0.0f};

    for (int64_t k = 0; k < K; k += 2) {
        float *lane = &c[k / 2 % 16];

        if (k + 1 < K)
            *lane = fmaf(bf16_to_f32(x[k + 1]), bf16_to_f32(w[(k + 1) * step]), *lane);
        *lane = fmaf(bf16_to_f32(x[k]), bf16_to_f32(w[k * step]), *lane);
    }
    for (int l = 0; l < 8; l++)
        c[l] = c[l] + c[l + 8];
    return ((c[0] + c[1]) + (c[2] + c[3])) + ((c[4] + c[5]) + (c[6] + c[7]));
}

/* ---- TILES ---- */

/* A sum that would be denormal is a zero: it is exact, so nothing rounds up. */
BF16_INLINE float product_add_flushed(float a, float b)
{
    const float r = a + b;

    return fabsf(r) < FLT_MIN ? copysignf(0.0f, r) : r;
}

/* Elements of a step in a block of so many: the largest even divisor, at most 32. */
BF16_INLINE int64_t product_even_step(int64_t length)
{
    int64_t step = 32;

    while (step > 2 && length % step)
        step -= 2;
    return step;
}

/* acc after n elements of k in such steps. */
BF16_INLINE float product_steps(const bf16 *x, const bf16 *w, int64_t step, int64_t n,
                                int64_t length, float acc)
{
    acc = fabsf(acc) < FLT_MIN ? copysignf(0.0f, acc) : acc;
    for (int64_t first = 0; first < n; first += length) {
        const int64_t end = first + length < n ? first + length : n;
        float even = 0.0f, odd = 0.0f;

        for (int64_t k = first; k < end; k += 2) {
            const int whole = k + 1 < end;

            even = product_fma_flushed(product_flushed(x[k]), product_flushed(w[k * step]), even);
            odd = product_fma_flushed(whole ? product_flushed(x[k + 1]) : 0.0f,
                                      whole ? product_flushed(w[(k + 1) * step]) : 0.0f, odd);
        }
        acc = product_add_flushed(acc, product_add_flushed(even, odd));
    }
    return acc;
}

/* The blocks of one thread along K, which begin at x and w. */
BF16_INLINE float product_tile_blocks(const struct product_rule *rule, const bf16 *x, const bf16 *w,
                                      int64_t step, int64_t K)
{
    float total = 0.0f;

    for (int64_t k = 0; k < K; k += rule->block) {
        const int64_t n = K - k < rule->block ? K - k : rule->block;
        const float sum = product_steps(x + k, w + k * step, step, n,
                                        rule->even ? product_even_step(n) : 32, 0.0f);

        total = k ? total + sum : sum;
    }
    return total;
}

BF16_INLINE float product_tiles(const struct product_rule *rule, const bf16 *x, const bf16 *w,
                                int64_t step, int64_t K)
{
    const int64_t chunks = (K + rule->chunk - 1) / rule->chunk;
    const int64_t parts = rule->parts < chunks ? rule->parts : chunks;
    float total = 0.0f;
    int64_t k = 0;

    for (int64_t t = 0; t < parts; t++) {
        const int64_t mine = (chunks / parts + (t < chunks % parts)) * rule->chunk;
        const int64_t n = mine < K - k ? mine : K - k;
        const float sum = product_tile_blocks(rule, x + k, w + k * step, step, n);

        total = t ? total + sum : sum;
        k += n;
    }
    return total;
}

/* ---- DEALT ---- */

/* Outputs [0, returned) of all go to the threads before t. */
BF16_INLINE int64_t product_dealt_before(const struct product_shape *s, int64_t t)
{
    const int64_t work = s->B * s->M * s->N, more = work % s->host->threads;

    return work / s->host->threads * t + (t < more ? t : more);
}

/* The thread that output `at` of all goes to. */
BF16_INLINE int64_t product_dealt_to(const struct product_shape *s, int64_t at)
{
    const int64_t work = s->B * s->M * s->N, each = work / s->host->threads;
    const int64_t more = work % s->host->threads;

    return at < more * (each + 1) ? at / (each + 1) : more + (at - more * (each + 1)) / each;
}

/* Whether the output's thread has but one row of its matrix to compute together, or a part of one.
 * *until: the same is true of the outputs that follow in this row, up to this column. */
BF16_INLINE int product_is_alone(const struct product_shape *s, int64_t row, int64_t column,
                                 int64_t *until)
{
    const int64_t N = s->N, at = row * N + column, t = product_dealt_to(s, at);
    const int64_t matrix = row / s->M * s->M * N, end_of_matrix = matrix + s->M * N;
    int64_t first = product_dealt_before(s, t), end = product_dealt_before(s, t + 1);

    *until = end - row * N < N ? end - row * N : N;
    first = first > matrix ? (first + N - 1) / N * N : matrix; /* of its whole rows here */
    end = end < end_of_matrix ? end / N * N : end_of_matrix;
    return at < first || at >= end || end - first <= N;
}

/* What DEALT is for outputs that are alone, and for those that are not. */
BF16_INLINE struct product_rule product_rule_dealt(const struct product_rule *rule, int alone)
{
    struct product_rule own = *rule;

    own.kind = PRODUCT_PAIRS_KEPT;
    if (alone) {
        own.kind = rule->shape.use == PRODUCT_OF_PV ? PRODUCT_PAIRS_KEPT : PRODUCT_LANES16;
        own.block = 8;
    }
    return own;
}

/* The rule of one sum: the output at `column` of row `row` of all B * M. */
BF16_INLINE struct product_rule product_rule_at(const struct product_rule *rule, int64_t row,
                                                int64_t column)
{
    int64_t until;

    if (rule->kind != PRODUCT_DEALT)
        return *rule;
    return product_rule_dealt(rule, product_is_alone(&rule->shape, row, column, &until));
}

/* An output from its sum. */
BF16_INLINE bf16 product_round(const struct product_rule *rule, float sum)
{
    const bf16 y = bf16_from_f32(sum);

    if (rule->flushes_output && fabsf(sum) < FLT_MIN)
        return (bf16)(f32_bits(sum) >> 16 & 0x8000);
    return y;
}

/* DOT8 is met with step 1 only, DEALT as what product_rule_at has made of it. */
BF16_INLINE float product_sum(const struct product_rule *rule, const bf16 *x, const bf16 *w,
                              int64_t step, int64_t K)
{
    switch (rule->kind) {
    case PRODUCT_PAIRS:
        return product_pairs(x, w, step, K, rule->block);
    case PRODUCT_DOT8:
        return product_dot8(x, w, K);
    case PRODUCT_FOUR:
        return product_four(x, w, step, K);
    case PRODUCT_TILES:
        return product_tiles(rule, x, w, step, K);
    case PRODUCT_LANES16:
        return product_lanes16(x, w, step, K);
    case PRODUCT_PAIRS_KEPT:
        return product_pairs_kept(x, w, step, K, rule->block);
    case PRODUCT_DEALT:
    case PRODUCT_CHAIN:
        break;
    }
    return product_chain(x, w, step, K);
}

#endif
