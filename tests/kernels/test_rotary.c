/* test_rotary.c - frequencies and the bf16 of cos and sin, against values recorded from PyTorch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <math.h>

#include "kernels/rotary.h"
#include "kernels/rotary_exceptions.h"

struct recorded {
    struct rope_config rope;
    int64_t dim;
    const char *numerics;
    int64_t at;
    uint32_t bits; /* of inv_freq[at] */
};

#define ROPE(kind, base, by, low, high, original)                                                  \
    {.type = kind,                                                                                 \
     .theta = base,                                                                                \
     .factor = by,                                                                                 \
     .low_freq_factor = low,                                                                       \
     .high_freq_factor = high,                                                                     \
     .original_max_position_embeddings = original}

/* Printed by ROPE_INIT_FUNCTIONS of transformers 5.18.0 under torch 2.13.0. */
static const struct recorded recorded[] = {
#include "tests/kernels/rotary_recorded.inc"
};

static void test_inv_freq(void **state)
{
    float inv_freq[256];

    (void)state;
    for (size_t i = 0; i < sizeof(recorded) / sizeof(recorded[0]); i++) {
        const struct recorded *r = &recorded[i];

        rotary_inv_freq(&r->rope, r->dim, 1, numerics_find(r->numerics), inv_freq);
        if (f32_bits(inv_freq[r->at]) != r->bits)
            fail_msg("theta %g dim %lld type %d [%lld]: 0x%08x, PyTorch has 0x%08x", r->rope.theta,
                     (long long)r->dim, (int)r->rope.type, (long long)r->at,
                     f32_bits(inv_freq[r->at]), r->bits);
    }
    print_message("%d frequencies\n", (int)(sizeof(recorded) / sizeof(recorded[0])));
}

typedef bf16 rotary_fn(float x, float scale);
typedef double exact_fn(double x);

/* Of [from, to) each is what the function gives, not what rounding would, and the list ascends. */
static void check_exceptions(float scale, int from, int to, rotary_fn *rotary, exact_fn *exact)
{
    for (int i = from; i < to; i++) {
        const struct rotary_exception *e = &rotary_exceptions[i];
        const float x = f32_from_bits(e->x);

        assert_int_equal(rotary(x, scale), e->y);
        assert_int_not_equal(bf16_from_f32((float)exact((double)x) * scale), e->y);
        assert_true(i == from || e[-1].x < e->x);
    }
}

static void test_exceptions_are_found(void **state)
{
    const int scales = sizeof(rotary_scales) / sizeof(rotary_scales[0]);

    (void)state;
    for (int i = 0; i < scales; i++) {
        const struct rotary_scale *s = &rotary_scales[i];

        assert_true(rotary_is_listed(s->scale));
        check_exceptions(s->scale, s->cos, s->sin, rotary_cos, cos);
        check_exceptions(s->scale, s->sin, s->end, rotary_sin, sin);
    }
    assert_int_equal(rotary_scales[scales - 1].end,
                     sizeof(rotary_exceptions) / sizeof(rotary_exceptions[0]));
    assert_false(rotary_is_listed(1.5f));
    assert_true(rotary_is_listed((float)(0.1 * log(4) + 1)));
}

/* What cannot be told without asking PyTorch holds every exception that it was asked for. */
static void test_unsure_values_hold_the_exceptions(void **state)
{
    const int scales = sizeof(rotary_scales) / sizeof(rotary_scales[0]);
    const float plain[] = {1.0f, 0.1f, 0.01f};
    int64_t first = -1;

    (void)state;
    for (int i = 0; i < scales; i++)
        for (int k = rotary_scales[i].cos; k < rotary_scales[i].end; k++) {
            const float x = f32_from_bits(rotary_exceptions[k].x);

            assert_true(rotary_unsure(&x, 1, rotary_scales[i].scale, 2, &first) >= 1);
            assert_int_equal(first, 1);
        }
    assert_int_equal(rotary_unsure(plain, 3, 1.5f, 1, &first), 0);
    assert_true(rotary_unsure(plain, 3, 1.5f, 1 << 17, &first) < 20);
}

static void test_neighbours_are_rounded(void **state)
{
    static const float scales[] = {1.0f, 1.1386294f, 1.5f};

    (void)state;
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++) {
        const float scale = scales[i];

        assert_int_equal(rotary_cos(0.0f, scale), bf16_from_f32(scale));
        assert_int_equal(rotary_sin(0.0f, scale), 0x0000);
        for (float x = 0.0f; x <= 131072.0f; x += 7.3f) {
            assert_int_equal(rotary_cos(x, scale), bf16_from_f32((float)cos((double)x) * scale));
            assert_int_equal(rotary_sin(x, scale), bf16_from_f32((float)sin((double)x) * scale));
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inv_freq),
        cmocka_unit_test(test_exceptions_are_found),
        cmocka_unit_test(test_unsure_values_hold_the_exceptions),
        cmocka_unit_test(test_neighbours_are_rounded),
    };

    return cmocka_run_group_tests_name("kernels/rotary", tests, NULL, NULL);
}
