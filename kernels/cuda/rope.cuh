/* rope.cuh - rotary position embedding of one pair of elements of a head. */
#ifndef SAMEBIT_CUDA_ROPE_CUH
#define SAMEBIT_CUDA_ROPE_CUH

#include "kernels/cuda/rows.cuh"

struct rope {
    const bf16 *x;
    int64_t token_step, head_step; /* of x, in elements */
    struct rows cos, sin, y;       /* y: head * tokens + token */
    uint32_t tokens, heads, half;
};

static inline struct rope rope_of(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *y = call->out;
    const int64_t width = y->shape[2];

    return rope{(const bf16 *)x->data, x->stride[0],          x->rank == 3 ? x->stride[1] : width,
                rows_of(call->in[1]),  rows_of(call->in[2]),  rows_of(y),
                (uint32_t)y->shape[1], (uint32_t)y->shape[0], (uint32_t)(width / 2)};
}

/* Returns how many pairs there are. */
static inline __host__ __device__ uint32_t rope_work(const struct rope &r)
{
    return r.heads * r.tokens * r.half;
}

static __forceinline__ __device__ bf16 rotate(bf16 x, bf16 cos, bf16 turned, bf16 sin)
{
    const bf16 a = bf16_from_f32(__fmul_rn(bf16_to_f32(x), bf16_to_f32(cos)));
    const bf16 b = bf16_from_f32(__fmul_rn(bf16_to_f32(turned), bf16_to_f32(sin)));

    return bf16_from_f32(__fadd_rn(bf16_to_f32(a), bf16_to_f32(b)));
}

/* Writes elements i and i + half of a row of y.  at: row * half + i, less than rope_work. */
static __forceinline__ __device__ void rope_pair(const struct rope &r, uint32_t at)
{
    const uint32_t i = at % r.half, row = at / r.half;
    const uint32_t head = row / r.tokens, token = row % r.tokens;
    const bf16 *x = r.x + token * r.token_step + head * r.head_step;
    const bf16 *cos = row_at(r.cos, token), *sin = row_at(r.sin, token);
    const bf16 a = x[i], b = x[i + r.half];
    bf16 *y = row_at(r.y, row);

    y[i] = rotate(a, cos[i], b ^ 0x8000, sin[i]);
    y[i + r.half] = rotate(b, cos[i + r.half], a, sin[i + r.half]);
}

#endif
