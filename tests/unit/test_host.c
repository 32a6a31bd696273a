/* test_host.c - which numerics PyTorch computes on made-up machines, and what this one is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/host.h"

#define AMD .cpu = HOST_CPU_X86, .vendor = "AuthenticAMD", .cores = 8, .cpus = 16
#define INTEL .cpu = HOST_CPU_X86, .vendor = "GenuineIntel", .cores = 8, .cpus = 16

#define ZEN3 AMD, .avx2 = 1
#define ZEN4 AMD, .avx2 = 1, .avx512 = 1, .avx512_bf16 = 1
#define HASWELL INTEL, .avx2 = 1
#define ARROW_LAKE INTEL, .avx2 = 1, .avx_ne_convert = 1
#define ICE_LAKE INTEL, .avx2 = 1, .avx512 = 1
#define SKYLAKE_X ICE_LAKE
#define COOPER_LAKE ICE_LAKE, .avx512_bf16 = 1
#define CACHES .l1 = 48 << 10, .l2 = 2 << 20, .l2_ways = 16, .l2_sets = 2048
#define SAPPHIRE_RAPIDS COOPER_LAKE, .avx512_fp16 = 1, .amx = 1, CACHES

#define ONEDNN .onednn_max_cpu_isa
#define ATEN .aten_cpu_capability
#define MKL .mkl_enable_instructions

enum { BOTH, EAGER, NEITHER };

static const struct {
    const char *about;
    struct host_facts facts;
    int mirrored; /* attentions */
    const char *name;
    int threads;
    const char *says; /* part of a reason */
} machines[] = {
    {"Zen 3", {ZEN3}, BOTH, "torch-cpu/avx2", 0, "MKL's products of an AMD CPU"},
    {"Zen 3, told BF16", {ZEN3, ONEDNN = "AVX512_CORE_BF16"}, BOTH, "torch-cpu/avx2", 0, "limits"},
    {"Zen 3, told avx512", {ZEN3, ATEN = "avx512"}, NEITHER, "torch-cpu/avx2", 0, "PyTorch ends"},
    {"Zen 3, default", {ZEN3, ATEN = "default"}, NEITHER, "torch-cpu/avx2", 0, "without vectors"},
    {"Zen 3, MKL told", {ZEN3, MKL = "SSE4_2"}, EAGER, "torch-cpu/avx2", 0, "=SSE4_2"},
    {"Zen 3, MKL_CBWR", {ZEN3, .mkl_cbwr = "COMPATIBLE"}, EAGER, "torch-cpu/avx2", 0, "MKL_CBWR"},
    {"Zen 4", {ZEN4}, BOTH, "torch-cpu/avx512_bf16", 0, "AVX512_BF16"},
    {"Zen 4, empty variables",
     {ZEN4, ONEDNN = "", ATEN = "", MKL = "", .mkl_cbwr = ""},
     BOTH,
     "torch-cpu/avx512_bf16",
     0,
     "16 lanes"},
    {"Zen 4, both told avx2",
     {ZEN4, ONEDNN = "avx2", ATEN = "avx2"},
     BOTH,
     "torch-cpu/avx2",
     0,
     "ONEDNN_MAX_CPU_ISA=avx2"},
    {"Zen 4, by the old name",
     {ZEN4, .dnnl_max_cpu_isa = "AVX2", ATEN = "avx2"},
     BOTH,
     "torch-cpu/avx2",
     0,
     "DNNL_MAX_CPU_ISA=AVX2"},
    {"Zen 4, the new name wins",
     {ZEN4, ONEDNN = "ALL", .dnnl_max_cpu_isa = "AVX2"},
     BOTH,
     "torch-cpu/avx512_bf16",
     0,
     "AVX512_BF16"},
    {"Zen 4, ATen alone", {ZEN4, ATEN = "avx2"}, NEITHER, "torch-cpu/avx512_bf16", 0, "8 lanes"},
    {"Zen 4, ATen in capitals",
     {ZEN4, ATEN = "AVX2"},
     BOTH,
     "torch-cpu/avx512_bf16",
     0,
     "16 lanes"},
    {"Zen 4, oneDNN alone", {ZEN4, ONEDNN = "AVX2"}, NEITHER, "torch-cpu/avx2", 0, "16 lanes"},
    {"Zen 4, no BF16",
     {ZEN4, ONEDNN = "AVX512_CORE"},
     NEITHER,
     "torch-cpu/avx512",
     8,
     "not of Intel"},
    {"Haswell", {HASWELL}, EAGER, "torch-cpu/avx2", 0, "of Intel is not known"},
    {"Arrow Lake", {ARROW_LAKE}, NEITHER, "torch-cpu/avx2", 0, "AVX_NE_CONVERT"},
    {"Arrow Lake, told", {ARROW_LAKE, ONEDNN = "AVX2"}, EAGER, "torch-cpu/avx2", 0, "ATen's own"},
    {"Skylake-X", {SKYLAKE_X}, EAGER, "torch-cpu/avx512", 8, "without BF16"},
    {"Skylake-X, threads",
     {SKYLAKE_X, .omp_num_threads = "3"},
     EAGER,
     "torch-cpu/avx512",
     3,
     "3 here"},
    {"Ice Lake, told VNNI",
     {ICE_LAKE, ONEDNN = "AVX512_CORE_VNNI"},
     EAGER,
     "torch-cpu/avx512",
     8,
     "VNNI"},
    {"Ice Lake, told avx2",
     {ICE_LAKE, ONEDNN = "AVX2", ATEN = "avx2"},
     EAGER,
     "torch-cpu/avx2",
     0,
     "sdpa: what MKL computes"},
    {"Cooper Lake", {COOPER_LAKE}, BOTH, "torch-cpu/avx512_bf16,mkl=intel", 0, "no AMX"},
    {"Sapphire Rapids", {SAPPHIRE_RAPIDS}, BOTH, "torch-cpu/amx_bf16", 8, "l1=48K,l2=2M"},
    {"Sapphire Rapids, BF16",
     {SAPPHIRE_RAPIDS, ONEDNN = "AVX512_CORE_BF16"},
     BOTH,
     "torch-cpu/avx512_bf16,mkl=amx",
     0,
     "with AMX"},
    {"Sapphire Rapids, no BF16",
     {SAPPHIRE_RAPIDS, ONEDNN = "AVX512_CORE"},
     EAGER,
     "torch-cpu/avx512",
     8,
     "without BF16"},
    {"Sapphire Rapids, avx2",
     {SAPPHIRE_RAPIDS, ONEDNN = "AVX2", ATEN = "avx2"},
     BOTH,
     "torch-cpu/avx2,mkl=amx",
     0,
     "8 lanes"},
    {"Sapphire Rapids, MKL's E3",
     {SAPPHIRE_RAPIDS, MKL = "AVX512_E3"},
     EAGER,
     "torch-cpu/amx_bf16",
     8,
     "no AMX"},
    {"Sapphire Rapids, BF16 and E3",
     {SAPPHIRE_RAPIDS, ONEDNN = "AVX512_CORE_BF16", MKL = "AVX512_E3"},
     BOTH,
     "torch-cpu/avx512_bf16,mkl=intel",
     0,
     "MKL_ENABLE_INSTRUCTIONS"},
    {"Sapphire Rapids, AMX hidden",
     {COOPER_LAKE, .avx512_fp16 = 1},
     NEITHER,
     "torch-cpu/avx512_bf16",
     0,
     "AVX512_FP16 without AMX"},
    {"other caches",
     {COOPER_LAKE, .amx = 1, .l1 = 32 << 10, .l2 = 2 << 20, .l2_ways = 16, .l2_sets = 2048},
     BOTH,
     "torch-cpu/amx_bf16",
     8,
     "l1=32K,l2=2M,l2_ways=16,amx_fp16=0, as its source has it"},
    {"no caches", {COOPER_LAKE, .amx = 1}, NEITHER, "torch-cpu/amx_bf16", 8, "names no caches"},
    {"Granite Rapids",
     {SAPPHIRE_RAPIDS, .amx_fp16 = 1},
     EAGER,
     "torch-cpu/amx_bf16",
     8,
     "amx_fp16=1, as its source has it"},
    {"ARM", {.cpu = HOST_CPU_ARM}, BOTH, "torch-cpu/avx512_bf16", 0, "portable"},
    {"an old one", {INTEL}, BOTH, "torch-cpu/avx512_bf16", 0, "portable"},
    {"any", {.cpu = HOST_CPU_OTHER}, BOTH, "torch-cpu/avx512_bf16", 0, "portable"},
};

