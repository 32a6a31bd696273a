/* cache.cu - appends this call's keys or values to the cache. */
#include "kernels/cuda/cuda_state.cuh"

enum { THREADS = 256 };

/* Both tensors are [heads, tokens, width]; width and strides are in units. */
struct append_shape {
    int64_t tokens, width, from_head, from_token, to_head, to_token;
};

/* blockIdx.y: head. */
template <typename unit>
static __global__ void append_kernel(const unit *from, unit *to, struct append_shape a)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;

    if (i < a.tokens * a.width) {
        const int64_t t = i / a.width, d = i % a.width;

        to[blockIdx.y * a.to_head + t * a.to_token + d] =
            from[blockIdx.y * a.from_head + t * a.from_token + d];
    }
}

template <typename unit>
static int append(const struct op_call *call, const bf16 *from, bf16 *to, struct append_shape a)
{
    const int64_t elements = (int64_t)(sizeof(unit) / sizeof(bf16));

    a.width /= elements;
    a.from_head /= elements;
    a.from_token /= elements;
    a.to_head /= elements;
    a.to_token /= elements;
    LAUNCH(append_kernel<unit>,
           dim3((unsigned)((a.tokens * a.width + THREADS - 1) / THREADS),
                (unsigned)call->out->shape[0]),
           dim3(THREADS), 0, cuda_of(call)->stream, (const unit *)from, (unit *)to, a);
    return cuda_launched();
}

int cuda_cache_append(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *out = call->out;
    const int heads_first = x->rank == 3;
    const int64_t tokens = x->shape[heads_first ? 1 : 0], width = out->shape[2];
    const struct append_shape a = {tokens,
                                   width,
                                   heads_first ? x->stride[0] : width,
                                   x->stride[heads_first ? 1 : 0],
                                   out->stride[0],
                                   out->stride[1]};
    const bf16 *from = (const bf16 *)x->data;
    bf16 *to = (bf16 *)out->data + (out->shape[1] - tokens) * out->stride[1];
    const int64_t steps = width | a.from_head | a.from_token | a.to_head | a.to_token;

    if (tokens == 0)
        return 0;
    if (steps % 8 == 0 && ((uintptr_t)from | (uintptr_t)to) % 16 == 0)
        return append<uint4>(call, from, to, a);
    return append<uint16_t>(call, from, to, a);
}
