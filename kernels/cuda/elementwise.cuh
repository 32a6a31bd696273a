/* elementwise.cuh - one element of the operations that treat all alike. */
#ifndef SAMEBIT_CUDA_ELEMENTWISE_CUH
#define SAMEBIT_CUDA_ELEMENTWISE_CUH

#include "kernels/cuda/rows.cuh"

#include "kernels/gelu.h"

enum elementwise { ADD, MUL, SCALE, DIVIDE, TANH, SILU, GELU_TANH };

template <enum elementwise kind>
static __forceinline__ __device__ bf16 element(bf16 first, bf16 second, float by)
{
    const float a = bf16_to_f32(first), b = bf16_to_f32(second);

    switch (kind) {
    case ADD:
        return bf16_from_f32(__fadd_rn(a, b));
    case MUL:
        return bf16_from_f32(__fmul_rn(a, b));
    case SCALE:
        return bf16_from_f32(__fmul_rn(a, by));
    case DIVIDE:
        return bf16_from_f32(__fdiv_rn(a, by));
    case TANH:
        return bf16_from_f32(sleef_tanhf(a));
    case GELU_TANH:
        return gelu_tanh(first);
    case SILU:
        break;
    }
    return bf16_from_f32(__fdiv_rn(a, __fadd_rn(1.0f, sleef_expf(-a))));
}

#endif
