/* cuda_state.cuh - what every .cu of the backend shares: its state, and how it reports failures. */
#ifndef SAMEBIT_CUDA_STATE_CUH
#define SAMEBIT_CUDA_STATE_CUH

#include "kernels/cuda/device.cuh"

#include "kernels/cuda/backend_cuda.h"

struct cuda {
    int ordinal;
    cudaStream_t stream; /* all operations, in order */
    struct blas *blas;   /* torch-cuda: cuBLAS and memory for copies; else NULL (aten/aten.h) */
    struct staging *staging;
    struct rotary_tables *rotary;
    struct reader_pool *readers;
    char isa[16], name[256];
};

static inline const struct cuda *cuda_of(const struct op_call *call)
{
    return (const struct cuda *)call->backend->state;
}

/* Returns 0, or -1 where CUDA failed; its message is kept for this thread. */
int cuda_check(cudaError_t error);
/* Returns the message of this thread's last failure, or NULL. */
const char *cuda_trouble(void);
/* Selects the device for the calling thread. */
int cuda_enter(const struct cuda *cuda);

/* Returns 0, or -1 where the last launch was refused. */
static inline int cuda_launched(void)
{
    return cuda_check(cudaGetLastError());
}

#endif
