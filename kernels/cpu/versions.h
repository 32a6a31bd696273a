/* versions.h - which version of each kernel runs, by the instructions that this CPU has. */
#ifndef SAMEBIT_CPU_VERSIONS_H
#define SAMEBIT_CPU_VERSIONS_H

#include "kernels/cpu/cpu.h"

/* One for each instruction set.  "plain" has a kernel for everything; where another has NULL, plain's
 * is taken. */
struct version {
    const char *name; /* "avx512_bf16", "avx2", "neon", "plain" */
    const struct rows *rows;
    const struct panels *panels;
    op_fn *op[OP_COUNT];
    product_fn *product[PRODUCT_KINDS][PRODUCT_USES];
    op_fn *sdpa[SDPA_KINDS];
};

/* Version i for this kind of CPU, best first; NULL after the last, which is plain. */
const struct version *version_at(int i);
/* Whether this CPU can run a version. */
int version_runs(const char *name);
/* The version to take: isa; where that is NULL the one that SAMEBIT_ISA names; else the best.  NULL:
 * a 400 of param "isa" that lists what is known. */
const struct version *version_choose(const char *isa, struct error *err);

/* Kernels of plain, overwritten by the version's own. */
void version_fill(const struct version *v, struct cpu *cpu, op_fn **op);

#endif
