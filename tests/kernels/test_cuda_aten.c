/* test_cuda_aten.c - the kernels of numerics torch-cuda, emulated, against models of PyTorch's
 * order that are written apart from them, thread by thread; in several orders of the threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/cuda/aten/aten.h"
#include "kernels/cuda/backend_cuda.h"
#include "kernels/cuda/emulated/control.h"
#include "kernels/cuda/tensor_core.h"
#include "tests/kernels/aten_probe.h"
#include "tests/kernels/cases.h"

static struct backend *backend;

/* As the backend opens it, or on the table of another numerics: only the kernels count here. */
static int reopen_aten(void)
{
    struct error err = {0};

    aten_close(backend);
    return aten_open(backend, &err);
}

static int open_backend(void **state)
{
    const int numerics = numerics_find("torch-cuda");
    struct error err = {0};

    (void)state;
    backend = backend_cuda_open("cuda:0", (enum numerics)(numerics < 0 ? 0 : numerics), &err);
    if (!backend)
        print_message("%s\n", err.text);
    return !backend || reopen_aten();
}

static int close_backend(void **state)
{
    (void)state;
    if (backend) {
        aten_close(backend);
        backend_cuda_close(backend);
    }
    return 0;
}

static void *take(int64_t n, size_t size)
{
    void *p = calloc((size_t)(n ? n : 1), size);

    assert_non_null(p);
    return p;
}

/* ---- running an operation on tensors of the host ---- */

static struct tensor to_device(const struct tensor *host)
{
    struct tensor t = tensor_make(host->dtype, host->rank, host->shape, NULL);

    t.data = backend->alloc(backend, tensor_bytes(&t));
    assert_non_null(t.data);
    assert_int_equal(backend->copy(backend, &t, host), 0);
    return t;
}

struct operation {
    enum op op;
    struct tensor in[2]; /* of the host; contiguous */
    int count;
    int64_t spare; /* rows of room behind each head of in[1], which is a cache */
    const struct tensor *weight, *bias;
    struct op_attrs attrs;
    struct op_scope scope;
    struct tensor out; /* shape; no data */
};

/* in[1] as a view of a cache with spare rows; *whole: what to free. */
static struct tensor as_cache(const struct tensor *host, int64_t spare, struct tensor *whole)
{
    struct tensor room = *host, view, part;

    room.shape[1] += spare;
    room = tensor_make(room.dtype, room.rank, room.shape, NULL);
    room.data = backend->alloc(backend, tensor_bytes(&room));
    assert_non_null(room.data);
    view = tensor_slice(&room, 1, 0, host->shape[1]);
    for (int64_t h = 0; h < host->shape[0]; h++) {
        struct tensor from = tensor_slice(host, 0, h, 1);

        part = tensor_slice(&view, 0, h, 1);
        part.rank = from.rank = 2;
        memmove(part.shape, part.shape + 1, 2 * sizeof(part.shape[0]));
        memmove(part.stride, part.stride + 1, 2 * sizeof(part.stride[0]));
        memmove(from.shape, from.shape + 1, 2 * sizeof(from.shape[0]));
        memmove(from.stride, from.stride + 1, 2 * sizeof(from.stride[0]));
        assert_int_equal(backend->copy(backend, &part, &from), 0);
    }
    *whole = room;
    return view;
}

static int run(const struct operation *o, bf16 *out)
{
    struct op_call call = {.backend = backend, .attrs = &o->attrs, .scope = o->scope};
    struct tensor in[2], whole[2], y = tensor_make(DTYPE_BF16, o->out.rank, o->out.shape, NULL);
    struct weight weight = {0}, bias = {0};
    int status;

    for (int i = 0; i < o->count; i++) {
        if (i == 1 && o->spare)
            in[i] = as_cache(&o->in[i], o->spare, &whole[i]);
        else
            whole[i] = in[i] = to_device(&o->in[i]);
        call.in[i] = &in[i];
    }
    y.data = backend->alloc(backend, tensor_bytes(&y));
    assert_non_null(y.data);
    call.out = &y;
    if (o->weight) {
        weight.plain = to_device(o->weight);
        call.weight = &weight;
    }
    if (o->bias) {
        bias.plain = to_device(o->bias);
        call.bias = &bias;
    }
    status = backend->op[o->op](&call);
    assert_int_equal(backend->read(backend, out, &y), 0);
    for (int i = 0; i < o->count; i++)
        backend->free(backend, whole[i].data);
    backend->free(backend, y.data);
    if (o->weight)
        backend->free(backend, weight.plain.data);
    if (o->bias)
        backend->free(backend, bias.plain.data);
    return status;
}

