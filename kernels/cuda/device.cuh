/* device.cuh - the CUDA that the kernels are written in.  Every .cu includes it first.
 *
 * CUDA's own header under nvcc.  An emulated build puts a header of the same name before it
 * (tests/emulated/cuda/include), which defines the two macros below for a C++ compiler. */
#ifndef SAMEBIT_CUDA_DEVICE_CUH
#define SAMEBIT_CUDA_DEVICE_CUH

#include <cuda_runtime.h>

#ifdef __CUDACC__
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                           \
    kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(type, name)                                                                 \
    extern __shared__ __align__(16) unsigned char name##_bytes[];                                  \
    type *name = reinterpret_cast<type *>(name##_bytes)
#endif

#include "kernels/base/bf16.h"

#endif
