/* cpu.h - what every operation on the CPU shares: the backend's state, its threads, rows of tensors.
 * backend_cpu.c fills it and is above all operations; this is below them. */
#ifndef SAMEBIT_CPU_CPU_H
#define SAMEBIT_CPU_CPU_H

#include "kernels/backend.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/pool.h"
#include "kernels/cpu/rows.h"

struct panels;

/* One of a model's products, whose sums have this rule. */
typedef int product_fn(const struct op_call *call, const struct product_rule *rule);

struct cpu {
    struct pool *pool;
    struct memory *memory;
    const struct rows *rows;
    const struct panels *panels; /* how linears read packed weights; NULL: none are packed */
    product_fn *product[PRODUCT_KINDS][PRODUCT_USES];
    op_fn *sdpa[SDPA_KINDS];
};

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

/* With fewer elements, waking a worker costs more than it saves. */
enum { CPU_PIECE = 8192 };

/* Returns how many rows of n elements make a piece of work for a thread. */
static inline int64_t cpu_rows_of_piece(int64_t n)
{
    return n >= CPU_PIECE ? 1 : CPU_PIECE / (n ? n : 1);
}

static inline int64_t cpu_pieces(int64_t rows, int64_t per_piece)
{
    return (rows + per_piece - 1) / per_piece;
}

/* Returns where row r (counted over all axes but the last) begins, in elements. */
int64_t cpu_row_offset(const struct tensor *t, int64_t r);

/* Returns row r of a bf16 tensor. */
static inline bf16 *cpu_row(const struct tensor *t, int64_t r)
{
    return (bf16 *)t->data + (t->rank == 2 ? r * t->stride[0] : cpu_row_offset(t, r));
}

/* Returns the number of rows. */
int64_t cpu_row_count(const struct tensor *t);

/* ---- the operations; ops.h has their contracts ---- */

#define OP(name, ...) op_fn cpu_##name;
#include "kernels/ops.def"

/* ---- groups of them; backend.h ---- */

group_fn cpu_group_same, cpu_group_linears, cpu_group_linear_add, cpu_group_gated, cpu_group_each;

#endif