struct tally {
    int64_t cases, elements;
};

static const int orders[] = {EMULATED_FORWARD, EMULATED_REVERSE, 7, 4711};
enum { ORDERS = sizeof(orders) / sizeof(orders[0]) };

static void expect(const struct operation *o, const bf16 *want, struct tally *tally,
                   const char *label)
{
    const int64_t n = tensor_count(&o->out);
    bf16 *got = take(n, sizeof(*got));

    for (int i = 0; i < ORDERS; i++) {
        int64_t differing;

        emulated_set_order(orders[i]);
        memset(got, 0x5a, (size_t)n * sizeof(*got));
        assert_int_equal(run(o, got), 0);
        differing = bf16_differing(want, got, n);
        if (differing)
            fail_msg("%s %s, order %d: %lld of %lld elements differ", op_name(o->op), label,
                     orders[i], (long long)differing, (long long)n);
        tally->cases++;
        tally->elements += n;
    }
    free(got);
}

static void report(const char *what, const struct tally *tally)
{
    print_message("%s: %lld cases, %lld elements, 0 differing\n", what, (long long)tally->cases,
                  (long long)tally->elements);
}

static struct tensor filled(struct random *r, enum fill fill, int rank, const int64_t *shape)
{
    struct tensor t = tensor_make(DTYPE_BF16, rank, shape, NULL);

    t.data = take(tensor_count(&t), sizeof(bf16));
    random_fill(r, fill, t.data, tensor_count(&t));
    return t;
}

/* ---- rms_norm ---- */

