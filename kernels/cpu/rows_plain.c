/* rows_plain.c - the row loops for any CPU. */
#include "kernels/cpu/rows_body.h"

const struct rows rows_plain = ROWS_TABLE("plain", rows_silu, rows_gate);
