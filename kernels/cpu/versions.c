/* versions.c - see versions.h.
 *
 * A kernel that one instruction set has is entered in its row here, and nowhere else. */
#include "kernels/cpu/versions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/sdpa.h"

/* What every instruction set but plain has of its own. */
#define PRODUCTS                                                                                   \
    {                                                                                              \
        [PRODUCT_PAIRS] = {cpu_linear_panels, cpu_qk_panels, cpu_pv_panels},                       \
        [PRODUCT_DOT8] = {[PRODUCT_OF_LINEAR] = cpu_linear_lanes, [PRODUCT_OF_QK] = cpu_qk_lanes}, \
        [PRODUCT_FOUR] = {[PRODUCT_OF_PV] = cpu_pv_lanes},                                         \
        [PRODUCT_TILES] = {cpu_linear_panels, cpu_qk_panels, cpu_pv_panels},                       \
        [PRODUCT_DEALT] = {cpu_linear_panels, cpu_qk_panels, cpu_pv_panels},                       \
    }

#define SDPA(fn)                                                                                   \
    {[SDPA_MKL_AMD] = fn, [SDPA_MKL_INTEL] = fn, [SDPA_MKL_AMX] = fn, [SDPA_PACKED] = fn}

#define PLAIN_PRODUCTS {cpu_linear_plain, cpu_qk_plain, cpu_pv_plain}

static const struct version versions[] = {
#if defined(__x86_64__)
    {
        .name = "avx512_bf16",
        .rows = &rows_avx512,
        .panels = &panels_avx512_bf16,
        .sdpa = SDPA(cpu_sdpa_avx512),
        .product = PRODUCTS,
    },
    {
        .name = "avx2",
        .rows = &rows_avx2,
        .panels = &panels_avx2,
        .sdpa = SDPA(cpu_sdpa_avx2),
        .product = PRODUCTS,
    },
#elif defined(__aarch64__)
    {
        .name = "neon",
        .rows = &rows_neon,
        .panels = &panels_neon,
        .sdpa = SDPA(cpu_sdpa_neon),
        .product = PRODUCTS,
    },
#endif
    {
        .name = "plain",
        .rows = &rows_plain,
        .op =
            {
#define OP(name, ...) [OP_##name] = cpu_##name,
#include "kernels/ops.def"
            },
        .product =
            {
                [PRODUCT_PAIRS] = PLAIN_PRODUCTS,
                [PRODUCT_DOT8] = PLAIN_PRODUCTS,
                [PRODUCT_FOUR] = PLAIN_PRODUCTS,
                [PRODUCT_CHAIN] = PLAIN_PRODUCTS,
                [PRODUCT_TILES] = PLAIN_PRODUCTS,
                [PRODUCT_DEALT] = PLAIN_PRODUCTS,
            },
        .sdpa = SDPA(cpu_sdpa_plain),
    },
};

enum { VERSIONS = sizeof(versions) / sizeof(versions[0]), PLAIN = VERSIONS - 1 };

const struct version *version_at(int i)
{
    return i < VERSIONS ? &versions[i] : NULL;
}

int version_runs(const char *name)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (strcmp(name, "avx512_bf16") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("fma");
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
    if (strcmp(name, "neon") == 0)
        return 1;
#endif
    return strcmp(name, "plain") == 0;
}

static const struct version *version_best(void)
{
    const struct version *v = versions;

    while (!version_runs(v->name))
        v++;
    return v;
}

const struct rows *rows_best(void)
{
    return version_best()->rows;
}

/* Fails, naming what is known here.  from: who asked for it. */
static int version_unknown(const char *from, const char *isa, struct error *err)
{
    char names[128] = "";

    for (int v = 0; v < VERSIONS; v++) {
        const size_t n = strlen(names);

        snprintf(names + n, sizeof(names) - n, "%s\"%s\"", v ? ", " : "", versions[v].name);
    }
    return error_param(err, 400, "isa", "%s \"%.40s\" is unknown; known: %s", from, isa, names);
}

const struct version *version_choose(const char *isa, struct error *err)
{
    const char *set = getenv("SAMEBIT_ISA"), *from = isa ? "isa" : "SAMEBIT_ISA";
    int v = 0;

    if (!isa && (!set || !*set))
        return version_best();
    isa = isa ? isa : set;
    while (v < VERSIONS && strcmp(versions[v].name, isa) != 0)
        v++;
    if (v == VERSIONS)
        version_unknown(from, isa, err);
    else if (!version_runs(isa))
        error_param(err, 400, "isa", "%s \"%s\": this CPU has no %s", from, isa, isa);
    else
        return &versions[v];
    return NULL;
}

void version_fill(const struct version *v, struct cpu *cpu, op_fn **op)
{
    const struct version *plain = &versions[PLAIN];

    cpu->rows = v->rows;
    cpu->panels = v->panels;
    for (int i = 0; i < OP_COUNT; i++)
        op[i] = v->op[i] ? v->op[i] : plain->op[i];
    for (int kind = 0; kind < SDPA_KINDS; kind++)
        cpu->sdpa[kind] = v->sdpa[kind] ? v->sdpa[kind] : plain->sdpa[kind];
    for (int kind = 0; kind < PRODUCT_KINDS; kind++)
        for (int use = 0; use < PRODUCT_USES; use++)
            cpu->product[kind][use] =
                v->product[kind][use] ? v->product[kind][use] : plain->product[kind][use];
}
