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

        rotary_inv_freq(&r->rope, r->dim, numerics_find(r->numerics), inv_freq);
        if (f32_bits(inv_freq[r->at]) != r->bits)
            fail_msg("theta %g dim %lld type %d [%lld]: 0x%08x, PyTorch has 0x%08x", r->rope.theta,
                     (long long)r->dim, (int)r->rope.type, (long long)r->at,
                     f32_bits(inv_freq[r->at]), r->bits);
    }
    print_message("%d frequencies\n", (int)(sizeof(recorded) / sizeof(recorded[0])));
}

static void test_exceptions_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rotary_cos_exceptions) / sizeof(rotary_cos_exceptions[0]); i++) {
        const struct rotary_exception *e = &rotary_cos_exceptions[i];

        assert_int_equal(rotary_cos(f32_from_bits(e->x)), e->y);
        assert_int_not_equal(bf16_from_f32((float)cos((double)f32_from_bits(e->x))), e->y);
        assert_true(i == 0 || e[-1].x < e->x);
    }
    for (size_t i = 0; i < sizeof(rotary_sin_exceptions) / sizeof(rotary_sin_exceptions[0]); i++) {
        const struct rotary_exception *e = &rotary_sin_exceptions[i];

        assert_int_equal(rotary_sin(f32_from_bits(e->x)), e->y);
        assert_int_not_equal(bf16_from_f32((float)sin((double)f32_from_bits(e->x))), e->y);
        assert_true(i == 0 || e[-1].x < e->x);
    }
}

static void test_neighbours_are_rounded(void **state)
{
    (void)state;
    assert_int_equal(rotary_cos(0.0f), 0x3f80);
    assert_int_equal(rotary_sin(0.0f), 0x0000);
    for (float x = 0.0f; x <= 131072.0f; x += 7.3f) {
        assert_int_equal(rotary_cos(x), bf16_from_f32((float)cos((double)x)));
        assert_int_equal(rotary_sin(x), bf16_from_f32((float)sin((double)x)));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inv_freq),
        cmocka_unit_test(test_exceptions_are_found),
        cmocka_unit_test(test_neighbours_are_rounded),
    };

    return cmocka_run_group_tests_name("kernels/rotary", tests, NULL, NULL);
}
