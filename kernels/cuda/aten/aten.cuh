/* aten.cuh - what the kernels of torch-cuda share: CUDA's mathematical functions, and the host's
 * counts of rows.
 *
 * This folder is compiled as PyTorch is, with nvcc's own contraction of products into sums, because
 * silu and the long softmax depend on it.  All other sums are written with _rn. */
#ifndef SAMEBIT_CUDA_ATEN_ATEN_CUH
#define SAMEBIT_CUDA_ATEN_ATEN_CUH

#include "kernels/cuda/cublas.h"
#include "kernels/cuda/cuda_state.cuh"

#include "kernels/cuda/aten/aten.h"
#include "kernels/cuda/aten/reduce.h"

/* Emulated: rounded correctly, where CUDA's may be off by an ulp or two. */
#ifdef __CUDACC__
#define DEVICE_EXP(x) expf(x)
#define DEVICE_RSQRT(x) rsqrtf(x)
#define DEVICE_COS(x) cosf(x)
#define DEVICE_SIN(x) sinf(x)
#else
#define DEVICE_EXP(x) cuda_expf(x)
#define DEVICE_RSQRT(x) cuda_rsqrtf(x)
#define DEVICE_COS(x) cuda_cosf(x)
#define DEVICE_SIN(x) cuda_sinf(x)
#endif

static inline int64_t aten_batch(const struct op_call *call)
{
    return call->scope.batch > 1 ? call->scope.batch : 1;
}

static inline unsigned aten_blocks(int64_t elements, int threads)
{
    return (unsigned)((elements + threads - 1) / threads);
}

#endif
