/* ideal.c - see ideal.h.  Plain loops: only the products, which are nearly all of the work, are shared
 * out to the threads. */
#include "kernels/cpu/ideal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/rotary.h"

static const double MASKED = -0x1.fep127; /* bf16's lowest finite value */

/* Where element [i, j, 0] of a tensor of three axes, or [i, 0] of one of two, begins. */
static double *row3(const struct tensor *t, int64_t i, int64_t j)
{
    return (double *)t->data + i * t->stride[0] + j * t->stride[1];
}

static double *row2(const struct tensor *t, int64_t i)
{
    return (double *)t->data + i * t->stride[0];
}

/* Row r of all axes but the last. */
static double *row(const struct tensor *t, int64_t r)
{
    return (double *)t->data + cpu_row_offset(t, r);
}

static void widen(const bf16 *from, double *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (double)bf16_to_f32(from[i]);
}

static const bf16 *weight_row(const struct weight *w, int64_t r)
{
    return (const bf16 *)w->plain.data + r * w->plain.stride[0];
}

/* Eight sums, so that the compiler may keep them in registers. */
double ideal_dot(const double *x, const double *w, int64_t width)
{
    enum { LANES = 8 };
    double sum[LANES] = {0}, all = 0;
    int64_t k = 0;

    for (; k + LANES <= width; k += LANES)
        for (int l = 0; l < LANES; l++)
            sum[l] += x[k + l] * w[k + l];
    for (; k < width; k++)
        sum[k % LANES] += x[k] * w[k];
    for (int l = 0; l < LANES; l++)
        all += sum[l];
    return all;
}

/* ---- by rows ---- */

static int ideal_embedding(const struct op_call *call)
{
    const int64_t *tokens = call->in[0]->data;

    const double by = call->attrs->by != 0 ? call->attrs->by : 1;

    for (int64_t t = 0; t < call->out->shape[0]; t++) {
        double *y = row2(call->out, t);

        widen(weight_row(call->weight, tokens[t]), y, call->out->shape[1]);
        for (int64_t i = 0; i < call->out->shape[1]; i++)
            y[i] *= by;
    }
    return 0;
}

static int ideal_rotary(const struct op_call *call)
{
    const int64_t *positions = call->in[0]->data, half = call->attrs->inv_freq_count;
    const double scale = (double)call->attrs->rotary_scale;
    float room[ROPE_MOST_PAIRS];
    const float *inv_freq = rotary_of_call(call, room);

    for (int64_t t = 0; t < call->out->shape[0]; t++)
        for (int64_t i = 0; i < half; i++) {
            const double angle = (double)positions[t] * (double)inv_freq[i];
            double *y = row2(call->out, t);

            const int apart = call->attrs->table == ROPE_NEIGHBOURS;

            y[apart ? 2 * i : i] = y[apart ? 2 * i + 1 : i + half] =
                scale * (call->attrs->part == ROTARY_COS ? cos(angle) : sin(angle));
        }
    return 0;
}

static int ideal_rms_norm(const struct op_call *call)
{
    const int64_t width = call->weight->plain.shape[0], count = tensor_count(call->out) / width;
    const bf16 *w = call->weight->plain.data;
    const int64_t per_row = call->in[0]->shape[call->in[0]->rank - 1] / width;
    const double one = call->attrs->norm == NORM_ONE_PLUS;

    for (int64_t r = 0; r < count; r++) {
        const double *x = row(call->in[0], r / per_row) + r % per_row * width;
        double *y = call->out->rank == call->in[0]->rank
                        ? row(call->out, r / per_row) + r % per_row * width
                        : row(call->out, r);
        const double scale = 1 / sqrt(ideal_dot(x, x, width) / (double)width + call->attrs->eps);

        for (int64_t i = 0; i < width; i++)
            y[i] = (one + (double)bf16_to_f32(w[i])) * (x[i] * scale);
    }
    return 0;
}

