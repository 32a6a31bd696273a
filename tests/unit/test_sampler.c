/* test_sampler.c - the greedy choice, log probabilities and the k largest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "kernels/cpu/rows.h"
#include "server/engine/sampler.h"
#include "tests/kernels/cases.h"

enum { N = 3000 };

static void test_argmax(void **state)
{
    const bf16 ties[] = {0xbf80, 0x3f80, 0x4000, 0x3f80, 0x4000};
    const bf16 zeros[] = {0x8000, 0x0000, 0x8000};
    const bf16 nan[] = {0x4000, 0x7f80, 0xffc0, 0x7fc0};
    const bf16 lowest[] = {0xff80, 0xff80};

    (void)state;
    assert_int_equal(sampler_argmax(ties, 5), 2);
    assert_int_equal(sampler_argmax(zeros, 3), 0);
    assert_int_equal(sampler_argmax(nan, 4), 2);
    assert_int_equal(sampler_argmax(lowest, 2), 0);
}

static int64_t scanned(const bf16 *x, int64_t n)
{
    int64_t best = 0;

    for (int64_t i = 0; i < n; i++)
        if (bf16_to_f32(x[i]) != bf16_to_f32(x[i]))
            return i;
        else if (bf16_to_f32(x[i]) > bf16_to_f32(x[best]))
            best = i;
    return best;
}

/* What is drawn from: all bits; a few values, so that the greatest is there often; none above 0. */
static bf16 drawn(struct random *r, int kind)
{
    static const bf16 few[] = {0x0000, 0x8000, 0x8001, 0x0001, 0xff80, 0xbf80};
    const bf16 any = (bf16)random_next(r);

    return kind == 0 ? any : kind == 1 ? few[any % 6] : few[1 + any % 2 * 3];
}

static void test_argmax_is_a_scan(void **state)
{
    const struct rows *by[] = {rows_best(), &rows_plain};
    struct random r = {.state = 7};
    static bf16 x[N];

    (void)state;
    for (int round = 0; round < 3000; round++) {
        const int64_t n = round < 600 ? round : 1 + (int64_t)random_below(&r, N - 1);

        for (int64_t i = 0; i < n; i++)
            x[i] = drawn(&r, round % 3);
        if (n > 0 && round % 2)
            x[random_below(&r, (uint32_t)n)] = (bf16)(round % 4 == 1 ? 0x4000 : 0xffff);
        for (int k = 0; k < 2; k++)
            assert_int_equal(by[k]->argmax(x, n), scanned(x, n));
    }
}

static const bf16 *sorted_by;

static int by_value(const void *a, const void *b)
{
    const int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    const float x = bf16_to_f32(sorted_by[i]), y = bf16_to_f32(sorted_by[j]);

    if (x != y)
        return x > y ? -1 : 1;
    return i < j ? -1 : 1;
}

static void test_top_k_is_a_sort(void **state)
{
    static bf16 logits[N];
    static int64_t sorted[N], got[N];
    uint32_t seed = 1;

    (void)state;
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        logits[i] = bf16_from_f32((float)(int32_t)seed * 0x1p-26f);
        sorted[i] = i;
    }
    sorted_by = logits;
    qsort(sorted, N, sizeof(sorted[0]), by_value);
    for (int64_t k = 0; k <= N; k += k < 40 ? 1 : 740) {
        sampler_top_k(logits, N, k, got);
        for (int64_t i = 0; i < k; i++)
            assert_int_equal(got[i], sorted[i]);
    }
}

/* Recorded from torch.log_softmax of arange(40).bfloat16() / 8 with each ATEN_CPU_CAPABILITY. */
static void test_log_softmax(void **state)
{
    bf16 logits[40];
    float out[40];
    double all = 0;

    (void)state;
    for (int i = 0; i < 40; i++)
        logits[i] = bf16_from_f32((float)i / 8.0f);
    for (int n = 0; numerics_at(n); n++) {
        sampler_log_softmax(logits, 40, numerics_at(n), out);
        all = 0;
        for (int i = 0; i < 40; i++)
            all += exp((double)out[i]);
        assert_true(fabs(all - 1) < 1e-6);
        assert_int_equal(f32_bits(out[0]), 0xc0e04e12);
        assert_int_equal(f32_bits(out[39]), 0xc0089c23);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argmax),
        cmocka_unit_test(test_argmax_is_a_scan),
        cmocka_unit_test(test_top_k_is_a_sort),
        cmocka_unit_test(test_log_softmax),
    };

    return cmocka_run_group_tests_name("unit/sampler", tests, NULL, NULL);
}
