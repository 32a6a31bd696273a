/* vector_types.h - CUDA's small vectors with its sizes and alignments, and their make_. */
#ifndef SAMEBIT_CUDA_EMULATED_VECTOR_TYPES_H
#define SAMEBIT_CUDA_EMULATED_VECTOR_TYPES_H

#define EMULATED_VECTOR2(name, type)                                                               \
    struct alignas(2 * sizeof(type)) name {                                                        \
        type x, y;                                                                                 \
    };                                                                                             \
    static inline struct name make_##name(type x, type y)                                          \
    {                                                                                              \
        return name{x, y};                                                                         \
    }

#define EMULATED_VECTOR3(name, type)                                                               \
    struct name {                                                                                  \
        type x, y, z;                                                                              \
    };                                                                                             \
    static inline struct name make_##name(type x, type y, type z)                                  \
    {                                                                                              \
        return name{x, y, z};                                                                      \
    }

#define EMULATED_VECTOR4(name, type)                                                               \
    struct alignas(sizeof(type) < 8 ? 4 * sizeof(type) : 16) name {                                \
        type x, y, z, w;                                                                           \
    };                                                                                             \
    static inline struct name make_##name(type x, type y, type z, type w)                          \
    {                                                                                              \
        return name{x, y, z, w};                                                                   \
    }

EMULATED_VECTOR2(char2, signed char)
EMULATED_VECTOR4(char4, signed char)
EMULATED_VECTOR2(uchar2, unsigned char)
EMULATED_VECTOR4(uchar4, unsigned char)
EMULATED_VECTOR2(short2, short)
EMULATED_VECTOR4(short4, short)
EMULATED_VECTOR2(ushort2, unsigned short)
EMULATED_VECTOR4(ushort4, unsigned short)
EMULATED_VECTOR2(int2, int)
EMULATED_VECTOR3(int3, int)
EMULATED_VECTOR4(int4, int)
EMULATED_VECTOR2(uint2, unsigned)
EMULATED_VECTOR3(uint3, unsigned)
EMULATED_VECTOR4(uint4, unsigned)
EMULATED_VECTOR2(longlong2, long long)
EMULATED_VECTOR2(ulonglong2, unsigned long long)
EMULATED_VECTOR2(float2, float)
EMULATED_VECTOR3(float3, float)
EMULATED_VECTOR4(float4, float)
EMULATED_VECTOR2(double2, double)

#undef EMULATED_VECTOR2
#undef EMULATED_VECTOR3
#undef EMULATED_VECTOR4

struct dim3 {
    unsigned x, y, z;

    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z)
    {
    }
};

#endif