static int ideal_layer_norm(const struct op_call *call)
{
    const int64_t width = call->weight->plain.shape[0];
    const bf16 *w = call->weight->plain.data, *b = call->bias->plain.data;

    for (int64_t t = 0; t < call->out->shape[0]; t++) {
        const double *x = row2(call->in[0], t);
        double *y = row2(call->out, t), mean = 0, variance = 0;

        for (int64_t i = 0; i < width; i++)
            mean += x[i] / (double)width;
        for (int64_t i = 0; i < width; i++)
            variance += (x[i] - mean) * (x[i] - mean) / (double)width;
        for (int64_t i = 0; i < width; i++)
            y[i] = (x[i] - mean) / sqrt(variance + call->attrs->eps) * (double)bf16_to_f32(w[i]) +
                   (double)bf16_to_f32(b[i]);
    }
    return 0;
}

static int ideal_rope(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *out = call->out;
    const struct op_attrs *a = call->attrs;
    const int64_t width = out->shape[2], half = a->still ? 0 : call->in[1]->shape[1] / 2;
    const int near = a->pairs == ROPE_NEIGHBOURS, apart = a->table == ROPE_NEIGHBOURS;
    const int64_t head_step = x->rank == 3 ? x->stride[1] : width;

    for (int64_t h = 0; h < out->shape[0]; h++)
        for (int64_t t = 0; t < out->shape[1]; t++) {
            const double *from = row2(x, t) + h * head_step;
            const double *c = row2(call->in[1], t), *s = row2(call->in[2], t);
            double *y = row3(out, h, t);

            for (int64_t i = 0; i < half; i++) {
                const int64_t p = near ? 2 * i : i, q = near ? 2 * i + 1 : i + half;
                const int64_t at = apart ? 2 * i : i;

                y[p] = from[p] * c[at] - from[q] * s[at];
                y[q] = from[q] * c[at] + from[p] * s[at];
            }
            memcpy(y + 2 * half, from + 2 * half, (size_t)(width - 2 * half) * sizeof(double));
        }
    return 0;
}

static int ideal_cache_append(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *out = call->out;
    const int64_t width = out->shape[2];
    const int heads_first = x->rank == 3;
    const int64_t tokens = x->shape[heads_first ? 1 : 0];

    for (int64_t g = 0; g < out->shape[0]; g++)
        for (int64_t t = 0; t < tokens; t++)
            memcpy(row3(out, g, out->shape[1] - tokens + t),
                   heads_first ? row3(x, g, t) : row2(x, t) + g * width,
                   (size_t)width * sizeof(double));
    return 0;
}

/* ---- products ---- */

enum { COLUMNS = 32, BLOCK = 2 * ROWS_DOTS };

static double bias_of(const struct op_call *call, int64_t n)
{
    return call->bias ? (double)bf16_to_f32(((const bf16 *)call->bias->plain.data)[n]) : 0;
}

/* Columns [first, first + count) of y = x w^T + b, count at most BLOCK; x's rows lie anywhere, w is
 * widened. */
static void linear_block(const struct op_call *call, int64_t first, int64_t count, double *w)
{
    const int64_t width = call->weight->plain.shape[1], rows = cpu_row_count(call->in[0]);

    for (int64_t n = 0; n < count; n++)
        widen(weight_row(call->weight, first + n), w + n * width, width);
    for (int64_t r = 0; r < rows; r++) {
        const double *x = row(call->in[0], r);
        double *y = row(call->out, r) + first, some[ROWS_DOTS];
        int64_t n = 0;

        for (; n + ROWS_DOTS <= count; n += ROWS_DOTS) {
            cpu_of(call)->rows->dots(x, w + n * width, width, some);
            for (int i = 0; i < ROWS_DOTS; i++)
                y[n + i] = some[i] + bias_of(call, first + n + i);
        }
        for (; n < count; n++)
            y[n] = ideal_dot(x, w + n * width, width) + bias_of(call, first + n);
    }
}

