/* test_glob.c - globs: as fnmatch in the C locale, and never in more than pattern times text. */
#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/base/glob.h"

static void test_some(void **state)
{
    static const struct {
        const char *pattern, *text;
        int fits;
    } cases[] = {
        {"", "", 1},
        {"", "a", 0},
        {"*", "", 1},
        {"**", "a.b/c", 1},
        {"a*c", "abc", 1},
        {"a*c", "abcd", 0},
        {"*.mlp.*", "m.1.mlp.up", 1},
        {"layer_?", "layer_1", 1},
        {"layer_?", "layer_12", 0},
        {"[a-c]x", "bx", 1},
        {"[!a-c]x", "bx", 0},
        {"[]]", "]", 1},
        {"[]-]", "-", 1},
        {"[a", "[a", 1},
        {"[a", "a", 0},
        {"*[a-", "x[a-", 1},
        {"\\*", "*", 1},
        {"\\*", "a", 0},
        {"[\\]a]", "]", 1},
        {"a\\", "a\\", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (glob_matches(cases[i].pattern, cases[i].text) != cases[i].fits)
            fail_msg("'%s' '%s'", cases[i].pattern, cases[i].text);
}

static void draw(char *out, const char *letters, unsigned most)
{
    const size_t count = strlen(letters);
    unsigned n = (unsigned)random() % (most + 1);

    for (unsigned i = 0; i < n; i++)
        *out++ = letters[(size_t)random() % count];
    *out = '\0';
}

/* Against fnmatch() of glibc.  Left out are patterns that end with a backslash, which glibc lets match
 * nothing, and POSIX classes; its ranges go by code point, as ours do. */
static void test_as_fnmatch(void **state)
{
    char pattern[16], text[16];
    long fitted = 0;

    (void)state;
    srandom(1);
    for (int i = 0; i < 2000000; i++) {
        draw(pattern, "ab.**?[]!-\\c", 9);
        draw(text, "abc.-]", 7);
        const size_t n = strlen(pattern);

        if (n && pattern[n - 1] == '\\')
            continue;
        if (strstr(pattern, "[.") || strstr(pattern, "[=") || strstr(pattern, "[:"))
            continue; /* POSIX classes, which glob.h does not have */
        const int expected = fnmatch(pattern, text, 0) == 0;

        fitted += expected;
        if (glob_matches(pattern, text) != expected)
            fail_msg("'%s' '%s': fnmatch says %d", pattern, text, expected);
    }
    assert_true(fitted > 50000);
}

/* A pattern of a thousand stars takes no longer than pattern times text: a matcher that goes back to
 * every star, not only to the last one, would take hours. */
static void test_time(void **state)
{
    char pattern[4097], text[257];

    (void)state;
    for (int i = 0; i < 4096; i++)
        pattern[i] = "*[a-"[i % 4];
    pattern[4096] = '\0';
    memset(text, 'b', 256);
    text[256] = '\0';
    assert_int_equal(glob_matches(pattern, text), 0);
    for (int i = 0; i < 4096; i++)
        pattern[i] = "*b"[i % 2];
    pattern[4095] = 'c';
    assert_int_equal(glob_matches(pattern, text), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_some),
                                       cmocka_unit_test(test_as_fnmatch),
                                       cmocka_unit_test(test_time)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
