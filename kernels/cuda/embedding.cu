/* embedding.cu - rows of a table. */
#include "kernels/cuda/cuda_state.cuh"

enum { THREADS = 128 };

/* A block to a token; width and strides in units. */
template <typename unit>
static __global__ void embedding_kernel(const int64_t *token, const unit *table, unit *y,
                                        int64_t width, int64_t stride)
{
    const unit *from = table + token[blockIdx.x] * width;
    unit *to = y + blockIdx.x * stride;

    for (int64_t i = threadIdx.x; i < width; i += THREADS)
        to[i] = from[i];
}

/* The same, each element times `by`. */
static __global__ void scaled_kernel(const int64_t *token, const bf16 *table, bf16 *y,
                                     int64_t width, int64_t stride, float by)
{
    const bf16 *from = table + token[blockIdx.x] * width;
    bf16 *to = y + blockIdx.x * stride;

    for (int64_t i = threadIdx.x; i < width; i += THREADS)
        to[i] = bf16_from_f32(__fmul_rn(bf16_to_f32(from[i]), by));
}

static int scaled(const struct op_call *call)
{
    const struct tensor *out = call->out;

    LAUNCH(scaled_kernel, dim3((unsigned)out->shape[0]), dim3(THREADS), 0, cuda_of(call)->stream,
           (const int64_t *)call->in[0]->data, (const bf16 *)call->weight->plain.data,
           (bf16 *)out->data, out->shape[1], out->stride[0],
           bf16_to_f32(bf16_from_f32((float)call->attrs->by)));
    return cuda_launched();
}

template <typename unit> static int embedding(const struct op_call *call)
{
    const struct tensor *out = call->out;
    const int64_t elements = (int64_t)(sizeof(unit) / sizeof(bf16));

    LAUNCH(embedding_kernel<unit>, dim3((unsigned)out->shape[0]), dim3(THREADS), 0,
           cuda_of(call)->stream, (const int64_t *)call->in[0]->data,
           (const unit *)call->weight->plain.data, (unit *)out->data, out->shape[1] / elements,
           out->stride[0] / elements);
    return cuda_launched();
}

int cuda_embedding(const struct op_call *call)
{
    const struct tensor *out = call->out;
    const uintptr_t places = (uintptr_t)call->weight->plain.data | (uintptr_t)out->data;

    if (out->shape[0] == 0)
        return 0;
    if (call->attrs->by != 0)
        return scaled(call);
    if (places % 16 == 0 && out->shape[1] % 8 == 0 && out->stride[0] % 8 == 0)
        return embedding<uint4>(call);
    return embedding<uint16_t>(call);
}