static int64_t power_of_two(int64_t x, int64_t most)
{
    int64_t p = 1;

    while (p * 2 <= x && p * 2 <= most)
        p *= 2;
    return p;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static float squared(bf16 x)
{
    return bf16_to_f32(x) * bf16_to_f32(x);
}

/* The sum of one thread; at: its first vector or element; tx: its place along the row. */
static float model_thread(const bf16 *x, int64_t n, int64_t shift, int64_t at, int64_t step,
                          int64_t tx, int edges)
{
    float a[4] = {0};

    if (n < 128) {
        for (int64_t k = 0; at + k * step < n; k++)
            a[k % 4] += squared(x[at + k * step]);
    } else {
        const int64_t head = shift ? 4 - shift : 0, whole = (n - head) / 4;

        if (edges && shift && tx >= shift && tx < 4)
            a[0] += squared(x[tx - shift]);
        for (int64_t v = at; v < whole; v += step)
            for (int i = 0; i < 4; i++)
                a[i] += squared(x[head + v * 4 + i]);
        if (edges && head + whole * 4 + tx < n)
            a[0] += squared(x[head + whole * 4 + tx]);
    }
    return ((a[0] + a[1]) + a[2]) + a[3];
}

/* Values 0, stride, 2 * stride, ...: value i and value i + count/2 are added, halving. */
static float model_halve(float *p, int64_t count, int64_t stride)
{
    for (int64_t half = count / 2; half > 0; half /= 2)
        for (int64_t i = 0; i < half; i++)
            p[i * stride] = p[i * stride] + p[(i + half) * stride];
    return p[0];
}

static float model_mean(const bf16 *x, int64_t rows, int64_t n, int64_t row)
{
    const int64_t most = power_of_two(n < 128 ? n : n / 4, 512);
    const int64_t bh = smaller(power_of_two(rows, 512), 512 / smaller(most, 32));
    const int64_t bw = smaller(most, 512 / bh);
    const int split = (n + bw - 1) / bw >= smaller(16 * bh, 256);
    static float p[512];

    for (int64_t y = 0; y < (split ? bh : 1); y++)
        for (int64_t t = 0; t < bw; t++)
            p[y * bw + t] = model_thread(x, n, row * n % 4, t + (split ? y * bw : 0),
                                         split ? bw * bh : bw, t, y == 0);
    for (int64_t y = 0; y < (split ? bh : 1); y++)
        model_halve(p + y * bw, bw, 1);
    if (split)
        model_halve(p, bh, bw);
    return p[0] * ((float)rows / (float)(rows * n));
}

static void model_rms_norm(const bf16 *x, const bf16 *w, bf16 *y, int64_t rows, int64_t all,
                           int64_t n, float eps)
{
    for (int64_t r = 0; r < rows; r++) {
        const float mean = model_mean(x + r * n, all, n, r) + eps;
        const float scale = (float)(1.0 / sqrt((double)mean));

        for (int64_t i = 0; i < n; i++)
            y[r * n + i] = bf16_from_f32(
                bf16_to_f32(w[i]) * bf16_to_f32(bf16_from_f32(bf16_to_f32(x[r * n + i]) * scale)));
    }
}

/* Rows of the same elements in other orders, so that their means differ in the last bits only. */
static void shuffle_rows(struct random *r, bf16 *x, int64_t rows, int64_t n)
{
    for (int64_t row = 0; row < rows; row++) {
        bf16 *y = x + row * n;

        memmove(y, x, (size_t)n * sizeof(*y));
        for (int64_t i = n - 1; i > 0 && row; i--) {
            const int64_t j = random_below(r, (uint32_t)i + 1);
            const bf16 swapped = y[i];

            y[i] = y[j];
            y[j] = swapped;
        }
    }
}

/* An eps that leaves 2^-18 of the mean: its last bit then moves every element of the result. */
static double revealing_eps(const bf16 *x, int64_t n)
{
    double mean = 0;

    for (int64_t i = 0; i < n; i++)
        mean += (double)squared(x[i]) / (double)n;
    return -mean * (1 - 0x1p-18);
}

/* heads > 0: a width. */
static void rms_norm_case(struct random *r, int64_t tokens, int64_t heads, int64_t n, int64_t of,
                          int64_t batch, struct tally *tally)
{
    const int64_t inner = heads ? heads : 1, rows = tokens * inner,
                  all = of * inner * (batch ? batch : 1);
    const int64_t shape[] = {tokens, inner * n}, out[] = {tokens, inner, n};
    const struct tensor w = filled(r, FILL_PLAIN, 1, &n);
    struct operation o = {.op = OP_rms_norm,
                          .in = {filled(r, FILL_EDGE, 2, shape)},
                          .count = 1,
                          .weight = &w,
                          .attrs = {.width = heads ? n : 0},
                          .scope = {.tokens = of, .batch = batch},
                          .out = tensor_make(DTYPE_BF16, heads ? 3 : 2, heads ? out : shape, NULL)};
    bf16 *want = take(rows * n, sizeof(*want));
    char label[96];

    snprintf(label, sizeof(label), "[%lld of %lld x %lld, %lld]", (long long)rows, (long long)all,
             (long long)batch, (long long)n);
    for (int revealing = 0; revealing < 2; revealing++) {
        if (revealing)
            shuffle_rows(r, o.in[0].data, rows, n);
        o.attrs.eps = revealing ? revealing_eps(o.in[0].data, n) : 1e-6;
        model_rms_norm(o.in[0].data, w.data, want, rows, all, n, (float)o.attrs.eps);
        expect(&o, want, tally, label);
    }
    free(want);
    free(w.data);
    free(o.in[0].data);
}

static void rms_norms(void **state)
{
    static const int64_t widths[] = {1,   2,   7,   16,   31,   32,   33,   64,
                                     100, 126, 127, 128,  129,  130,  131,  132,
                                     256, 576, 896, 1001, 1023, 2048, 4100, 8192};
    static const int64_t rows[] = {1, 2, 3, 4, 5, 8, 15, 16, 17, 33};
    struct random r = {11};
    struct tally tally = {0};

    (void)state;
    for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++)
        for (size_t t = 0; t < sizeof(rows) / sizeof(rows[0]); t++)
            if (widths[w] * rows[t] <= 20000)
                rms_norm_case(&r, rows[t], 0, widths[w], rows[t], 0, &tally);
    for (int64_t tokens = 1; tokens <= 9; tokens += 4) {
        rms_norm_case(&r, tokens, 14, 64, tokens, 0, &tally);
        rms_norm_case(&r, tokens, 3, 128, tokens, 0, &tally);
        rms_norm_case(&r, tokens, 0, 896, tokens, 3, &tally);
        rms_norm_case(&r, tokens, 0, 896, tokens + 20, 0, &tally);
        rms_norm_case(&r, tokens, 2, 128, tokens + 1, 5, &tally);
    }
    report("rms_norm", &tally);
}

