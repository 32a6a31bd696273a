/* rope.cu - rotary position embedding: heads rotated by the tables of cos and sin. */
#include "kernels/cuda/rows.cuh"

enum { THREADS = 128 };

struct rope {
    const bf16 *x;
    int64_t token_step, head_step; /* of x, in elements */
    struct rows cos, sin, y;       /* y: head * tokens + token */
    uint32_t tokens, heads, half;
};

static __forceinline__ __device__ bf16 rotate(bf16 x, bf16 cos, bf16 turned, bf16 sin)
{
    const bf16 a = bf16_from_f32(__fmul_rn(bf16_to_f32(x), bf16_to_f32(cos)));
    const bf16 b = bf16_from_f32(__fmul_rn(bf16_to_f32(turned), bf16_to_f32(sin)));

    return bf16_from_f32(__fadd_rn(bf16_to_f32(a), bf16_to_f32(b)));
}

/* A thread computes elements i and i + half of a head. */
static __global__ void rope_kernel(struct rope r)
{
    const uint32_t at = blockIdx.x * blockDim.x + threadIdx.x, i = at % r.half;
    const uint32_t row = at / r.half, head = row / r.tokens, token = row % r.tokens;

    if (row < r.heads * r.tokens) {
        const bf16 *x = r.x + token * r.token_step + head * r.head_step;
        const bf16 *cos = row_at(r.cos, token), *sin = row_at(r.sin, token);
        const bf16 a = x[i], b = x[i + r.half];
        bf16 *y = row_at(r.y, row);

        y[i] = rotate(a, cos[i], b ^ 0x8000, sin[i]);
        y[i + r.half] = rotate(b, cos[i + r.half], a, sin[i + r.half]);
    }
}

int cuda_rope(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *y = call->out;
    const int64_t width = y->shape[2], work = y->shape[0] * y->shape[1] * (width / 2);
    const struct rope r = {
        (const bf16 *)x->data, x->stride[0],          x->rank == 3 ? x->stride[1] : width,
        rows_of(call->in[1]),  rows_of(call->in[2]),  rows_of(y),
        (uint32_t)y->shape[1], (uint32_t)y->shape[0], (uint32_t)(width / 2)};

    if (work == 0)
        return 0;
    LAUNCH(rope_kernel, dim3(blocks_for(work, THREADS)), dim3(THREADS), 0, cuda_of(call)->stream,
           r);
    return cuda_launched();
}
