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

/* cpu_sdpa_plain in vectors, of MKL_AMD: equal bits. */
op_fn cpu_sdpa_avx512, cpu_sdpa_avx2, cpu_sdpa_neon;

/* One row at a time: the specification, of every kind of products. */
op_fn cpu_sdpa_plain;

#endif