/* Where the order depends on a row's place that is not known. */
static void rms_norm_refuses(void **state)
{
    const int64_t n = 130, shape[] = {3, 130};
    struct random r = {5};
    const struct tensor w = filled(&r, FILL_PLAIN, 1, &n);
    struct operation o = {.op = OP_rms_norm,
                          .in = {filled(&r, FILL_PLAIN, 2, shape)},
                          .count = 1,
                          .weight = &w,
                          .attrs = {.eps = 1e-6},
                          .scope = {.tokens = 3, .batch = 2},
                          .out = tensor_make(DTYPE_BF16, 2, shape, NULL)};
    bf16 out[390];

    (void)state;
    assert_int_equal(run(&o, out), -1);
    o.scope.batch = 1;
    o.scope.tokens = 4;
    assert_int_equal(run(&o, out), -1);
    o.scope.tokens = 3;
    assert_int_equal(run(&o, out), 0);
    free(w.data);
    free(o.in[0].data);
}

/* ---- softmax ---- */

static float model_exp(bf16 x, float max)
{
    return (float)exp((double)(bf16_to_f32(x) - max));
}

/* Butterfly or shuffle down: lane 0's sum is the same. */
static float model_warp_sum(const bf16 *x, int64_t length, float max)
{
    float lane[32] = {0};

    for (int64_t i = 0; i < length; i++)
        lane[i % 32] += model_exp(x[i], max);
    return model_halve(lane, 32, 1);
}

/* Element by element in a row's order: whose it is. */
static int64_t model_owner(int64_t length, int64_t row, int64_t i)
{
    int64_t shift = row * length % 4, end = length;

    if (length <= 9216)
        return i % 1024;
    if (length < 12256 && length % 4 == 0)
        return i / 4 % 1024;
    if (shift) {
        if (i < 1024 - shift)
            return i + shift;
        i -= 1024 - shift;
        end -= 1024 - shift;
    }
    return i < end / 4096 * 4096 ? i / 4 % 1024 : (i - end / 4096 * 4096) % 1024;
}

static float model_block_sum(const bf16 *x, int64_t length, int64_t row, float max)
{
    static float p[1024];

    memset(p, 0, sizeof(p));
    for (int64_t i = 0; i < length; i++)
        p[model_owner(length, row, i)] += model_exp(x[i], max);
    for (int w = 0; w < 32; w++)
        model_halve(p + w * 32, 32, 1);
    return model_halve(p, 32, 32);
}

/* Returns the sum. */
static float model_softmax(const bf16 *x, bf16 *y, int64_t length, int64_t row)
{
    float max = -INFINITY, sum;

    for (int64_t i = 0; i < length; i++)
        max = fmaxf(max, bf16_to_f32(x[i]));
    sum = length <= 2048 ? model_warp_sum(x, length, max) : model_block_sum(x, length, row, max);
    for (int64_t i = 0; i < length; i++)
        y[i] = bf16_from_f32(model_exp(x[i], max) / sum);
    return sum;
}

static void expect_sums(const bf16 *x, int64_t rows, int64_t length, const float *want)
{
    float got[16];

    for (int i = 0; i < ORDERS; i++) {
        emulated_set_order(orders[i]);
        assert_int_equal(aten_probe_sums(backend, x, rows, length, got), 0);
        for (int64_t row = 0; row < rows; row++)
            if (f32_bits(got[row]) != f32_bits(want[row]))
                fail_msg("softmax of %lld, row %lld, order %d: sum %a, expected %a",
                         (long long)length, (long long)row, orders[i], (double)got[row],
                         (double)want[row]);
    }
}

