/* norm.cuh - what rms_norm does with an element once the scale of its row is known. */
#ifndef SAMEBIT_CUDA_NORM_CUH
#define SAMEBIT_CUDA_NORM_CUH

#include "kernels/cuda/device.cuh"

#include "kernels/ops.h"

static __forceinline__ __device__ bf16 norm_scaled(bf16 x, bf16 weight, enum norm_weight kind,
                                                   float scale)
{
    const float h = __fmul_rn(bf16_to_f32(x), scale), w = bf16_to_f32(weight);

    if (kind == NORM_BF16)
        return bf16_from_f32(__fmul_rn(w, bf16_to_f32(bf16_from_f32(h))));
    return bf16_from_f32(__fmul_rn(h, kind == NORM_F32 ? w : __fadd_rn(1.0f, w)));
}

#endif
