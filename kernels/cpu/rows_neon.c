/* rows_neon.c - the row loops in registers of 4 lanes, which every 64-bit ARM has. */
#include "kernels/cpu/rows_body.h"

const struct rows rows_neon = ROWS_TABLE("neon", rows_silu, rows_gate);