static void softmax_case(struct random *r, int64_t heads, int64_t tokens, int64_t length,
                         struct tally *tally)
{
    const int64_t shape[] = {heads, tokens, length}, rows = heads * tokens;
    struct operation o = {.op = OP_softmax,
                          .in = {filled(r, FILL_PLAIN, 3, shape)},
                          .count = 1,
                          .scope = {.tokens = tokens},
                          .out = tensor_make(DTYPE_BF16, 3, shape, NULL)};
    bf16 *x = o.in[0].data, *want = take(rows * length, sizeof(*want));
    float sums[16];
    char label[64];

    for (int64_t i = 0; i < rows * length; i++) {
        x[i] = bf16_from_f32(bf16_to_f32(x[i]) * 4.0f);
        if (random_below(r, 9) == 0)
            x[i] = 0xff7f; /* masked */
    }
    for (int64_t row = 0; row < rows; row++)
        sums[row] = model_softmax(x + row * length, want + row * length, length, row);
    expect_sums(x, rows, length, sums);
    snprintf(label, sizeof(label), "[%lld, %lld, %lld]", (long long)heads, (long long)tokens,
             (long long)length);
    expect(&o, want, tally, label);
    free(want);
    free(x);
}

static void softmaxes(void **state)
{
    static const int64_t lengths[] = {1,  2,  3,  4,  5,  7,   8,   9,   15,  16,   17,   31,
                                      32, 33, 63, 64, 65, 127, 128, 129, 300, 1023, 1024, 1025};
    static const int64_t borders[] = {2047, 2048, 2049, 3000, 3072, 3073, 4096};
    static const int64_t longest[] = {9216,  9217,  9218,  9219,  9220, 10240,
                                      12252, 12253, 12256, 12257, 16385};
    struct random r = {23};
    struct tally tally = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        softmax_case(&r, 3, 5, lengths[i], &tally);
        softmax_case(&r, 1, 1, lengths[i], &tally);
    }
    for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++)
        softmax_case(&r, 2, 3, borders[i], &tally);
    for (size_t i = 0; i < sizeof(longest) / sizeof(longest[0]); i++)
        softmax_case(&r, 2, 2, longest[i], &tally);
    report("softmax", &tally);
}

/* ---- silu, rotary ---- */

static void silus(void **state)
{
    const int64_t n = 65536;
    struct operation o = {.op = OP_silu,
                          .in = {tensor_make(DTYPE_BF16, 1, &n, take(n, sizeof(bf16)))},
                          .count = 1,
                          .out = tensor_make(DTYPE_BF16, 1, &n, NULL)};
    bf16 *x = o.in[0].data, *want = take(n, sizeof(*want));
    struct tally tally = {0};

    (void)state;
    for (int64_t i = 0; i < n; i++) {
        const float value = bf16_to_f32((bf16)i);

        x[i] = (bf16)i;
        want[i] = bf16_from_f32(value / (1.0f + (float)exp(-(double)value)));
    }
    expect(&o, want, &tally, "of every bf16");
    report("silu", &tally);
    free(want);
    free(x);
}

static void rotaries(void **state)
{
    enum { TOKENS = 37, HALF = 64 };
    const int64_t tokens = TOKENS, shape[] = {TOKENS, 2 * HALF};
    float inv_freq[HALF];
    int64_t positions[TOKENS];
    bf16 want[TOKENS * 2 * HALF];
    struct operation o = {.op = OP_rotary,
                          .in = {tensor_make(DTYPE_I64, 1, &tokens, positions)},
                          .count = 1,
                          .attrs = {.inv_freq = inv_freq, .inv_freq_count = HALF},
                          .out = tensor_make(DTYPE_BF16, 2, shape, NULL)};
    struct tally tally = {0};

    (void)state;
    for (int i = 0; i < HALF; i++)
        inv_freq[i] = (float)pow(1e6, -i / 64.0);
    for (int t = 0; t < TOKENS; t++)
        positions[t] = t < 20 ? t : (int64_t)t * t * 97;
    for (int part = ROTARY_COS; part <= ROTARY_SIN; part++) {
        o.attrs.part = (enum rotary_part)part;
        for (int i = 0; i < TOKENS * 2 * HALF; i++) {
            const float angle = (float)positions[i / (2 * HALF)] * inv_freq[i % HALF];

            want[i] = bf16_from_f32(
                (float)(part == ROTARY_COS ? cos((double)angle) : sin((double)angle)));
        }
        expect(&o, want, &tally, part == ROTARY_COS ? "cos" : "sin");
    }
    report("rotary", &tally);
}

