/* amx_plan.h - where oneDNN cuts the sums of a product on a CPU with AMX.
 *
 * On such a CPU every bf16 product of PyTorch that is large enough goes to oneDNN's brgemm_matmul.
 * It cuts K into blocks, whose sums are added, by a search for the cut that should be fastest: bits
 * depend on the product's shape, the number of threads and the sizes of the caches, and on nothing
 * else.  This is that search, as oneDNN 3.12 (of PyTorch 2.13.0) makes it:
 * src/cpu/x64/matmul/brgemm_matmul_utils.cpp and amx_blocking_heuristics.cpp.  Several rows are
 * searched in amx_sharing.h, one row in amx_row.h. */
#ifndef SAMEBIT_AMX_PLAN_H
#define SAMEBIT_AMX_PLAN_H

#include "kernels/numerics.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How one product is cut. */
struct amx_plan {
    int64_t block; /* elements of k in a block */
    int64_t chunk; /* elements of k that are dealt to a thread at a time: whole blocks */
    int64_t parts; /* threads along K, whose sums are added in order */
    int even;  /* 1: a step is the largest even divisor, at most 32, of its block's length; 0: 32 */
    int small; /* 1: no AMX: one chain of pairs (K is at most 63) */
};

/* Searches for the plan of a product; a few microseconds to milliseconds, by the number of threads. */
struct amx_plan amx_plan_search(const struct product_shape *shape);

/* The same, where each thread keeps the plans that it asked for last; nothing is allocated. */
struct amx_plan amx_plan_of(const struct product_shape *shape);

#ifdef __cplusplus
}
#endif

#endif