/* A block of w at a time, which stays in the cache while all rows of x pass. */
static int linear_columns(const struct op_call *call, int64_t first, int64_t end)
{
    const size_t width = (size_t)call->weight->plain.shape[1];
    double *w = malloc(BLOCK * width * sizeof(*w) + 1);

    for (; w && first < end; first += BLOCK)
        linear_block(call, first, end - first < BLOCK ? end - first : BLOCK, w);
    free(w);
    return w ? 0 : -1;
}

struct columns {
    const struct op_call *call;
    int *failed;
};

static void linear_piece(const void *work, int64_t piece)
{
    const struct columns *c = work;
    const int64_t all = c->call->weight->plain.shape[0], end = (piece + 1) * COLUMNS;

    if (linear_columns(c->call, piece * COLUMNS, end < all ? end : all))
        *c->failed = 1;
}

static int ideal_linear(const struct op_call *call)
{
    int failed = 0;
    const struct columns c = {call, &failed};

    cpu_run(call, linear_piece, &c, cpu_pieces(call->weight->plain.shape[0], COLUMNS));
    return failed ? -1 : 0;
}

static int ideal_matmul_qk(const struct op_call *call)
{
    const struct tensor *q = call->in[0], *k = call->in[1], *out = call->out;
    const int64_t group = q->shape[0] / k->shape[0];

    for (int64_t h = 0; h < out->shape[0]; h++)
        for (int64_t t = 0; t < out->shape[1]; t++)
            for (int64_t l = 0; l < out->shape[2]; l++)
                row3(out, h, t)[l] = ideal_dot(row3(q, h, t), row3(k, h / group, l), q->shape[2]);
    return 0;
}

/* Sum over the keys, into the D columns of head h in row t. */
static void mix(const double *p, const struct tensor *v, int64_t g, int64_t keys, double *y)
{
    const int64_t width = v->shape[2];

    memset(y, 0, (size_t)width * sizeof(*y));
    for (int64_t l = 0; l < keys; l++)
        for (int64_t d = 0; d < width; d++)
            y[d] += p[l] * row3(v, g, l)[d];
}

static int ideal_matmul_pv(const struct op_call *call)
{
    const struct tensor *p = call->in[0], *v = call->in[1];
    const int64_t group = p->shape[0] / v->shape[0], width = v->shape[2];

    for (int64_t h = 0; h < p->shape[0]; h++)
        for (int64_t t = 0; t < p->shape[1]; t++)
            mix(row3(p, h, t), v, h / group, p->shape[2], row2(call->out, t) + h * width);
    return 0;
}

/* ---- scores ---- */

/* Whether query t of the call sees key l of its L keys. */
static int sees(const struct op_scope *s, int64_t window, int64_t keys, int64_t t, int64_t l)
{
    const int64_t query = s->past + t, key = s->past + s->tokens - keys + l;

    return key <= query && key >= s->padding && (!window || query - key < window);
}

static int ideal_causal_mask(const struct op_call *call)
{
    const struct tensor *out = call->out;

    for (int64_t h = 0; h < out->shape[0]; h++)
        for (int64_t t = 0; t < out->shape[1]; t++)
            for (int64_t l = 0; l < out->shape[2]; l++)
                row3(out, h, t)[l] = sees(&call->scope, call->attrs->window, out->shape[2], t, l)
                                         ? row3(call->in[0], h, t)[l]
                                         : MASKED;
    return 0;
}

