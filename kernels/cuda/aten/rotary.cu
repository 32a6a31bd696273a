/* rotary.cu - the tables of cos and sin. */
#include "kernels/cuda/aten/aten.cuh"
#include "kernels/rotary.h"

enum { THREADS = 128 };

/* Passed to the kernel by value, since the attribute is in the host's memory. */
struct frequencies {
    float at[ROTARY_MOST];
};

static __global__ void rotary_kernel(const int64_t *position, struct frequencies inv_freq, int half,
                                     enum rotary_part part, enum rope_pairs table, float scale,
                                     bf16 *y, int64_t tokens)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < tokens * half) {
        const int64_t t = i / half, d = i % half;
        const float angle = __fmul_rn((float)position[t], inv_freq.at[d]);
        const float turned = part == ROTARY_COS ? cosf(angle) : sinf(angle);
        const bf16 value = bf16_from_f32(__fmul_rn(turned, scale));

        y[t * 2 * half + (table == ROPE_NEIGHBOURS ? 2 * d : d)] = value;
        y[t * 2 * half + (table == ROPE_NEIGHBOURS ? 2 * d + 1 : half + d)] = value;
    }
}

int aten_rotary(const struct op_call *call)
{
    const int64_t half = call->attrs->inv_freq_count, tokens = call->out->shape[0];
    const int64_t n = tokens * half;
    struct frequencies inv_freq = {};

    float room[ROPE_MOST_PAIRS];

    if (half > ROTARY_MOST)
        return -1;
    memcpy(inv_freq.at, rotary_of_call(call, room), (size_t)half * sizeof(float));
    if (n)
        LAUNCH(rotary_kernel, dim3(aten_blocks(n, THREADS)), dim3(THREADS), 0,
               cuda_of(call)->stream, (const int64_t *)call->in[0]->data, inv_freq, (int)half,
               call->attrs->part, call->attrs->table, call->attrs->rotary_scale,
               (bf16 *)call->out->data, tokens);
    return cuda_launched();
}
