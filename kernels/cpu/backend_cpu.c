/* backend_cpu.c - the CPU backend: which version of each operation runs, memory and copies. */
#include "kernels/cpu/backend_cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/bf16.h"
#include "kernels/cpu/dots.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/sdpa.h"
#include "kernels/products.h"

static op_fn *const ops[OP_COUNT] = {
#define OP(name, least, most, mirror) [OP_##name] = cpu_##name,
#include "kernels/ops.def"
};

/* ---- versions, best first ---- */

static const struct {
    const char *name;
    const struct rows *rows;
    const struct panels *panels;
    op_fn *linear, *matmul_qk, *matmul_pv; /* of numerics avx2 */
    op_fn *sdpa;
} versions[] = {
#if defined(__x86_64__)
    {"avx512_bf16", &rows_avx512, &panels_avx512_bf16, cpu_linear_dots, cpu_matmul_qk_dots,
     cpu_matmul_pv_dots, cpu_sdpa_avx512},
    {"avx2", &rows_avx2, &panels_avx2, cpu_linear_dots, cpu_matmul_qk_dots, cpu_matmul_pv_dots,
     cpu_sdpa_avx2},
#elif defined(__aarch64__)
    {"neon", &rows_neon, &panels_neon, cpu_linear_dots, cpu_matmul_qk_dots, cpu_matmul_pv_dots,
     cpu_sdpa_neon},
#endif
    {"plain", &rows_plain, NULL, cpu_linear, cpu_matmul_qk, cpu_matmul_pv, cpu_sdpa},
};

enum { VERSIONS = sizeof(versions) / sizeof(versions[0]) };

const char *cpu_version_name(int version)
{
    return version < VERSIONS ? versions[version].name : NULL;
}

