/* device_functions.h - CUDA's device functions for a C++ compiler.
 *
 * Those named for a rounding are one IEEE operation, as on the device.  expf, sinf, ... are
 * computed in double and rounded once: correct in all but about one case in 2^29, where the
 * device's own may be off by an ulp or two; kernels that promise bits do not call them, or a GPU
 * tells.
 */
#ifndef SAMEBIT_CUDA_EMULATED_DEVICE_FUNCTIONS_H
#define SAMEBIT_CUDA_EMULATED_DEVICE_FUNCTIONS_H

#include <stdint.h>
#include <string.h>

#include <cmath>
#include <limits>
#include <type_traits>

/* ---- bits ---- */

template <class To, class From> static inline To emulated_bits(From from)
{
    To to;

    static_assert(sizeof(To) == sizeof(From), "equal sizes");
    memcpy(&to, &from, sizeof(to));
    return to;
}

#define EMULATED_FUNCTION(result, name, parameters, ...)                                           \
    static inline __attribute__((unused)) result name parameters                                   \
    {                                                                                              \
        return __VA_ARGS__;                                                                        \
    }

EMULATED_FUNCTION(unsigned, __float_as_uint, (float f), emulated_bits<unsigned>(f))
EMULATED_FUNCTION(int, __float_as_int, (float f), emulated_bits<int>(f))
EMULATED_FUNCTION(float, __uint_as_float, (unsigned u), emulated_bits<float>(u))
EMULATED_FUNCTION(float, __int_as_float, (int i), emulated_bits<float>(i))
EMULATED_FUNCTION(long long, __double_as_longlong, (double d), emulated_bits<long long>(d))
EMULATED_FUNCTION(double, __longlong_as_double, (long long i), emulated_bits<double>(i))

EMULATED_FUNCTION(int, __popc, (unsigned u), __builtin_popcount(u))
EMULATED_FUNCTION(int, __clz, (int i), i ? __builtin_clz((unsigned)i) : 32)
EMULATED_FUNCTION(int, __ffs, (int i), __builtin_ffs(i))
EMULATED_FUNCTION(unsigned, __umulhi, (unsigned a, unsigned b), (unsigned)((uint64_t)a *b >> 32))
EMULATED_FUNCTION(int, __mulhi, (int a, int b), (int)((int64_t)a *b >> 32))
EMULATED_FUNCTION(unsigned long long, __umul64hi, (unsigned long long a, unsigned long long b),
                  (unsigned long long)((unsigned __int128)a *b >> 64))
EMULATED_FUNCTION(unsigned, __funnelshift_l, (unsigned low, unsigned high, unsigned by),
                  (unsigned)((((uint64_t)high << 32 | low) << (by & 31)) >> 32))
EMULATED_FUNCTION(unsigned, __funnelshift_r, (unsigned low, unsigned high, unsigned by),
                  (unsigned)(((uint64_t)high << 32 | low) >> (by & 31)))

/* Byte i of the result is byte (selector >> 4i) & 7 of b:a. */
static inline __attribute__((unused)) unsigned __byte_perm(unsigned a, unsigned b,
                                                           unsigned selector)
{
    const uint64_t both = (uint64_t)b << 32 | a;
    unsigned out = 0;

    for (int i = 0; i < 4; i++)
        out |= (unsigned)(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return out;
}

/* ---- arithmetic, rounded to nearest even ---- */

EMULATED_FUNCTION(float, __fadd_rn, (float a, float b), a + b)
EMULATED_FUNCTION(float, __fsub_rn, (float a, float b), a - b)
EMULATED_FUNCTION(float, __fmul_rn, (float a, float b), a *b)
EMULATED_FUNCTION(float, __fdiv_rn, (float a, float b), a / b)
EMULATED_FUNCTION(float, __fmaf_rn, (float a, float b, float c), __builtin_fmaf(a, b, c))
EMULATED_FUNCTION(float, __fsqrt_rn, (float a), std::sqrt(a))
EMULATED_FUNCTION(float, __frcp_rn, (float a), 1.0f / a)
EMULATED_FUNCTION(double, __dadd_rn, (double a, double b), a + b)
EMULATED_FUNCTION(double, __dsub_rn, (double a, double b), a - b)
EMULATED_FUNCTION(double, __dmul_rn, (double a, double b), a *b)
EMULATED_FUNCTION(double, __ddiv_rn, (double a, double b), a / b)
EMULATED_FUNCTION(double, __fma_rn, (double a, double b, double c), __builtin_fma(a, b, c))
EMULATED_FUNCTION(double, __dsqrt_rn, (double a), std::sqrt(a))

/* ---- conversions; integers saturate and a NaN is 0, as on the device ---- */

template <class Integer> static inline Integer emulated_integer(double rounded)
{
    const double least = (double)std::numeric_limits<Integer>::min();
    const double beyond = 2.0 * (double)(std::numeric_limits<Integer>::max() / 2 + 1);

    if (rounded != rounded)
        return 0;
    if (rounded < least)
        return std::numeric_limits<Integer>::min();
    return rounded >= beyond ? std::numeric_limits<Integer>::max() : (Integer)rounded;
}

EMULATED_FUNCTION(int, __float2int_rn, (float a), emulated_integer<int>(std::nearbyint(a)))
EMULATED_FUNCTION(int, __float2int_rz, (float a), emulated_integer<int>(std::trunc(a)))
EMULATED_FUNCTION(int, __float2int_rd, (float a), emulated_integer<int>(std::floor(a)))
EMULATED_FUNCTION(unsigned, __float2uint_rn, (float a),
                  emulated_integer<unsigned>(std::nearbyint(a)))
EMULATED_FUNCTION(unsigned, __float2uint_rz, (float a), emulated_integer<unsigned>(std::trunc(a)))
EMULATED_FUNCTION(int, __double2int_rn, (double a), emulated_integer<int>(std::nearbyint(a)))
EMULATED_FUNCTION(long long, __double2ll_rn, (double a),
                  emulated_integer<long long>(std::nearbyint(a)))
EMULATED_FUNCTION(float, __double2float_rn, (double a), (float)a)
EMULATED_FUNCTION(float, __int2float_rn, (int a), (float)a)
EMULATED_FUNCTION(float, __uint2float_rn, (unsigned a), (float)a)
EMULATED_FUNCTION(float, __ll2float_rn, (long long a), (float)a)
EMULATED_FUNCTION(double, __int2double_rn, (int a), (double)a)

/* ---- the smaller, the larger: of numbers of any two types, as CUDA's overloads ---- */

template <class A, class B>
static inline constexpr typename std::common_type<A, B>::type min(A a, B b)
{
    using T = typename std::common_type<A, B>::type;

    return (T)b < (T)a ? (T)b : (T)a;
}

template <class A, class B>
static inline constexpr typename std::common_type<A, B>::type max(A a, B b)
{
    using T = typename std::common_type<A, B>::type;

    return (T)a < (T)b ? (T)b : (T)a;
}

/* Of two floats CUDA's min and max are fminf and fmaxf: a NaN loses. */
template <> inline float min<float, float>(float a, float b)
{
    return fminf(a, b);
}

template <> inline float max<float, float>(float a, float b)
{
    return fmaxf(a, b);
}

/* ---- memory ---- */

template <class T> static inline T __ldg(const T *ptr)
{
    return *ptr;
}

template <class T> static inline T __ldcs(const T *ptr)
{
    return *ptr;
}

template <class T> static inline void __stcs(T *ptr, T value)
{
    *ptr = value;
}

/* Each returns what was there before. */
template <class T> static inline T atomicAdd(T *ptr, typename std::common_type<T>::type value)
{
    return __atomic_fetch_add(ptr, value, __ATOMIC_SEQ_CST);
}

template <class T> static inline T atomicExch(T *ptr, typename std::common_type<T>::type value)
{
    return __atomic_exchange_n(ptr, value, __ATOMIC_SEQ_CST);
}

template <class T>
static inline T atomicCAS(T *ptr, typename std::common_type<T>::type expected,
                          typename std::common_type<T>::type value)
{
    __atomic_compare_exchange_n(ptr, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}

template <class T> static inline T atomicMax(T *ptr, typename std::common_type<T>::type value)
{
    T seen = __atomic_load_n(ptr, __ATOMIC_SEQ_CST);

    while (seen < value &&
           !__atomic_compare_exchange_n(ptr, &seen, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return seen;
}

template <class T> static inline T atomicMin(T *ptr, typename std::common_type<T>::type value)
{
    T seen = __atomic_load_n(ptr, __ATOMIC_SEQ_CST);

    while (value < seen &&
           !__atomic_compare_exchange_n(ptr, &seen, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return seen;
}

/* ---- the math library ---- */

EMULATED_FUNCTION(float, emulated_expf, (float x), (float)exp((double)x))
EMULATED_FUNCTION(float, emulated_exp2f, (float x), (float)exp2((double)x))
EMULATED_FUNCTION(float, emulated_logf, (float x), (float)log((double)x))
EMULATED_FUNCTION(float, emulated_cosf, (float x), (float)cos((double)x))
EMULATED_FUNCTION(float, emulated_sinf, (float x), (float)sin((double)x))
EMULATED_FUNCTION(float, emulated_tanhf, (float x), (float)tanh((double)x))
EMULATED_FUNCTION(float, emulated_powf, (float x, float y), (float)pow((double)x, (double)y))
EMULATED_FUNCTION(float, rsqrtf, (float x), (float)(1.0 / std::sqrt((double)x)))
EMULATED_FUNCTION(double, rsqrt, (double x), 1.0 / std::sqrt(x))

/* glibc's own differ between its versions */
#define expf(x) emulated_expf(x)
#define exp2f(x) emulated_exp2f(x)
#define logf(x) emulated_logf(x)
#define cosf(x) emulated_cosf(x)
#define sinf(x) emulated_sinf(x)
#define tanhf(x) emulated_tanhf(x)
#define powf(x, y) emulated_powf(x, y)

#undef EMULATED_FUNCTION

#endif
