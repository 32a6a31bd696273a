/* integer.h - small helpers for integers, on the host and in GPU kernels. */
#ifndef SAMEBIT_INTEGER_H
#define SAMEBIT_INTEGER_H

#include <stdint.h>

#ifdef __CUDACC__
#define INTEGER_INLINE static inline __host__ __device__
#else
#define INTEGER_INLINE static inline
#endif

INTEGER_INLINE int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

INTEGER_INLINE int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif
