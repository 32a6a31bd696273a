/* rows_body.h - the row loops, compiled once for each instruction set.  See rows.h.  It needs no
 * macro of the file that includes it, and gives it ROWS_TABLE.
 *
 * Loops are written so that a compiler can put them in vectors: no branches, no calls. */
#include "kernels/cpu/finish.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/sleef.h"
#include "kernels/gelu.h"
#include "kernels/layer_norm.h"

enum { ROWS_CHUNK = 2048 }; /* elements of a row kept as f32 on the stack; a multiple of 16 */

static void rows_add(const bf16 *restrict a, const bf16 *restrict b, bf16 *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = finish_round(bf16_to_f32(a[i]) + bf16_to_f32(b[i]));
}

static void rows_mul(const bf16 *restrict a, const bf16 *restrict b, bf16 *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = finish_round(bf16_to_f32(a[i]) * bf16_to_f32(b[i]));
}

static void rows_add_value(const bf16 *restrict x, float value, bf16 *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = finish_round(bf16_to_f32(x[i]) + value);
}

static void rows_scale(const bf16 *restrict x, float by, bf16 *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = finish_round(bf16_to_f32(x[i]) * by);
}

static void rows_divide(const bf16 *restrict x, float by, bf16 *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = finish_round(bf16_to_f32(x[i]) / by);
}

static void rows_tanh(const bf16 *restrict x, bf16 *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = finish_round(sleef_tanhf(bf16_to_f32(x[i])));
}

static inline void rows_silu(const bf16 *restrict x, bf16 *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float v = bf16_to_f32(x[i]);

        y[i] = finish_round(v / (1.0f + sleef_expf(-v)));
    }
}

/* Row by row of few elements: what is between stays in the cache. */
static inline void rows_gate(const bf16 *restrict x, const bf16 *restrict up, bf16 *restrict y,
                             int64_t n)
{
    bf16 act[ROWS_CHUNK];

    for (int64_t first = 0; first < n; first += ROWS_CHUNK) {
        const int64_t count = n - first < ROWS_CHUNK ? n - first : ROWS_CHUNK;

        rows_silu(x + first, act, count);
        rows_mul(act, up + first, y + first, count);
    }
}

static void rows_gelu_tanh(const bf16 *restrict x, bf16 *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = gelu_tanh(x[i]);
}

/* `weight` is a constant at every call. */
static inline void rows_norm_by(const bf16 *restrict x, const bf16 *restrict w,
                                const enum norm_weight weight, float scale, bf16 *restrict y,
                                int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float h = bf16_to_f32(x[i]) * scale, factor = bf16_to_f32(w[i]);

        if (weight == NORM_BF16)
            y[i] = finish_round(factor * bf16_to_f32(finish_round(h)));
        else
            y[i] = finish_round(h * (weight == NORM_F32 ? factor : 1.0f + factor));
    }
}

static void rows_rms_norm(const bf16 *restrict x, const bf16 *restrict w, enum norm_weight weight,
                          float eps, bf16 *restrict y, int64_t n)
{
    const float mean = reduce_squares(x, n) / (float)n, scale = 1.0f / sqrtf(mean + eps);

    switch (weight) {
    case NORM_BF16:
        rows_norm_by(x, w, NORM_BF16, scale, y, n);
        break;
    case NORM_F32:
        rows_norm_by(x, w, NORM_F32, scale, y, n);
        break;
    case NORM_ONE_PLUS:
        rows_norm_by(x, w, NORM_ONE_PLUS, scale, y, n);
        break;
    }
}

/* `lanes` is a constant at every call. */
static inline void rows_layer_norm_by(const bf16 *restrict x, const bf16 *restrict w,
                                      const bf16 *restrict b, float eps, bf16 *restrict y,
                                      int64_t n, const int lanes)
{
    struct moments lane[MOMENTS_LANES], m;
    float scale;

    for (int l = 0; l < lanes; l++)
        lane[l] = moments_of_lane(x, n, lanes, l);
    m = moments_of_row(x, n, lanes, lane);
    scale = moments_scale(&m, n, eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = layer_norm_element(x[i], w[i], b[i], scale, m.mean);
}

static void rows_layer_norm(const bf16 *restrict x, const bf16 *restrict w, const bf16 *restrict b,
                            float eps, bf16 *restrict y, int64_t n, int lanes)
{
    if (lanes == 16)
        rows_layer_norm_by(x, w, b, eps, y, n, 16);
    else
        rows_layer_norm_by(x, w, b, eps, y, n, 8);
}

static inline bf16 rows_rotate(bf16 x, bf16 cos, bf16 turned, bf16 sin)
{
    const float a = bf16_to_f32(finish_round(bf16_to_f32(x) * bf16_to_f32(cos)));
    const float b = bf16_to_f32(finish_round(bf16_to_f32(turned) * bf16_to_f32(sin)));

    return finish_round(a + b);
}

static void rows_rope(const bf16 *restrict x, const bf16 *restrict cos, const bf16 *restrict sin,
                      bf16 *restrict y, int64_t n)
{
    const int64_t half = n / 2;

    for (int64_t i = 0; i < half; i++) {
        y[i] = rows_rotate(x[i], cos[i], x[i + half] ^ 0x8000, sin[i]);
        y[i + half] = rows_rotate(x[i + half], cos[i + half], x[i], sin[i + half]);
    }
}

static inline bf16 rows_rotate_f32(bf16 x, bf16 cos, bf16 turned, bf16 sin)
{
    return finish_round(bf16_to_f32(x) * bf16_to_f32(cos) + bf16_to_f32(turned) * bf16_to_f32(sin));
}

static void rows_rope_as(const struct op_attrs *attrs, const bf16 *restrict x,
                         const bf16 *restrict cos, const bf16 *restrict sin, bf16 *restrict y,
                         int64_t n)
{
    const int near = attrs->pairs == ROPE_NEIGHBOURS, apart = attrs->table == ROPE_NEIGHBOURS;
    const int64_t half = n / 2;

    for (int64_t i = 0; i < half; i++) {
        const int64_t a = near ? 2 * i : i, b = near ? 2 * i + 1 : i + half;
        const int64_t at = apart ? 2 * i : i, next = apart ? at + 1 : near ? at : at + half;

        if (attrs->apply == ROPE_F32) {
            y[a] = rows_rotate_f32(x[a], cos[at], x[b] ^ 0x8000, sin[at]);
            y[b] = rows_rotate_f32(x[b], cos[next], x[a], sin[next]);
        } else {
            y[a] = rows_rotate(x[a], cos[at], x[b] ^ 0x8000, sin[at]);
            y[b] = rows_rotate(x[b], cos[next], x[a], sin[next]);
        }
    }
}

/* As signed integers these compare like the numbers; a NaN with a sign is the least, one without
 * the greatest.  Either way the row comes out as NaN: from the difference to the maximum, or from
 * the element's own. */
static inline int16_t rows_key(bf16 b)
{
    return (int16_t)(b ^ (b & 0x8000 ? 0x7fff : 0));
}

static float rows_max(const bf16 *x, int64_t n)
{
    int16_t most = INT16_MIN;

    for (int64_t i = 0; i < n; i++) {
        const int16_t key = rows_key(x[i]);

        most = key > most ? key : most;
    }
    return bf16_to_f32((bf16)(most ^ (most < 0 ? 0x7fff : 0)));
}

/* As rows_key, but both zeros are one, and every NaN is more than all numbers. */
static inline int16_t rows_rank(bf16 b)
{
    const int16_t key = rows_key(b);

    return (int16_t)((b & 0x7fff) > 0x7f80 ? INT16_MAX : key - (key >> 15));
}

static int64_t rows_argmax(const bf16 *x, int64_t n)
{
    enum { BLOCK = 256 };
    int16_t most = INT16_MIN;
    int64_t i = 0;

    for (int64_t k = 0; k < n; k++) {
        const int16_t rank = rows_rank(x[k]);

        most = rank > most ? rank : most;
    }
    for (int found = 0; n - i >= BLOCK; i += BLOCK) {
        for (int k = 0; k < BLOCK; k++)
            found |= rows_rank(x[i + k]) == most;
        if (found)
            break;
    }
    while (i < n && rows_rank(x[i]) != most)
        i++;
    return i;
}

static void rows_exp(const bf16 *restrict x, float max, float *restrict e, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        e[i] = sleef_expf(bf16_to_f32(x[i]) - max);
}

/* `lanes` is a constant at every call.  e is left with the last chunk's values. */
static inline float rows_sum_by(const bf16 *x, int64_t n, float max, float *e, const int lanes)
{
    struct reduce_lanes r;
    float sum;

    if (n < lanes) {
        rows_exp(x, max, e, n);
        sum = e[0];
        for (int64_t i = 1; i < n; i++)
            sum = sum + e[i];
        return sum;
    }
    for (int64_t first = 0; first < n; first += ROWS_CHUNK) {
        const int64_t count = n - first < ROWS_CHUNK ? n - first : ROWS_CHUNK;

        rows_exp(x + first, max, e, count);
        reduce_lanes_add(&r, lanes, e, first, count);
    }
    return reduce_lanes_sum(&r, lanes);
}

static float rows_sum(const bf16 *x, int64_t n, float max, float *e, int lanes)
{
    return lanes == 16 ? rows_sum_by(x, n, max, e, 16) : rows_sum_by(x, n, max, e, 8);
}

static void rows_softmax(const bf16 *restrict x, bf16 *restrict y, int64_t n, int lanes)
{
    _Alignas(64) float e[ROWS_CHUNK];
    const float max = rows_max(x, n), inverse = 1.0f / rows_sum(x, n, max, e, lanes);

    for (int64_t first = 0; first < n; first += ROWS_CHUNK) {
        const int64_t count = n - first < ROWS_CHUNK ? n - first : ROWS_CHUNK;

        if (n > ROWS_CHUNK)
            rows_exp(x + first, max, e, count);
        for (int64_t i = 0; i < count; i++)
            y[first + i] = finish_round(e[i] * inverse);
    }
}

static float rows_exp_sum(const bf16 *x, int64_t n, int lanes, float *max)
{
    _Alignas(64) float e[ROWS_CHUNK];

    *max = rows_max(x, n);
    return rows_sum(x, n, *max, e, lanes);
}

/* Eight sums for each, so that the compiler may keep them in registers. */
static void rows_dots(const double *x, const double *w, int64_t n, double *y)
{
    enum { LANES = 8 };
    double sum[ROWS_DOTS][LANES] = {{0}};
    int64_t k = 0;

    for (; k + LANES <= n; k += LANES)
        for (int i = 0; i < ROWS_DOTS; i++)
            for (int l = 0; l < LANES; l++)
                sum[i][l] += x[k + l] * w[i * n + k + l];
    for (; k < n; k++)
        for (int i = 0; i < ROWS_DOTS; i++)
            sum[i][k % LANES] += x[k] * w[i * n + k];
    for (int i = 0; i < ROWS_DOTS; i++) {
        y[i] = 0;
        for (int l = 0; l < LANES; l++)
            y[i] += sum[i][l];
    }
}

#define ROWS_TABLE(name, silu_, gate_)                                                             \
    {                                                                                              \
        .isa = (name),                                                                             \
        .add = rows_add,                                                                           \
        .mul = rows_mul,                                                                           \
        .add_value = rows_add_value,                                                               \
        .scale = rows_scale,                                                                       \
        .divide = rows_divide,                                                                     \
        .tanh = rows_tanh,                                                                         \
        .silu = (silu_),                                                                           \
        .gate = (gate_),                                                                           \
        .gelu_tanh = rows_gelu_tanh,                                                               \
        .rms_norm = rows_rms_norm,                                                                 \
        .layer_norm = rows_layer_norm,                                                             \
        .rope_as = rows_rope_as,                                                                   \
        .rope = rows_rope,                                                                         \
        .softmax = rows_softmax,                                                                   \
        .exp_sum = rows_exp_sum,                                                                   \
        .argmax = rows_argmax,                                                                     \
        .dots = rows_dots,                                                                         \
    }
