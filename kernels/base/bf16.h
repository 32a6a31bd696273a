/* bf16.h - bfloat16 <-> float32, as PyTorch converts them. */
#ifndef SAMEBIT_BF16_H
#define SAMEBIT_BF16_H

#include <stdint.h>
#include <string.h>

/* Kernels for a GPU call these too. */
#ifdef __CUDACC__
#define BF16_INLINE static inline __host__ __device__
#else
#define BF16_INLINE static inline
#endif

typedef uint16_t bf16;

BF16_INLINE uint32_t f32_bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return u;
}

BF16_INLINE float f32_from_bits(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof(f));
    return f;
}

/* A product that nvcc must not fuse with a sum that it is added to. */
BF16_INLINE float f32_product(float a, float b)
{
#ifdef __CUDA_ARCH__
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

BF16_INLINE float bf16_to_f32(bf16 b)
{
    return f32_from_bits((uint32_t)b << 16);
}

/* Round to nearest even; overflow goes to infinity, denormals are kept, every NaN becomes 0x7fc0
 * (c10/util/BFloat16.h: round_to_nearest_even). */
BF16_INLINE bf16 bf16_from_f32(float f)
{
    uint32_t u = f32_bits(f);

    if (f != f)
        return 0x7fc0;
    return (bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* The same for a binary64, rounded once.  On the way it is rounded to binary32 toward zero, and the
 * last bit is set if anything was lost ("round to odd"), so that the second rounding cannot take it
 * for a tie. */
BF16_INLINE bf16 bf16_from_f64(double d)
{
    float f = (float)d;
    uint32_t u = f32_bits(f);

    if (f != f || (double)f == d)
        return bf16_from_f32(f);
    if ((f < 0 ? -(double)f : (double)f) > (d < 0 ? -d : d))
        u--;
    return bf16_from_f32(f32_from_bits(u | 1u));
}

#endif
