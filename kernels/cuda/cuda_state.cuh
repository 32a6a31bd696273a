/* cuda_state.cuh - what every .cu of the backend shares: its state, and where a tensor's rows lie. */
#ifndef SAMEBIT_CUDA_STATE_CUH
#define SAMEBIT_CUDA_STATE_CUH

#include "kernels/cuda/device.cuh"

#include "kernels/cuda/backend_cuda.h"

struct cuda {
    int ordinal;
    cudaStream_t stream; /* all operations, in order */
    struct blas *blas;   /* torch-cuda: cuBLAS and memory for copies; else NULL (aten/aten.h) */
};

static inline const struct cuda *cuda_of(const struct op_call *call)
{
    return (const struct cuda *)call->backend->state;
}

/* 0, or -1 where a launch was refused. */
static inline int cuda_launched(void)
{
    return cudaGetLastError() == cudaSuccess ? 0 : -1;
}

#endif
