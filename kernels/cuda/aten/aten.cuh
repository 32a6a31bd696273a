/* aten.cuh - what the files of torch-cuda share.
 *
 * This folder is compiled as PyTorch is: nvcc may fuse a product and a sum, because silu and the
 * softmax of long rows depend on it.  All other sums are written with _rn, which nvcc never fuses. */
#ifndef SAMEBIT_CUDA_ATEN_ATEN_CUH
#define SAMEBIT_CUDA_ATEN_ATEN_CUH

#include "kernels/cuda/cublas.h"
#include "kernels/cuda/cuda_state.cuh"

#include "kernels/cuda/aten/aten.h"
#include "kernels/cuda/aten/reduce.h"

static inline int64_t aten_batch(const struct op_call *call)
{
    return call->scope.batch > 1 ? call->scope.batch : 1;
}

static inline unsigned aten_blocks(int64_t elements, int threads)
{
    return (unsigned)((elements + threads - 1) / threads);
}

#endif
