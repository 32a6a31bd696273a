/* half.h - float32 to IEEE binary16; the way back is kernels/base/float16.h. */
#ifndef SAMEBIT_HALF_H
#define SAMEBIT_HALF_H

#include <stdint.h>

#include "kernels/base/bf16.h"

/* Round to nearest even; overflow goes to infinity, a NaN becomes 0x7e00. */
static inline uint16_t half_from_f32(float f)
{
    uint32_t u = f32_bits(f), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;

    if (magnitude > 0x7f800000u)
        return 0x7e00;
    if (magnitude >= 0x477ff000u) /* 65520: halfway to what would be 65536 */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) /* 2^-14: normal */
        return (uint16_t)(sign |
                          (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
    /* Adding 0.5 leaves the multiple of 2^-24 in the low bits, rounded to nearest even. */
    return (uint16_t)(sign | (f32_bits(f32_from_bits(magnitude) + 0.5f) - 0x3f000000u));
}

#endif
