/* rows_avx512.c - the row loops in registers of 16 lanes. */
#include "kernels/cpu/rows_body.h"

const struct rows rows_avx512 = ROWS_TABLE("avx512_bf16");
