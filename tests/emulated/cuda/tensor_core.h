/* tensor_core.h - a tensor core's bf16 products with f32 sums, as far as published measurements
 * tell (arXiv 2511.10909, 2512.07004): for the emulator, and for tests.
 *
 * One step takes `group` products and the sum so far.  All are aligned to the largest exponent
 * among them, each is truncated toward zero at `fraction` bits below it, they are added exactly,
 * and the sum is truncated toward zero to an f32. */
#ifndef SAMEBIT_CUDA_TENSOR_CORE_H
#define SAMEBIT_CUDA_TENSOR_CORE_H

#include <stdint.h>

#include "kernels/base/bf16.h"

struct tensor_core {
    int group;    /* products of a step */
    int fraction; /* bits kept below the largest exponent */
    int lowest;   /* exponent that stands for zero */
};

static const struct tensor_core tensor_core_ampere = {8, 24, -132};
static const struct tensor_core tensor_core_hopper = {16, 25, -133};

/* value = mantissa * 2^(exponent - 7); of a finite number */
struct tensor_core_number {
    int mantissa, exponent;
};

static inline struct tensor_core_number tensor_core_read(bf16 x)
{
    const int exponent = x >> 7 & 255, fraction = x & 127;
    const int mantissa = exponent ? fraction | 128 : fraction;
    const struct tensor_core_number number = {x >> 15 ? -mantissa : mantissa,
                                              (exponent ? exponent : 1) - 127};

    return number;
}

/* magnitude * 2^scale, truncated; overflow gives infinity. */
static inline float tensor_core_truncate(uint64_t magnitude, int scale, int negative)
{
    const uint32_t sign = negative ? 0x80000000u : 0;
    const int top = 63 - __builtin_clzll(magnitude);
    const int exponent = top + scale;
    const int kept = exponent < -126 ? 149 + exponent : 23; /* bits below the first */
    const int shift = top - kept;
    uint32_t bits;

    if (kept < 0)
        return f32_from_bits(sign);
    bits = (uint32_t)(shift > 0 ? magnitude >> shift : magnitude << -shift);
    if (exponent > 127)
        return f32_from_bits(sign | 0x7f800000u);
    return f32_from_bits(sign |
                         (exponent < -126 ? bits : ((uint32_t)(exponent + 126) << 23) + bits));
}

/* shift may exceed the width. */
static inline int64_t tensor_core_align(int64_t magnitude, int shift)
{
    return shift < 63 ? magnitude >> shift : 0;
}

/* sum + a[0] * b[0] + ... of count <= group products of finite numbers. */
static inline float tensor_core_step(const struct tensor_core *core,
                                     const struct tensor_core_number *a,
                                     const struct tensor_core_number *b, int count, float sum)
{
    const uint32_t bits = f32_bits(sum);
    const int field = (int)(bits >> 23 & 255);
    const int64_t mantissa = (int64_t)(bits & 0x7fffff) | (field ? 0x800000 : 0);
    const int exponent = mantissa ? (field ? field : 1) - 127 : core->lowest;
    int largest = exponent;
    int64_t total, product[16];
    int exponents[16];

    for (int i = 0; i < count; i++) {
        product[i] = (int64_t)a[i].mantissa * b[i].mantissa;
        exponents[i] = product[i] ? a[i].exponent + b[i].exponent : core->lowest;
        largest = exponents[i] > largest ? exponents[i] : largest;
    }
    total = tensor_core_align(mantissa << (core->fraction - 23), largest - exponent);
    total = bits >> 31 ? -total : total;
    for (int i = 0; i < count; i++) {
        const int64_t magnitude = product[i] < 0 ? -product[i] : product[i];
        const int64_t aligned =
            tensor_core_align(magnitude << (core->fraction - 14), largest - exponents[i]);

        total += product[i] < 0 ? -aligned : aligned;
    }
    if (!total)
        return 0.0f;
    return tensor_core_truncate((uint64_t)(total < 0 ? -total : total), largest - core->fraction,
                                total < 0);
}

#endif
