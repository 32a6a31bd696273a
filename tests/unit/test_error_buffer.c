/* test_error_buffer.c - errors keep the first cause on one clean line; buffers grow and forgive;
 * names are near or not. */
#include "tests/unit/scratch.h"

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"
#include "kernels/base/nearest.h"

static void test_first_error_wins(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(error_param(&err, 413, "body", "%d bytes", 7), -1);
    assert_int_equal(error_set(&err, 500, "later"), -1);
    assert_int_equal(err.code, 413);
    assert_string_equal(err.param, "body");
    assert_string_equal(err.text, "7 bytes");
    assert_int_equal(error_prefix(&err, "POST %s: ", "/v1/x"), -1);
    assert_string_equal(err.text, "POST /v1/x: 7 bytes");
    assert_int_equal(error_set(NULL, 500, "nobody listens"), -1);
    assert_int_equal(error_prefix(NULL, "nobody"), -1);
}

static void test_error_is_one_line_of_utf8(void **state)
{
    static const struct {
        const char *given, *kept;
    } cases[] = {
        {"two\nlines\ttab\x7f", "two?lines?tab?"},
        {"h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"cut \xe2\x82", "cut ??"},
        {"over \xc0\xaf long", "over ?? long"},
        {"surrogate \xed\xa0\x80", "surrogate ???"},
        {"beyond \xf4\x90\x80\x80 end", "beyond ???? end"},
        {"lone \x80 byte", "lone ? byte"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};

        error_set(&err, 400, "%s", cases[i].given);
        assert_string_equal(err.text, cases[i].kept);
    }
}

static void test_long_error_is_cut_between_characters(void **state)
{
    char text[2000];
    struct error err = {0};

    (void)state;
    memset(text, 'a', sizeof(text));
    for (size_t i = 0; i + 3 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2); /* 511 bytes end in half a character */
    text[sizeof(text) - 1] = '\0';
    error_set(&err, 400, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_string_equal(err.text + sizeof(err.text) - 4, "\xc3\xa9?");
    error_prefix(&err, "x");
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void test_buffer_grows(void **state)
{
    struct buffer b = {0};
    char expected[32];
    size_t at = 0;

    (void)state;
    for (int i = 0; i < 10000; i++)
        buffer_format(&b, "%d,", i);
    buffer_append(&b, "\0x", 2);
    assert_false(b.failed);
    for (int i = 0; i < 10000; i++) {
        int n = snprintf(expected, sizeof(expected), "%d,", i);

        assert_memory_equal(b.data + at, expected, (size_t)n);
        at += (size_t)n;
    }
    assert_int_equal(b.size, at + 2);
    assert_memory_equal(b.data + at, "\0x", 3);
    buffer_clear(&b);
    assert_null(b.data);
    buffer_text(&b, "again");
    assert_string_equal(b.data, "again");
    buffer_clear(&b);
}

static void test_buffer_failure_sticks(void **state)
{
    struct buffer b = {0};

    (void)state;
    buffer_text(&b, "kept");
    buffer_append(&b, "", SIZE_MAX / 2); /* refused before a byte is read */
    assert_true(b.failed);
    buffer_text(&b, "more");
    assert_string_equal(b.data, "kept");
    buffer_clear(&b);
    assert_false(b.failed);
}

static void test_name_distance(void **state)
{
    char a[300], b[300];

    (void)state;
    assert_int_equal(name_distance("", ""), 0);
    assert_int_equal(name_distance("", "abc"), 3);
    assert_int_equal(name_distance("kitten", "sitting"), 3);
    assert_int_equal(name_distance("sitting", "kitten"), 3);
    assert_true(name_is_near("self_attn.q_rop", "self_attn.q_rope"));
    assert_false(name_is_near("add", "mul"));
    memset(a, 'x', sizeof(a));
    memset(b, 'y', sizeof(b));
    a[299] = b[299] = '\0';
    assert_int_equal(name_distance(a, b), 95);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_error_is_one_line_of_utf8),
        cmocka_unit_test(test_long_error_is_cut_between_characters),
        cmocka_unit_test(test_buffer_grows),
        cmocka_unit_test(test_buffer_failure_sticks),
        cmocka_unit_test(test_name_distance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
