/* dots.h - the products of numerics avx2, several rows at a time; see dots_avx2.c. */
#ifndef SAMEBIT_CPU_DOTS_H
#define SAMEBIT_CPU_DOTS_H

#include "kernels/ops.h"

op_fn cpu_linear_dots, cpu_matmul_qk_dots, cpu_matmul_pv_dots;

#endif
