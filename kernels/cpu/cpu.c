/* cpu.c - see cpu.h. */
#include "kernels/cpu/cpu.h"

int64_t cpu_row_offset(const struct tensor *t, int64_t r)
{
    int64_t offset = 0;

    for (int i = t->rank - 2; i > 0; i--) {
        offset += r % t->shape[i] * t->stride[i];
        r /= t->shape[i];
    }
    return t->rank > 1 ? offset + r * t->stride[0] : 0; /* saves a division for each row */
}

int64_t cpu_row_count(const struct tensor *t)
{
    int64_t rows = 1;

    for (int i = 0; i < t->rank - 1; i++)
        rows *= t->shape[i];
    return rows;
}
