/* finish.h - how a finished f32 sum becomes an output. */
#ifndef SAMEBIT_CPU_FINISH_H
#define SAMEBIT_CPU_FINISH_H

#include <stdint.h>

#include "kernels/base/bf16.h"

/* bf16_from_f32 without a branch, so that the compiler can vectorize loops that call it. */
static inline bf16 finish_round(float f)
{
    const uint32_t u = f32_bits(f), nan = (u & 0x7fffffffu) > 0x7f800000u;
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;

    return (bf16)(nan ? 0x7fc0u : rounded);
}

/* y[c] = bf(sum[c] + bias[c]); bias may be NULL. */
static inline void finish_sums(const float *restrict sum, const bf16 *restrict bias,
                               bf16 *restrict y, int64_t columns)
{
    if (bias)
        for (int64_t c = 0; c < columns; c++)
            y[c] = finish_round(sum[c] + bf16_to_f32(bias[c]));
    else
        for (int64_t c = 0; c < columns; c++)
            y[c] = finish_round(sum[c]);
}

/* The same where an output that would be denormal is a zero. */
static inline void finish_sums_flushed(const float *restrict sum, const bf16 *restrict bias,
                                       bf16 *restrict y, int64_t columns)
{
    for (int64_t c = 0; c < columns; c++) {
        const uint32_t u = f32_bits(bias ? sum[c] + bf16_to_f32(bias[c]) : sum[c]);

        y[c] = finish_round(f32_from_bits(u & 0x7f800000u ? u : u & 0x80000000u));
    }
}

/* y[c] = bf(y[c] + add[c]). */
static inline void finish_add(bf16 *restrict y, const bf16 *restrict add, int64_t columns)
{
    for (int64_t c = 0; c < columns; c++)
        y[c] = finish_round(bf16_to_f32(y[c]) + bf16_to_f32(add[c]));
}

#endif
