/* sdpa.h - the versions of scaled_dot_product_attention on a CPU.  kernels/sdpa.h has what they share
 * with other backends, ops.h the contract. */
#ifndef SAMEBIT_CPU_SDPA_H
#define SAMEBIT_CPU_SDPA_H

#include "kernels/cpu/cpu.h"
#include "kernels/sdpa.h"

/* ---- for those in vectors ---- */

enum { STRIP = 32 }; /* columns of a pass */

/* The greatest and the least magnitude but zero, as bf16 without sign. */
struct extremes {
    int most, least;
};

/* cpu_sdpa_plain in vectors: equal bits. */
op_fn cpu_sdpa_avx512, cpu_sdpa_avx2, cpu_sdpa_neon;

/* One row at a time: the specification, of every kind of products. */
op_fn cpu_sdpa_plain;

/* The two products one sum at a time.  rows: of the group; N: keys of the block, of which this is j. */
float cpu_sdpa_key(const struct sdpa *s, const bf16 *q, const bf16 *key, int64_t rows, int64_t N,
                   int64_t j);
/* Of one d, whose values lie as those of the call: y with the weights p of the N keys times v. */
float cpu_sdpa_value(const struct sdpa *s, const bf16 *p, const bf16 *v, int64_t rows, int64_t N,
                     float y);

#endif