/* ---- products: the copies and the layouts; a sum is one chain of fma ---- */

static float chain(const bf16 *x, int64_t x_step, const bf16 *w, int64_t w_step, int64_t n)
{
    float sum = 0.0f;

    for (int64_t k = 0; k < n; k++)
        sum = fmaf(bf16_to_f32(x[k * x_step]), bf16_to_f32(w[k * w_step]), sum);
    return sum;
}

static void linear_case(struct random *r, int64_t T, int64_t of, int64_t batch, int64_t N,
                        int64_t K, int with_bias, struct tally *tally)
{
    const int64_t x_shape[] = {T, K}, w_shape[] = {N, K}, y_shape[] = {T, N};
    const struct tensor w = filled(r, FILL_PLAIN, 2, w_shape), bias = filled(r, FILL_PLAIN, 1, &N);
    struct operation o = {.op = OP_linear,
                          .in = {filled(r, FILL_PLAIN, 2, x_shape)},
                          .count = 1,
                          .weight = &w,
                          .bias = with_bias ? &bias : NULL,
                          .scope = {.tokens = of, .row = (of - T) / 2, .batch = batch},
                          .out = tensor_make(DTYPE_BF16, 2, y_shape, NULL)};
    bf16 *want = take(T * N, sizeof(*want));

    for (int64_t i = 0; i < T * N; i++) {
        const float sum =
            chain((bf16 *)o.in[0].data + i / N * K, 1, (bf16 *)w.data + i % N * K, 1, K);

        want[i] = bf16_from_f32(with_bias ? sum + bf16_to_f32(((bf16 *)bias.data)[i % N]) : sum);
    }
    expect(&o, want, tally, with_bias ? "with a bias" : "without a bias");
    free(want);
    free(w.data);
    free(bias.data);
    free(o.in[0].data);
}

static void linears(void **state)
{
    struct random r = {31};
    struct tally tally = {0};

    (void)state;
    for (int bias = 0; bias < 2; bias++) {
        linear_case(&r, 1, 1, 0, 7, 5, bias, &tally);
        linear_case(&r, 5, 5, 1, 130, 33, bias, &tally);
        linear_case(&r, 1, 9, 0, 65, 64, bias, &tally);
        linear_case(&r, 16, 37, 0, 65, 64, bias, &tally);
        linear_case(&r, 4, 4, 3, 64, 65, bias, &tally);
    }
    report("linear", &tally);
}

struct heads_case {
    int64_t H, G, T, L, D, spare, batch;
};

static const struct heads_case heads_cases[] = {
    {1, 1, 1, 1, 8, 0, 0},  {4, 4, 1, 9, 16, 0, 0},  {4, 4, 1, 9, 16, 3, 0}, {4, 2, 1, 9, 16, 0, 1},
    {6, 2, 5, 5, 16, 2, 0}, {6, 2, 5, 12, 24, 7, 0}, {4, 4, 3, 3, 16, 0, 0}, {4, 1, 7, 7, 64, 1, 0},
    {4, 2, 3, 5, 16, 2, 3}, {2, 2, 1, 5, 16, 0, 2}};

static void scores_case(struct random *r, const struct heads_case *c, struct tally *tally)
{
    const int64_t q_shape[] = {c->H, c->T, c->D}, k_shape[] = {c->G, c->L, c->D};
    const int64_t y_shape[] = {c->H, c->T, c->L};
    struct operation o = {
        .op = OP_matmul_qk,
        .in = {filled(r, FILL_PLAIN, 3, q_shape), filled(r, FILL_PLAIN, 3, k_shape)},
        .count = 2,
        .spare = c->spare,
        .scope = {.tokens = c->T, .past = c->L - c->T, .batch = c->batch},
        .out = tensor_make(DTYPE_BF16, 3, y_shape, NULL)};
    const int64_t n = c->H * c->T * c->L;
    bf16 *want = take(n, sizeof(*want));

    for (int64_t i = 0; i < n; i++)
        want[i] = bf16_from_f32(
            chain((bf16 *)o.in[0].data + i / c->L * c->D, 1,
                  (bf16 *)o.in[1].data + (i / c->L / c->T / (c->H / c->G) * c->L + i % c->L) * c->D,
                  1, c->D));
    expect(&o, want, tally, "");
    free(want);
    free(o.in[0].data);
    free(o.in[1].data);
}

