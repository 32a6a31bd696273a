/* float16.h - IEEE binary16 to binary32, exact. */
#ifndef SAMEBIT_FLOAT16_H
#define SAMEBIT_FLOAT16_H

#include "kernels/base/bf16.h"

/* Every f16 is an f32; the payload of a NaN is kept. */
static inline float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = h >> 10 & 31u, fraction = h & 0x3ffu;

    if (exponent == 0) { /* zero and denormals: fraction x 2^-24 */
        float f = (float)fraction * 0x1p-24f;

        return f32_from_bits(f32_bits(f) | sign);
    }
    if (exponent == 31)
        return f32_from_bits(sign | 0x7f800000u | fraction << 13);
    return f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

#endif
