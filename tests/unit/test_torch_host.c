/* test_torch_host.c - torch_host as text, and plans of products on hosts with other caches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/amx_plan.h"
#include "kernels/torch_host.h"

static void test_what_is_read_and_printed(void **state)
{
    static const struct {
        const char *text, *whole;
    } cases[] = {
        {"l1=48K", "l1=48K,l2=2M,l2_ways=16,amx_fp16=0"},
        {"l1=32768,l2=1M", "l1=32K,l2=1M,l2_ways=16,amx_fp16=0"},
        {"amx_fp16=1,l2_ways=8", "l1=48K,l2=2M,l2_ways=8,amx_fp16=1"},
        {"l2=1280K,l2_ways=20", "l1=48K,l2=1280K,l2_ways=20,amx_fp16=0"},
        {"l1=49216", "l1=49216,l2=2M,l2_ways=16,amx_fp16=0"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct torch_host host = torch_host_studied(), again = torch_host_studied();
        char text[TORCH_HOST_TEXT];

        host.threads = again.threads = 7;
        assert_int_equal(torch_host_read(cases[i].text, &host, NULL), 0);
        torch_host_print(&host, text);
        assert_string_equal(text, cases[i].whole);
        assert_int_equal(torch_host_read(text, &again, NULL), 0);
        assert_memory_equal(&host, &again, sizeof(host));
        assert_int_equal(host.l2_sets * host.l2_ways * 64, host.l2);
        assert_int_equal(torch_host_is_studied(&host), i == 0);
    }
}

static void test_what_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "l1",
        "l1=",
        "l1=x",
        "l1=-1",
        "l1=48G",
        "l1=48KK",
        "l3=2M",
        "l1=48K;l2=1",
        "l1=48K,",
        ",l1=48K",
        "amx_fp16=2",
        "l2_ways=0",
        "l2=0",
        "l1=15K",
        "l1=2M",
        "l2=65M",
        "l2_ways=7",
        "l1=99999999999999999",
        "threads=2",
        "l1=48K l2=1M",
    };
    const struct torch_host before = torch_host_studied();

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct torch_host host = before;
        struct error err = {0};

        assert_int_equal(torch_host_read(texts[i], &host, &err), -1);
        assert_int_equal(err.code, 400);
        assert_string_equal(err.param, "torch-host");
        assert_memory_equal(&host, &before, sizeof(host));
    }
}

static int64_t pick(uint32_t *seed, int64_t most)
{
    *seed = *seed * 1664525 + 1013904223;
    return 1 + (*seed >> 8) % most;
}

/* Whatever --torch-host may say, a product has a plan that sums all of K. */
static void test_plans_of_other_caches(void **state)
{
    static const char *const hosts[] = {"l1=16K,l2=256K,l2_ways=1", "l1=1M,l2=64M,l2_ways=64",
                                        "l1=16K,l2=64M,amx_fp16=1", "l1=1M,l2=256K,l2_ways=64",
                                        "l1=32K,l2=1M,l2_ways=8"};
    enum { SHAPES = 300 };
    uint32_t seed = 5;

    (void)state;
    for (size_t h = 0; h < sizeof(hosts) / sizeof(hosts[0]); h++)
        for (int i = 0; i < SHAPES; i++) {
            struct torch_host host = torch_host_studied();
            const struct product_shape shape = {pick(&seed, 3) - 1, pick(&seed, 16),
                                                pick(&seed, 300),   pick(&seed, 5000),
                                                pick(&seed, 9000),  &host};
            struct amx_plan plan;

            assert_int_equal(torch_host_read(hosts[h], &host, NULL), 0);
            host.threads = pick(&seed, TORCH_THREADS_MOST);
            plan = amx_plan_search(&shape);
            assert_true(plan.block > 0 && plan.chunk >= plan.block && plan.parts > 0);
            assert_true(plan.chunk % plan.block == 0 || plan.chunk >= shape.K);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read_and_printed),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_plans_of_other_caches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