static void context_case(struct random *r, const struct heads_case *c, struct tally *tally)
{
    const int64_t p_shape[] = {c->H, c->T, c->L}, v_shape[] = {c->G, c->L, c->D};
    const int64_t y_shape[] = {c->T, c->H * c->D};
    struct operation o = {
        .op = OP_matmul_pv,
        .in = {filled(r, FILL_PLAIN, 3, p_shape), filled(r, FILL_PLAIN, 3, v_shape)},
        .count = 2,
        .spare = c->spare,
        .scope = {.tokens = c->T, .past = c->L - c->T, .batch = c->batch},
        .out = tensor_make(DTYPE_BF16, 2, y_shape, NULL)};
    const int64_t n = c->T * c->H * c->D;
    bf16 *want = take(n, sizeof(*want));

    for (int64_t i = 0; i < n; i++) {
        const int64_t t = i / (c->H * c->D), h = i / c->D % c->H, d = i % c->D;

        want[i] = bf16_from_f32(chain((bf16 *)o.in[0].data + (h * c->T + t) * c->L, 1,
                                      (bf16 *)o.in[1].data + h / (c->H / c->G) * c->L * c->D + d,
                                      c->D, c->L));
    }
    expect(&o, want, tally, "");
    free(want);
    free(o.in[0].data);
    free(o.in[1].data);
}

static void attentions(void **state)
{
    struct random r = {37};
    struct tally tally = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(heads_cases) / sizeof(heads_cases[0]); i++) {
        scores_case(&r, &heads_cases[i], &tally);
        context_case(&r, &heads_cases[i], &tally);
    }
    report("matmul_qk, matmul_pv", &tally);
}

/* More copies than there is memory for. */
static void scratch_is_bounded(void **state)
{
    const int64_t x_shape[] = {1, 64}, w_shape[] = {64, 64};
    struct tensor x = tensor_make(DTYPE_BF16, 2, x_shape, NULL), y = x;
    struct weight w = {tensor_make(DTYPE_BF16, 2, w_shape, NULL), NULL};
    struct op_call call = {.backend = backend, .in = {&x}, .weight = &w, .out = &y};

    (void)state;
    call.scope.tokens = 1;
    assert_int_equal(aten_scratch_bytes(OP_linear, &call), 0);
    call.scope.tokens = 3;
    assert_int_equal(aten_scratch_bytes(OP_linear, &call), 2 * 512);
    assert_int_equal(aten_scratch_bytes(OP_add, &call), 0);
    call.scope.tokens = (int64_t)ATEN_SCRATCH_BYTES / 64;
    assert_int_equal(aten_linear(&call), -1);
}

/* ---- the emulated tensor core, against the published description in real numbers ---- */

/* Toward zero. */
static float truncated(double x)
{
    const float f = (float)x;

    return fabs((double)f) > fabs(x) ? nextafterf(f, 0.0f) : f;
}

/* As stored: denormals have the least normal number's. */
static int exponent_of(float x)
{
    int e;

    frexpf(x, &e);
    return e - 1 > -126 ? e - 1 : -126;
}

/* The exponent of a product is the sum of its factors': it may be one below the product's own.  A
 * zero has one too, which is `lowest`. */
static float model_step(const bf16 *x, const bf16 *w, int count, float sum, int fraction,
                        int lowest)
{
    int largest = sum != 0 ? exponent_of(sum) : lowest;
    double total = 0;

    for (int i = 0; i < count; i++) {
        const float a = bf16_to_f32(x[i]), b = bf16_to_f32(w[i]);
        const int exponent = a != 0 && b != 0 ? exponent_of(a) + exponent_of(b) : lowest;

        largest = exponent > largest ? exponent : largest;
    }
    for (int i = 0; i <= count; i++) {
        const double term =
            i == count ? (double)sum : (double)bf16_to_f32(x[i]) * (double)bf16_to_f32(w[i]);

        total += trunc(ldexp(term, fraction - largest));
    }
    return truncated(ldexp(total, largest - fraction));
}