enum { MACHINES = sizeof(machines) / sizeof(machines[0]) };

static int has_reason(const struct host_numerics *h, const char *part)
{
    for (int i = 0; i < h->reasons; i++)
        if (strstr(h->reason[i], part))
            return 1;
    return 0;
}

static void test_machines(void **state)
{
    (void)state;
    for (int i = 0; i < MACHINES; i++) {
        struct host_numerics h;
        const int mirrored = machines[i].mirrored;

        host_numerics(&machines[i].facts, "cpu", &h);
        print_message("%s: %s\n", machines[i].about, h.nearest->name);
        assert_string_equal(h.nearest->name, machines[i].name);
        assert_int_equal(h.row ? !h.sdpa : NEITHER, mirrored);
        assert_true(!h.row || h.row == h.nearest);
        assert_int_equal(h.torch.threads, machines[i].threads);
        assert_int_equal(h.torch.threads != 0, h.nearest->of_host);
        assert_true(has_reason(&h, machines[i].says));
    }
}

static void test_a_gpu(void **state)
{
    (void)state;
    for (int i = 0; i < MACHINES; i++) {
        struct host_numerics h;

        host_numerics(&machines[i].facts, "cuda:1", &h);
        assert_true(h.portable && h.sdpa && h.row == numerics_at(0));
        assert_true(numerics_runs_on(h.row, "cuda:1"));
    }
}

