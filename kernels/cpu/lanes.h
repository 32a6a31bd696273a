/* lanes.h - DOT8 and FOUR products, several rows at a time; see lanes_body.h. */
#ifndef SAMEBIT_CPU_LANES_H
#define SAMEBIT_CPU_LANES_H

#include "kernels/cpu/cpu.h"

product_fn cpu_linear_lanes, cpu_qk_lanes, cpu_pv_lanes;

#endif
