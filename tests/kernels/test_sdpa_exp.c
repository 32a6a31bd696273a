/* test_sdpa_exp.c - the exponential of the keys left over is e^x rounded once, for every f32. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels/sdpa.h"
#include "tests/kernels/cases.h"

/* libm's f64 exp is within an ulp, so that both agree but where a result is so near to the middle of
 * two f32 that neither could be trusted. */
static void test_every_x(void **state)
{
    const uint32_t first = f32_bits(-0.0f), last = f32_bits(-INFINITY);
    const uint32_t least = f32_bits(-0x1p-27f), most = f32_bits(-110.0f);
    const uint32_t step = tests_are_emulated() ? 61 : 1;
    int64_t differing = 0;

    (void)state;
    for (uint32_t u = least; u <= most; u += step) {
        const float x = f32_from_bits(u);

        differing += f32_bits(sdpa_exp_tail(x)) != f32_bits((float)exp((double)x));
    }
    assert_int_equal(differing, 0);
    for (uint32_t u = first; u < least; u += 4093)
        assert_true(sdpa_exp_tail(f32_from_bits(u)) == 1.0f);
    for (uint32_t u = most; u <= last; u += u > last - 4093 && u < last ? last - u : 4093)
        assert_int_equal(f32_bits(sdpa_exp_tail(f32_from_bits(u))), 0);
    assert_true(isnan(sdpa_exp_tail(NAN)));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_x)};

    return cmocka_run_group_tests_name("kernels/sdpa", tests, NULL, NULL);
}
