/* backend_cpu.h - the CPU backend's own state, and the operations it is made of. */
#ifndef SAMEBIT_CPU_BACKEND_CPU_H
#define SAMEBIT_CPU_BACKEND_CPU_H

#include "kernels/backend.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/pool.h"
#include "kernels/cpu/rows.h"

struct panels;

struct cpu {
    struct pool *pool;
    struct memory *memory;
    const struct rows *rows;
    const struct panels *panels; /* how PAIRS are computed; NULL: one sum at a time */
};

/* See backend_open and backend_close. */
struct backend *backend_cpu_open(enum numerics numerics, const char *isa, int threads,
                                 struct error *err);
void backend_cpu_close(struct backend *b);

/* Names of the versions for this kind of CPU ("avx512_bf16", "avx2", "plain", or "neon", "plain"),
 * best first; NULL after the last. */
const char *cpu_version_name(int version);
/* Whether this CPU can run a version. */
int cpu_has(const char *isa);

static inline const struct cpu *cpu_of(const struct op_call *call)
{
    return call->backend->state;
}

/* Runs fn over pieces of the call, on the backend's threads. */
static inline void cpu_run(const struct op_call *call, pool_fn *fn, const void *work,
                           int64_t pieces)
{
    pool_run(cpu_of(call)->pool, fn, work, pieces);
}

/* Elements that are worth waking a worker for. */
enum { CPU_PIECE = 8192 };

/* How many rows of n elements make a piece. */
static inline int64_t cpu_rows_of_piece(int64_t n)
{
    return n >= CPU_PIECE ? 1 : CPU_PIECE / (n ? n : 1);
}

static inline int64_t cpu_pieces(int64_t rows, int64_t per_piece)
{
    return (rows + per_piece - 1) / per_piece;
}

/* Row r (over all axes but the last) of a bf16 tensor. */
bf16 *cpu_row_of_any(const struct tensor *t, int64_t r);
static inline bf16 *cpu_row(const struct tensor *t, int64_t r)
{
    return t->rank == 2 ? (bf16 *)t->data + r * t->stride[0] : cpu_row_of_any(t, r);
}
/* Number of such rows. */
int64_t cpu_row_count(const struct tensor *t);

/* ---- the operations; ops.h has their contracts ---- */

op_fn cpu_embedding, cpu_rotary, cpu_linear, cpu_rms_norm, cpu_rope, cpu_cache_append,
    cpu_matmul_qk, cpu_scale, cpu_causal_mask, cpu_softmax, cpu_matmul_pv, cpu_sdpa, cpu_add,
    cpu_mul, cpu_silu;

/* ---- groups of them; backend.h ---- */

group_fn cpu_group_same, cpu_group_linears, cpu_group_linear_add, cpu_group_gated, cpu_group_each;

#endif
