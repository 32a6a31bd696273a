/* test_cuda_aten_products.c - the products of numerics torch-cuda, emulated: PyTorch's copies and
 * layouts, with a sum that is one chain of fma, and the emulated tensor core. */
#include "tests/kernels/aten_run.h"

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

/* cuBLASLt is asked for an algorithm once for a shape, however often that is multiplied. */
static void algorithms_are_chosen_once(void **state)
{
    struct random r = {41};
    struct tally tally = {0};
    const long long before = emulated_heuristics();

    (void)state;
    assert_int_equal(reopen_aten(), 0);
    for (int i = 0; i < 3; i++)
        linear_case(&r, 5, 5, 1, 40, 24, 1, &tally);
    assert_int_equal(emulated_heuristics(), before + 1);
    linear_case(&r, 6, 6, 1, 40, 24, 1, &tally);
    linear_case(&r, 5, 5, 1, 40, 32, 1, &tally);
    linear_case(&r, 5, 5, 1, 40, 24, 1, &tally);
    assert_int_equal(emulated_heuristics(), before + 3);
    for (int64_t K = 2; K < 150; K++) /* some have the same place in the table */
        linear_case(&r, 2, 2, 1, 3, K, 1, &tally);
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
        cmocka_unit_test(linears),      cmocka_unit_test(algorithms_are_chosen_once),
        cmocka_unit_test(attentions),   cmocka_unit_test(scratch_is_bounded),
        cmocka_unit_test(tensor_cores), cmocka_unit_test(tensor_core_steps),
    };

    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