static void softmax(const double *x, double *y, int64_t n)
{
    double most = x[0], sum = 0;

    for (int64_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (int64_t i = 0; i < n; i++)
        sum += y[i] = exp(x[i] - most);
    for (int64_t i = 0; i < n; i++)
        y[i] /= sum;
}

static int ideal_softmax(const struct op_call *call)
{
    for (int64_t r = 0; r < cpu_row_count(call->out); r++)
        softmax(row(call->in[0], r), row(call->out, r), call->out->shape[call->out->rank - 1]);
    return 0;
}

/* One row of a head: the keys that it sees alone; zeros where it sees none. */
static void attend(const struct op_call *call, int64_t h, int64_t t, double *p)
{
    const struct tensor *q = call->in[0], *k = call->in[1], *v = call->in[2];
    const int64_t g = h / (q->shape[0] / k->shape[0]), keys = k->shape[1], width = v->shape[2];
    int any = 0;

    for (int64_t l = 0; l < keys; l++) {
        const int seen = sees(&call->scope, call->attrs->window, keys, t, l);

        any |= seen;
        p[l] = seen ? ideal_dot(row3(q, h, t), row3(k, g, l), width) * call->attrs->by
                    : -(double)INFINITY;
    }
    if (any)
        softmax(p, p, keys);
    else
        memset(p, 0, (size_t)keys * sizeof(*p));
    mix(p, v, g, keys, row2(call->out, t) + h * width);
}

static int ideal_sdpa(const struct op_call *call)
{
    double *p = malloc((size_t)call->in[1]->shape[1] * sizeof(*p));

    for (int64_t h = 0; p && h < call->in[0]->shape[0]; h++)
        for (int64_t t = 0; t < call->in[0]->shape[1]; t++)
            attend(call, h, t, p);
    free(p);
    return p ? 0 : -1;
}

/* ---- elements ---- */

typedef double element_fn(const struct op_call *call, double a, double b);

static int elements(const struct op_call *call, element_fn *f)
{
    const int64_t n = call->out->shape[call->out->rank - 1];

    for (int64_t r = 0; r < cpu_row_count(call->out); r++) {
        const double *a = row(call->in[0], r), *b = call->in[1] ? row(call->in[1], r) : a;
        double *y = row(call->out, r);

        for (int64_t i = 0; i < n; i++)
            y[i] = f(call, a[i], b[i]);
    }
    return 0;
}

static double scale_one(const struct op_call *call, double a, double b)
{
    (void)b;
    return a * call->attrs->by;
}

static double divide_one(const struct op_call *call, double a, double b)
{
    (void)b;
    return a / call->attrs->by;
}

static double tanh_one(const struct op_call *call, double a, double b)
{
    (void)call;
    (void)b;
    return tanh(a);
}

static double add_one(const struct op_call *call, double a, double b)
{
    (void)call;
    return a + b;
}

static double mul_one(const struct op_call *call, double a, double b)
{
    (void)call;
    return a * b;
}

static double silu_one(const struct op_call *call, double a, double b)
{
    (void)call;
    (void)b;
    return a / (1 + exp(-a));
}

static double gelu_tanh_one(const struct op_call *call, double a, double b)
{
    (void)call;
    (void)b;
    return 0.5 * a * (1 + tanh(sqrt(2 / M_PI) * (a + 0.044715 * (a * a * a))));
}

static int ideal_scale(const struct op_call *call)
{
    return elements(call, scale_one);
}

static int ideal_divide(const struct op_call *call)
{
    return elements(call, divide_one);
}

static int ideal_tanh(const struct op_call *call)
{
    return elements(call, tanh_one);
}

static int ideal_slice(const struct op_call *call)
{
    const struct op_attrs *a = call->attrs;
    const int64_t pieces = a->pieces ? a->pieces : 1, part = call->out->shape[1] / pieces;
    const int64_t step = call->in[0]->shape[1] / pieces;

    for (int64_t t = 0; t < call->out->shape[0]; t++)
        for (int64_t i = 0; i < pieces; i++)
            memcpy(row2(call->out, t) + i * part,
                   row2(call->in[0], t) + i * step + a->before * a->width,
                   (size_t)part * sizeof(double));
    return 0;
}

static int ideal_add(const struct op_call *call)
{
    return elements(call, add_one);
}

static int ideal_mul(const struct op_call *call)
{
    return elements(call, mul_one);
}

static int ideal_silu(const struct op_call *call)
{
    return elements(call, silu_one);
}

static int ideal_gelu_tanh(const struct op_call *call)
{
    return elements(call, gelu_tanh_one);
}

void ideal_fill(op_fn **op)
{
    static op_fn *const table[OP_COUNT] = {
#define OP(name, ...) [OP_##name] = ideal_##name,
#include "kernels/ops.def"
    };

    memcpy(op, table, sizeof(table));
}
