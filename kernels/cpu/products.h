/* products.h - the matrix products, one sum at a time: what other versions must equal, and what they
 * leave what is too small or too large for them to. */
#ifndef SAMEBIT_CPU_PRODUCTS_H
#define SAMEBIT_CPU_PRODUCTS_H

#include "kernels/cpu/cpu.h"

product_fn cpu_linear_plain, cpu_qk_plain, cpu_pv_plain;

#endif
