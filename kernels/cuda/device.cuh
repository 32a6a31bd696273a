/* device.cuh - the CUDA that the kernels are written in: CUDA's own under nvcc, the emulator's under
 * a C++ compiler.  Every .cu includes it first. */
#ifndef SAMEBIT_CUDA_DEVICE_CUH
#define SAMEBIT_CUDA_DEVICE_CUH

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                           \
    kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(type, name)                                                                 \
    extern __shared__ __align__(16) unsigned char name##_bytes[];                                  \
    type *name = reinterpret_cast<type *>(name##_bytes)
#else
#include "kernels/cuda/emulated/emulator.h"
#include "kernels/cuda/emulated/cudart.h"
#endif

#include "kernels/bf16.h"

#endif
