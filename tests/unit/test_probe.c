/* test_probe.c - the probes that a live torch is asked tell the numerics of CPUs apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/probe.h"

enum { ROWS = 32 };

static bf16 *results[ROWS][PROBES];

static bf16 *compute(int probe, const struct numerics *row, int64_t threads)
{
    struct torch_host host = torch_host_studied();
    bf16 *out = calloc((size_t)probe_count(probe), sizeof(*out));
    int rc;

    host.threads = threads;
    assert_non_null(out);
    rc = probe_compute(probe, row, &host, out, NULL);
    assert_true(rc >= 0);
    if (rc)
        return out;
    free(out);
    return NULL;
}

static int64_t differing(const bf16 *a, const bf16 *b, int64_t n)
{
    int64_t count = 0;

    for (int64_t i = 0; i < n; i++)
        count += a[i] != b[i];
    return count;
}

static int has_same(int a, int b, int first, int end)
{
    for (int p = first; p < end; p++)
        if (!results[a][p] || !results[b][p] ||
            differing(results[a][p], results[b][p], probe_count(p)))
            return 0;
    return 1;
}

static void test_no_two_rows_have_the_same_bits(void **state)
{
    int rows = 0;

    (void)state;
    for (; numerics_at(rows); rows++)
        for (int p = 0; p < PROBES; p++)
            results[rows][p] = compute(p, numerics_at(rows), 2);
    for (int a = 0; a < rows; a++)
        for (int b = 0; b < a; b++)
            assert_false(has_same(a, b, 0, PROBES));
    for (int a = 0; a < rows; a++)
        for (int p = 0; p < PROBES; p++)
            free(results[a][p]);
}

/* Where bits depend on torch's threads, the probes show it. */
static void test_threads_show(void **state)
{
    const struct numerics *row = numerics_find("torch-cpu/amx_bf16");
    int64_t n = 0;

    (void)state;
    for (int p = 0; p < PROBES; p++) {
        bf16 *two = compute(p, row, 2), *eight = compute(p, row, 8);

        n += differing(two, eight, probe_count(p));
        free(two);
        free(eight);
    }
    assert_true(n > 0);
}

static void test_names(void **state)
{
    char text[PROBE_TEXT];

    (void)state;
    probe_name(0, text);
    assert_string_equal(text, "linear:2:512:64");
    for (int p = 0; p < PROBES; p++) {
        probe_name(p, text);
        assert_int_equal(strncmp(text, "sdpa", 4) == 0, p >= PROBES_OF_EAGER);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_two_rows_have_the_same_bits),
        cmocka_unit_test(test_threads_show),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
