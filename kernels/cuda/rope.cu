/* rope.cu - rotary position embedding: heads rotated by the tables of cos and sin. */
#include "kernels/cuda/rope.cuh"

enum { THREADS = 128 };

/* A thread computes elements i and i + half of a head. */
static __global__ void rope_kernel(struct rope r)
{
    const uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;

    if (at < rope_work(r))
        rope_pair(r, at);
}

int cuda_rope(const struct op_call *call)
{
    const struct rope r = rope_of(call);

    if (rope_work(r) == 0)
        return 0;
    LAUNCH(rope_kernel, dim3(blocks_for(rope_work(r), THREADS)), dim3(THREADS), 0,
           cuda_of(call)->stream, r);
    return cuda_launched();
}
