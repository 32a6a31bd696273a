/* rows_avx2.c - the row loops in registers of 8 lanes. */
#include "kernels/cpu/rows_body.h"

const struct rows rows_avx2 = ROWS_TABLE("avx2", rows_silu, rows_gate);
