/* test_cuda_aten.c - the kernels of numerics torch-cuda, emulated, against models of PyTorch's
 * order that are written apart from them, thread by thread; in several orders of the threads. */
#include "tests/kernels/aten_run.h"

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

static void gelus(void **state)
{
    const int64_t n = 65536, shape[] = {16, n / 16};
    struct operation o = {.op = OP_gelu_tanh,
                          .in = {tensor_make(DTYPE_BF16, 2, shape, take(n, sizeof(bf16)))},
                          .count = 1,
                          .out = tensor_make(DTYPE_BF16, 2, shape, NULL)};
    bf16 *x = o.in[0].data, *want = take(n, sizeof(*want));
    struct tally tally = {0};

    (void)state;
    for (int64_t i = 0; i < n; i++) {
        const float value = bf16_to_f32((bf16)i), cube = value * value * value;
        const float inner = 0.797884583f * fmaf(0.044715f, cube, value);

        x[i] = (bf16)i;
        want[i] = bf16_from_f32(0.5f * value * (1.0f + (float)tanh((double)inner)));
    }
    expect(&o, want, &tally, "of every bf16");
    report("gelu_tanh", &tally);
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
    struct operation o = {
        .op = OP_rotary,
        .in = {tensor_make(DTYPE_I64, 1, &tokens, positions)},
        .count = 1,
        .attrs = {.inv_freq = inv_freq, .inv_freq_count = HALF, .rotary_scale = 1},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rms_norms), cmocka_unit_test(rms_norm_refuses),
        cmocka_unit_test(softmaxes), cmocka_unit_test(silus),
        cmocka_unit_test(gelus),     cmocka_unit_test(rotaries),
    };

    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
