/* test_number.c - numbers as text: strtod brings the same bits back, of the fewest digits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "server/http/number.h"

enum { RANDOM = 200000 };

static const char *text_of(float f)
{
    static char text[NUMBER_TEXT];

    memset(text, '#', sizeof(text));
    text[number_f32(f, text)] = '\0';
    return text;
}

/* The fewest digits of "%.*g" that come back. */
static const char *by_printf(float f)
{
    static char text[NUMBER_TEXT];

    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)f);
        if ((float)strtod(text, NULL) == f)
            break;
    }
    return strpbrk(text, ".e") ? text : strcat(text, ".0");
}

static void test_texts(void **state)
{
    static const struct {
        float f;
        const char *text;
    } cases[] = {
        {0, "0.0"},
        {-0.0f, "-0.0"},
        {1, "1.0"},
        {-1, "-1.0"},
        {0.5f, "0.5"},
        {12, "12.0"},
        {10, "1e+01"},
        {100, "1e+02"},
        {120, "1.2e+02"},
        {123456, "123456.0"},
        {-3.25f, "-3.25"},
        {0.1f, "0.1"},
        {0.0001f, "0.0001"},
        {-0.00012345f, "-0.00012345"},
        {0.00001f, "1e-05"},
        {16777216, "16777216.0"},
        {0x1p-149f, "1e-45"},
        {0x1.fffffep127f, "3.4028235e+38"},
        {-0x1p-126f, "-1.1754944e-38"},
        {0x1p-96f, "1.2621775e-29"}, /* the nearest of so few digits is another float's */
        {INFINITY, "\"Infinity\""},
        {-INFINITY, "\"-Infinity\""},
        {NAN, "\"NaN\""},
        {-NAN, "\"NaN\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_string_equal(text_of(cases[i].f), cases[i].text);
}

static void check(float f)
{
    const char *text = text_of(f), *other = by_printf(f);

    assert_int_equal(f32_bits((float)strtod(text, NULL)), f32_bits(f));
    if (strcmp(text, other) != 0)
        assert_true(strlen(text) < strlen(other));
}

static void test_f32_comes_back(void **state)
{
    uint64_t x = 1;

    (void)state;
    check(f32_from_bits(0x15ae43fd)); /* through a double it is rounded twice */
    check(f32_from_bits(0x95ae43fd));
    for (uint32_t e = 1; e < 255; e++)
        for (int beside = -2; beside <= 2; beside++)
            check(f32_from_bits((e << 23) + (uint32_t)beside));
    for (int i = 0; i < RANDOM; i++) {
        const float f = f32_from_bits((uint32_t)((x = x * 6364136223846793005u + 1) >> 32));

        if (isfinite(f))
            check(f);
    }
}

/* Text and comma of each, as the list has them. */
static void test_every_bf16(void **state)
{
    static bf16 every[65536];
    char *list = malloc(sizeof(every) / sizeof(*every) * NUMBER_ROOM), *end, *at = list;

    (void)state;
    assert_non_null(list);
    for (int i = 0; i < 65536; i++)
        every[i] = (bf16)i;
    end = number_bf16_list(every, 65536, list);
    for (int i = 0; i < 65536; i++) {
        const float f = bf16_to_f32((bf16)i);
        const char *want = text_of(f);
        int size;
        const char *text = number_bf16((bf16)i, &size);

        assert_int_equal(size, strlen(want));
        assert_memory_equal(text, want, (size_t)size);
        assert_memory_equal(at, want, (size_t)size);
        assert_int_equal(at[size], ',');
        at += size + 1;
        if (isfinite(f))
            assert_int_equal(f32_bits((float)strtod(want, NULL)), f32_bits(f));
    }
    assert_ptr_equal(at, end);
    assert_ptr_equal(number_bf16_list(every, 0, list), list);
    free(list);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_f32_comes_back),
        cmocka_unit_test(test_every_bf16),
    };

    return cmocka_run_group_tests_name("unit/number", tests, NULL, NULL);
}