/* Of bits, sums near zero and near the least numbers among them. */
static void tensor_core_steps(void **state)
{
    static const struct tensor_core *const cores[] = {&tensor_core_ampere, &tensor_core_hopper};
    static const enum fill fills[] = {FILL_PLAIN, FILL_EDGE, FILL_TINY, FILL_LEAST};
    struct random r = {41};
    int steps = 0;

    (void)state;
    for (int i = 0; i < 80000; i++) {
        const struct tensor_core *core = cores[i % 2];
        const enum fill fill = fills[i / 2 % 4];
        const int count =
            i % 3 ? (i % 2 ? 16 : 8) : 1 + (int)random_below(&r, (uint32_t)core->group);
        struct tensor_core_number a[16], b[16];
        bf16 x[16], w[16];
        float sum, want, got;

        random_fill(&r, fill, x, count);
        random_fill(&r, fill, w, count);
        for (int k = 0; k < count; k++) {
            a[k] = tensor_core_read(x[k]);
            b[k] = tensor_core_read(w[k]);
        }
        sum = bf16_to_f32(random_value(&r, fill)) * bf16_to_f32(random_value(&r, fill)) * 1.1f;
        want = model_step(x, w, count, sum, i % 2 ? 25 : 24, i % 2 ? -133 : -132);
        got = tensor_core_step(core, a, b, count, sum);
        if (got != want)
            fail_msg("step %d, group of %d: %a, expected %a", i, core->group, (double)got,
                     (double)want);
        steps++;
    }
    print_message("tensor core steps: %d, 0 differing\n", steps);
}

static void tensor_core_case(const char *name, int group, int fraction, int64_t K,
                             struct tally *tally)
{
    enum { N = 24, T = 6 };
    const int64_t x_shape[] = {T, K}, w_shape[] = {N, K}, y_shape[] = {T, N};
    struct random r = {(uint64_t)K};
    const struct tensor w = filled(&r, FILL_PLAIN, 2, w_shape);
    struct operation o = {.op = OP_linear,
                          .in = {filled(&r, FILL_PLAIN, 2, x_shape)},
                          .count = 1,
                          .weight = &w,
                          .scope = {.tokens = T},
                          .out = tensor_make(DTYPE_BF16, 2, y_shape, NULL)};
    bf16 want[T * N];

    for (int i = 0; i < T * N; i++) {
        const bf16 *x = (bf16 *)o.in[0].data + i / N * K, *v = (bf16 *)w.data + i % N * K;
        float sum = 0.0f;

        for (int64_t k = 0; k < K; k += group)
            sum = model_step(x + k, v + k, (int)(K - k < group ? K - k : group), sum, fraction,
                             group == 8 ? -132 : -133);
        want[i] = bf16_from_f32(sum);
    }
    expect(&o, want, tally, name);
    free(w.data);
    free(o.in[0].data);
}

static void tensor_cores(void **state)
{
    static const int64_t depths[] = {1, 7, 8, 9, 16, 31, 64, 100, 896};
    static const char *const names[] = {"ampere", "hopper"};
    struct tally tally = {0};

    (void)state;
    for (int c = 0; c < 2; c++) {
        setenv("SAMEBIT_EMULATED_TENSOR_CORES", names[c], 1);
        assert_int_equal(reopen_aten(), 0);
        for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++)
            tensor_core_case(names[c], c ? 16 : 8, c ? 25 : 24, depths[i], &tally);
    }
    unsetenv("SAMEBIT_EMULATED_TENSOR_CORES");
    report("tensor cores", &tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rms_norms),    cmocka_unit_test(rms_norm_refuses),
        cmocka_unit_test(softmaxes),    cmocka_unit_test(silus),
        cmocka_unit_test(rotaries),     cmocka_unit_test(linears),
        cmocka_unit_test(attentions),   cmocka_unit_test(scratch_is_bounded),
        cmocka_unit_test(tensor_cores), cmocka_unit_test(tensor_core_steps),
    };

    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
