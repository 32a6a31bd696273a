/* rows_plain.c - the row loops for any x86-64, and the choice between the versions. */
#include "kernels/cpu/rows_body.h"

#include "kernels/cpu/backend_cpu.h"

const struct rows rows_plain = ROWS_TABLE("plain");

const struct rows *rows_best(void)
{
    return cpu_has("avx512_bf16") ? &rows_avx512 : cpu_has("avx2") ? &rows_avx2 : &rows_plain;
}
