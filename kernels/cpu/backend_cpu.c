/* backend_cpu.c - the CPU backend: memory, copies and weights. */
#include "kernels/cpu/backend_cpu.h"

#include <sched.h>
#include <stdlib.h>

#include "kernels/cpu/ideal.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/versions.h"

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

static char *copy_row(const struct tensor *t, int64_t r)
{
    return (char *)t->data + cpu_row_offset(t, r) * (int64_t)dtype_size(t->dtype);
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

enum {
    BAND = 16 << 20,    /* bytes that are packed before `passed` hears of them */
    MANY_ROWS = 1 << 20 /* of any call */
};

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

/* Returns whether a linear with this weight and M rows reads panels. */
static int reads_panels(const struct backend *b, int64_t M, int64_t N, int64_t K)
{
    const struct product_shape shape = {PRODUCT_OF_LINEAR, 1, M, N, K, &b->torch};
    const struct product_rule rule = b->numerics->rule(&shape);

    return panels_serve(b->state, &rule, K);
}

/* Packs the weight into panels if a linear needs them; embedding then reads the panels too.  Else the
 * weight stays the checkpoint's own bytes. */
static int cpu_weight_open(struct backend *b, enum op op, const struct tensor *plain,
                           passed_fn *passed, void *user, struct weight *out, struct error *err)
{
    const struct cpu *cpu = b->state;
    const int64_t N = plain->shape[0], K = plain->rank == 2 ? plain->shape[1] : 0;

    if (out->packed)
        return 0;
    out->plain = *plain;
    if (op != OP_linear || plain->rank != 2 || !reads_panels(b, MANY_ROWS, N, K))
        return 0;
    out->packed = memory_take_weight(cpu->memory, panels_weight_bytes(plain));
    if (!out->packed)
        return error_set(err, 500, "no memory for %zu bytes of packed weight",
                         panels_weight_bytes(plain));
    pack(cpu, plain, out->packed, passed, user);
    if (reads_panels(b, 1, N, K))
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

/* Sets the groups that this backend has: those with linears need panels. */
static void fill_groups(struct backend *b)
{
    b->group[GROUP_SAME] = cpu_group_same;
    b->group[GROUP_EACH] = cpu_group_each;
    if (!reads_panels(b, MANY_ROWS, 4096, 4096))
        return;
    b->group[GROUP_LINEARS] = cpu_group_linears;
    b->group[GROUP_LINEAR_ADD] = cpu_group_linear_add;
    b->group[GROUP_GATED] = cpu_group_gated;
}

struct backend *backend_cpu_open(const struct numerics *numerics, const char *isa, int threads,
                                 struct error *err)
{
    const struct version *version = version_choose(isa, err);
    struct backend *b = NULL;
    struct cpu *cpu = NULL;

    if (!version)
        return NULL;
    b = calloc(1, sizeof(*b));
    cpu = calloc(1, sizeof(*cpu));
    if (!b || !cpu) {
        error_set(err, 500, "no memory for a backend");
        goto free_both;
    }
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
        .torch = torch_host_studied(),
        .isa = version->name,
        .threads = threads ? threads : cores_usable(),
        .host_readable = 1,
        .alignment = MEMORY_ALIGNMENT,
        .alloc = cpu_alloc,
        .free = cpu_free,
        .copy = cpu_copy,
        .read = cpu_read,
        .weight_open = cpu_weight_open,
        .weight_close = cpu_weight_close,
        .state = cpu,
    };
    version_fill(version, cpu, b->op);
    if (numerics->sdpa == SDPA_NONE)
        b->op[OP_sdpa] = NULL;
    if (numerics->kernels == KERNELS_IDEAL)
        ideal_fill(b->op);
    else
        fill_groups(b);
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
