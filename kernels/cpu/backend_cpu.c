/* backend_cpu.c - the CPU backend: which version of each operation runs, memory and copies. */
#include "kernels/cpu/backend_cpu.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/bf16.h"
#include "kernels/cpu/dots.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/sdpa.h"

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
    {"avx512_bf16", &rows_avx512, &panels_avx512_bf16, cpu_linear_dots, cpu_matmul_qk_dots,
     cpu_matmul_pv_dots, cpu_sdpa_avx512},
    {"avx2", &rows_avx2, &panels_avx2, cpu_linear_dots, cpu_matmul_qk_dots, cpu_matmul_pv_dots,
     cpu_sdpa_avx2},
    {"plain", &rows_plain, NULL, cpu_linear, cpu_matmul_qk, cpu_matmul_pv, cpu_sdpa},
};

enum { VERSIONS = sizeof(versions) / sizeof(versions[0]) };

int cpu_has(const char *isa)
{
    __builtin_cpu_init();
    if (strcmp(isa, "avx512_bf16") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("fma");
    if (strcmp(isa, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return strcmp(isa, "plain") == 0;
}

/* Index into versions, or -1. */
static int version_find(const char *isa, struct error *err)
{
    int v = 0;

    if (!isa) {
        while (!cpu_has(versions[v].name))
            v++;
        return v;
    }
    while (v < VERSIONS && strcmp(versions[v].name, isa) != 0)
        v++;
    if (v == VERSIONS)
        return error_param(err, 400, "isa",
                           "unknown isa \"%s\"; known: \"avx512_bf16\", \"avx2\", \"plain\"", isa);
    if (!cpu_has(isa))
        return error_param(err, 400, "isa", "this CPU has no %s", isa);
    return v;
}

/* ---- memory ---- */

enum { HUGE_PAGE = 2 << 20 };

static void *memory_take(size_t bytes)
{
    const size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    void *ptr;

    if (bytes > SIZE_MAX - align)
        return NULL;
    bytes = bytes ? (bytes + align - 1) / align * align : align;
    ptr = aligned_alloc(align, bytes);
    if (ptr && align == HUGE_PAGE)
        madvise(ptr, bytes, MADV_HUGEPAGE);
    return ptr;
}

static void *cpu_alloc(struct backend *b, size_t bytes)
{
    void *ptr = memory_take(bytes);

    (void)b;
    if (ptr)
        memset(ptr, 0, bytes);
    return ptr;
}

static void cpu_free(struct backend *b, void *ptr)
{
    (void)b;
    free(ptr);
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

static int cpu_weight_open(struct backend *b, enum op op, const struct tensor *plain,
                           struct weight *out, struct error *err)
{
    const struct cpu *cpu = b->state;

    *out = (struct weight){.plain = *plain};
    if (op != OP_linear || plain->rank != 2 || !cpu->panels ||
        b->numerics != NUMERICS_TORCH_CPU_AVX512_BF16)
        return 0;
    out->packed = memory_take(panels_weight_bytes(plain));
    if (!out->packed)
        return error_set(err, 500, "no memory for %zu bytes of packed weight",
                         panels_weight_bytes(plain));
    panels_pack_weight(cpu, plain, out->packed);
    return 0;
}

static void cpu_weight_close(struct backend *b, struct weight *w)
{
    (void)b;
    free(w->packed);
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
    cpu->pool = pool_open(threads ? threads : cores_usable(), err);
    if (!cpu->pool)
        goto free_both;
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

free_both:
    free(cpu);
    free(b);
    return NULL;
}

void backend_cpu_close(struct backend *b)
{
    struct cpu *cpu = b->state;

    pool_close(cpu->pool);
    free(cpu);
    free(b);
}