int cpu_has(const char *isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (strcmp(isa, "avx512_bf16") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("fma");
    if (strcmp(isa, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
    if (strcmp(isa, "neon") == 0)
        return 1;
#endif
    return strcmp(isa, "plain") == 0;
}

/* Index into versions of the best that there is. */
static int version_best(void)
{
    int v = 0;

    while (!cpu_has(versions[v].name))
        v++;
    return v;
}

const struct rows *rows_best(void)
{
    return versions[version_best()].rows;
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

/* Index into versions, or -1.  isa may be NULL. */
static int version_find(const char *isa, struct error *err)
{
    const char *set = getenv("SAMEBIT_ISA"), *from = isa ? "isa" : "SAMEBIT_ISA";
    int v = 0;

    if (!isa && (!set || !*set))
        return version_best();
    isa = isa ? isa : set;
    while (v < VERSIONS && strcmp(versions[v].name, isa) != 0)
        v++;
    if (v == VERSIONS)
        return version_unknown(from, isa, err);
    if (!cpu_has(isa))
        return error_param(err, 400, "isa", "%s \"%s\": this CPU has no %s", from, isa, isa);
    return v;
}

/* ---- memory ---- */

static void *cpu_alloc(struct backend *b, size_t bytes)
{
    const struct cpu *cpu = b->state;

    return memory_take(cpu->memory, bytes);
}

static void cpu_free(struct backend *b, void *ptr)
{
    const struct cpu *cpu = b->state;

    memory_give(cpu->memory, ptr);
}

/* ---- copies ---- */

/* Where row r (over all axes but the last) begins, in elements. */
static int64_t row_offset(const struct tensor *t, int64_t r)
{
    int64_t offset = 0;

    for (int i = t->rank - 2; i > 0; i--) {
        offset += r % t->shape[i] * t->stride[i];
        r /= t->shape[i];
    }
    return t->rank > 1 ? offset + r * t->stride[0] : 0; /* a division less, for each row */
}

bf16 *cpu_row_of_any(const struct tensor *t, int64_t r)
{
    return (bf16 *)t->data + row_offset(t, r);
}

int64_t cpu_row_count(const struct tensor *t)
{
    int64_t rows = 1;

    for (int i = 0; i < t->rank - 1; i++)
        rows *= t->shape[i];
    return rows;
}

static char *copy_row(const struct tensor *t, int64_t r)
{
    return (char *)t->data + row_offset(t, r) * (int64_t)dtype_size(t->dtype);
}

static int cpu_copy(struct backend *b, const struct tensor *dst, const struct tensor *src)
{
    const int64_t n = dst->rank ? dst->shape[dst->rank - 1] : 1, rows = cpu_row_count(dst);

    (void)b;
    if (!tensor_can_copy(dst, src))
        return -1;
    for (int64_t r = 0; r < rows; r++)
        tensor_convert(dst->dtype, copy_row(dst, r), src->dtype, copy_row(src, r), n);
    return 0;
}

static int cpu_read(struct backend *b, void *host, const struct tensor *src)
{
    const struct tensor dst = tensor_make(src->dtype, src->rank, src->shape, host);

    return cpu_copy(b, &dst, src);
}

/* ---- weights ---- */

enum { BAND = 16 << 20 /* bytes that are packed before `passed` hears of them */ };

static int64_t band_rows(const struct tensor *plain)
{
    const int64_t panel = (int64_t)sizeof(bf16) * PANEL_COLUMNS * plain->shape[1];

    return cpu_pieces(BAND, panel ? panel : BAND) * PANEL_COLUMNS;
}

static void pack(const struct cpu *cpu, const struct tensor *plain, void *packed, passed_fn *passed,
                 void *user)
{
    const int64_t rows = plain->shape[0], band = band_rows(plain);

    for (int64_t first = 0; first < rows; first += band) {
        const int64_t count = rows - first < band ? rows - first : band;
        const struct tensor part = tensor_slice(plain, 0, first, count);

        panels_pack_weight(cpu, plain, first, count, packed);
        if (passed)
            passed(user, part.data, tensor_bytes(&part));
    }
}

/* Whether linear reads the panels alone, whatever the number of rows. */
static int is_always_pairs(const struct backend *b, const struct tensor *plain)
{
    return product_rule_of(b->numerics, OP_linear, 1, 1, plain->shape[0], plain->shape[1]).kind ==
           PRODUCT_PAIRS;
}

/* embedding reads panels too where they are there; what is plain is the checkpoint's own. */
static int cpu_weight_open(struct backend *b, enum op op, const struct tensor *plain,
                           passed_fn *passed, void *user, struct weight *out, struct error *err)
{
    const struct cpu *cpu = b->state;

    if (out->packed)
        return 0;
    out->plain = *plain;
    if (op != OP_linear || plain->rank != 2 || !cpu->panels ||
        b->numerics != NUMERICS_TORCH_CPU_AVX512_BF16)
        return 0;
    out->packed = memory_take_weight(cpu->memory, panels_weight_bytes(plain));
    if (!out->packed)
        return error_set(err, 500, "no memory for %zu bytes of packed weight",
                         panels_weight_bytes(plain));
    pack(cpu, plain, out->packed, passed, user);
    if (is_always_pairs(b, plain))
        out->plain.data = NULL;
    return 0;
}

static void cpu_weight_close(struct backend *b, struct weight *w)
{
    const struct cpu *cpu = b->state;

    memory_give_weight(cpu->memory, w->packed);
    w->packed = NULL;
}

/* ---- opening ---- */

static int cores_usable(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set))
        return 1;
    return CPU_COUNT(&set) < POOL_MAX_THREADS ? CPU_COUNT(&set) : POOL_MAX_THREADS;
}

static void table_fill(struct backend *b, int version)
{
    memcpy(b->op, ops, sizeof(ops));
    b->op[OP_sdpa] = versions[version].sdpa;
    b->group[GROUP_SAME] = cpu_group_same;
    b->group[GROUP_EACH] = cpu_group_each;
    if (b->numerics == NUMERICS_TORCH_CPU_AVX2) {
        b->op[OP_linear] = versions[version].linear;
        b->op[OP_matmul_qk] = versions[version].matmul_qk;
        b->op[OP_matmul_pv] = versions[version].matmul_pv;
    } else if (versions[version].panels) {
        b->op[OP_linear] = cpu_linear_panels;
        b->op[OP_matmul_qk] = cpu_matmul_qk_panels;
        b->op[OP_matmul_pv] = cpu_matmul_pv_panels;
        b->group[GROUP_LINEARS] = cpu_group_linears;
        b->group[GROUP_LINEAR_ADD] = cpu_group_linear_add;
        b->group[GROUP_GATED] = cpu_group_gated;
    }
}

struct backend *backend_cpu_open(enum numerics numerics, const char *isa, int threads,
                                 struct error *err)
{
    const int version = version_find(isa, err);
    struct backend *b = NULL;
    struct cpu *cpu = NULL;

    if (version < 0)
        return NULL;
    b = calloc(1, sizeof(*b));
    cpu = calloc(1, sizeof(*cpu));
    if (!b || !cpu) {
        error_set(err, 500, "no memory for a backend");
        goto free_both;
    }
    cpu->rows = versions[version].rows;
    cpu->panels = versions[version].panels;
    cpu->memory = memory_open();
    if (!cpu->memory) {
        error_set(err, 500, "no memory for a backend");
        goto free_both;
    }
    cpu->pool = pool_open(threads ? threads : cores_usable(), err);
    if (!cpu->pool)
        goto close_memory;
    *b = (struct backend){
        .device = "cpu",
        .numerics = numerics,
        .isa = versions[version].name,
        .threads = threads ? threads : cores_usable(),
        .alloc = cpu_alloc,
        .free = cpu_free,
        .copy = cpu_copy,
        .read = cpu_read,
        .weight_open = cpu_weight_open,
        .weight_close = cpu_weight_close,
        .state = cpu,
    };
    table_fill(b, version);
    return b;

close_memory:
    memory_close(cpu->memory);
free_both:
    free(cpu);
    free(b);
    return NULL;
}

void backend_cpu_close(struct backend *b)
{
    struct cpu *cpu = b->state;

    pool_close(cpu->pool);
    memory_close(cpu->memory);
    free(cpu);
    free(b);
}