/* As seen of PyTorch 2.13.0 on a machine of 2 cores (numbers of "cores" scaled with them). */
static void test_threads(void **state)
{
    static const struct {
        const char *omp, *mkl, *dynamic;
        int cores, cpus, threads;
    } cases[] = {
        {NULL, NULL, NULL, 2, 2, 2}, {NULL, NULL, NULL, 2, 1, 1},   {"5", NULL, NULL, 2, 2, 2},
        {"5", NULL, NULL, 2, 1, 2},  {"1", NULL, NULL, 2, 2, 1},    {"1,2", NULL, NULL, 2, 2, 1},
        {"0", NULL, NULL, 2, 2, 2},  {"abc", NULL, NULL, 2, 2, 2},  {NULL, "1", NULL, 2, 2, 1},
        {"5", "1", NULL, 2, 2, 1},   {"1", "5", NULL, 2, 2, 2},     {NULL, "2", NULL, 2, 1, 2},
        {"1", "0", NULL, 2, 2, 1},   {"5", NULL, "FALSE", 2, 2, 5}, {NULL, NULL, NULL, 8, 16, 8},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct host_facts facts = {.omp_num_threads = cases[i].omp,
                                         .mkl_num_threads = cases[i].mkl,
                                         .mkl_dynamic = cases[i].dynamic,
                                         .cores = cases[i].cores,
                                         .cpus = cases[i].cpus};

        assert_int_equal(host_torch_threads(&facts), cases[i].threads);
    }
}

static void test_words(void **state)
{
    const struct host_facts facts = {SAPPHIRE_RAPIDS}, mixed = {ZEN4, ATEN = "avx2"},
                            other = {SAPPHIRE_RAPIDS, .amx_fp16 = 1};
    struct host_numerics h;
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    (void)state;
    assert_non_null(to);
    host_numerics(&facts, "cpu", &h);
    host_print(&h, to);
    host_numerics(&mixed, "cpu", &h);
    host_print(&h, to);
    host_numerics(&other, "cpu", &h);
    assert_true(h.untried);
    host_print(&h, to);
    fclose(to);
    assert_true(strncmp(text, "torch-cpu/amx_bf16\n", 19) == 0);
    assert_non_null(strstr(text, "  --numerics torch-cpu/amx_bf16 --torch-threads 8\n"));
    assert_non_null(strstr(text, "\nnone\n"));
    assert_non_null(strstr(text, "nearest is:\n  --numerics torch-cpu/avx512_bf16\n"));
    assert_non_null(strstr(text,
                           " --torch-threads 8 --torch-host l1=48K,l2=2M,l2_ways=16,amx_fp16=1 "
                           "--attention eager\n"));
    free(text);
}

static void test_this_machine(void **state)
{
    struct host_facts facts;
    struct host_numerics h;

    (void)state;
    host_read(&facts);
    host_numerics(&facts, "cpu", &h);
    assert_true(facts.cores > 0 && facts.cpus > 0 && h.reasons > 0);
    assert_non_null(h.nearest);
#if defined(__x86_64__)
    assert_int_equal(facts.cpu, HOST_CPU_X86);
    assert_int_equal(strlen(facts.vendor), 12);
    assert_true(!facts.amx || facts.avx512_bf16);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machines),     cmocka_unit_test(test_a_gpu),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_words),
        cmocka_unit_test(test_this_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
