/* rope.cuh - rotary position embedding of one pair of elements of a head. */
#ifndef SAMEBIT_CUDA_ROPE_CUH
#define SAMEBIT_CUDA_ROPE_CUH

#include "kernels/cuda/rows.cuh"

struct rope {
    const bf16 *x;
    int64_t token_step, head_step; /* of x, in elements */
    struct rows cos, sin, y;       /* y: head * tokens + token */
    uint32_t tokens, heads, half;
    uint32_t turned; /* pairs that are turned; the others are copied */
    enum rope_pairs pairs, table;
    enum rope_apply apply;
};

static inline struct rope rope_of(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *y = call->out;
    const int64_t width = y->shape[2];

    return rope{(const bf16 *)x->data,
                x->stride[0],
                x->rank == 3 ? x->stride[1] : width,
                rows_of(call->in[1]),
                rows_of(call->in[2]),
                rows_of(y),
                (uint32_t)y->shape[1],
                (uint32_t)y->shape[0],
                (uint32_t)(width / 2),
                (uint32_t)(call->attrs->still ? 0 : call->in[1]->shape[1] / 2),
                call->attrs->pairs,
                call->attrs->table,
                call->attrs->apply};
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

static __forceinline__ __device__ bf16 rotate_f32(bf16 x, bf16 cos, bf16 turned, bf16 sin)
{
    return bf16_from_f32(__fadd_rn(__fmul_rn(bf16_to_f32(x), bf16_to_f32(cos)),
                                   __fmul_rn(bf16_to_f32(turned), bf16_to_f32(sin))));
}

/* Which elements of a head pair i is: those behind the pairs that are turned go two by two. */
static __forceinline__ __device__ uint2 rope_elements(const struct rope &r, uint32_t i)
{
    if (i >= r.turned || r.pairs == ROPE_NEIGHBOURS)
        return make_uint2(2 * i, 2 * i + 1);
    return make_uint2(i, i + r.turned);
}

/* Writes a pair of a row of y.  at: row * half + i, less than rope_work. */
static __forceinline__ __device__ void rope_pair(const struct rope &r, uint32_t at)
{
    const uint32_t i = at % r.half, row = at / r.half;
    const uint32_t head = row / r.tokens, token = row % r.tokens;
    const bf16 *x = r.x + token * r.token_step + head * r.head_step;
    const bf16 *cos = row_at(r.cos, token), *sin = row_at(r.sin, token);
    const uint2 of = rope_elements(r, i);
    const uint32_t first = r.table == ROPE_NEIGHBOURS ? 2 * i : i;
    const uint32_t second = r.table == ROPE_NEIGHBOURS   ? first + 1
                            : r.pairs == ROPE_NEIGHBOURS ? first
                                                         : first + r.turned;
    const bf16 a = x[of.x], b = x[of.y];
    bf16 *y = row_at(r.y, row);

    if (i >= r.turned) {
        y[of.x] = a;
        y[of.y] = b;
    } else if (r.apply == ROPE_F32) {
        y[of.x] = rotate_f32(a, cos[first], b ^ 0x8000, sin[first]);
        y[of.y] = rotate_f32(b, cos[second], a, sin[second]);
    } else {
        y[of.x] = rotate(a, cos[first], b ^ 0x8000, sin[first]);
        y[of.y] = rotate(b, cos[second], a, sin[second]);
    }
}

#endif
