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

static inline int64_t product_batch(const struct op_call *call)
{
    return call->scope.batch > 1 ? call->scope.batch : 1;
}

/* The rows that PyTorch's call would have, whatever part of them this call is asked for. */
static inline struct product_rule product_rule_of_linear(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *w = &call->weight->plain;
    struct product_shape shape = {PRODUCT_OF_LINEAR, 1, 0, w->shape[0], w->shape[1]};

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
    const struct product_shape shape = {use, product_batch(call) * x->shape[0], x->shape[1], N, K};

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

/* DOT8 is met with step 1 only. */
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
    case PRODUCT_CHAIN:
        break;
    }
    return product_chain(x, w, step, K);
}

#endif
