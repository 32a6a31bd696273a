/* sdpa.cu - scaled_dot_product_attention.
 *
 * The last group of a call may have fewer than four rows: it is then sdpa_few.cuh's, the groups
 * before it are sdpa_tile.cuh's. */
#include "kernels/cuda/sdpa_few.cuh"
#include "kernels/cuda/sdpa_tile.cuh"

typedef void attention_kernel(struct attention a);

static struct sdpa_rows heads_of(const struct tensor *t)
{
    return sdpa_rows{(bf16 *)t->data, t->stride[0], t->stride[1]};
}

static struct attention attention_of(const struct op_call *call)
{
    struct attention a = {};

    a.s = sdpa_of(call);
    a.s.call = NULL;
    a.q = heads_of(call->in[0]);
    a.k = heads_of(call->in[1]);
    a.v = heads_of(call->in[2]);
    a.y = sdpa_rows{(bf16 *)call->out->data, a.s.width, call->out->stride[0]};
    return a;
}

/* Indexed by how many columns of ACROSS elements cover D, less one. */
static attention_kernel *const tile_kernels[SDPA_WIDEST / ACROSS] = {
    sdpa_tile_kernel<1>, sdpa_tile_kernel<2>, sdpa_tile_kernel<3>, sdpa_tile_kernel<4>};

int cuda_sdpa(const struct op_call *call)
{
    struct attention a = attention_of(call);
    const unsigned heads = (unsigned)call->in[0]->shape[0];
    const int64_t last = a.s.tokens % a.s.group, few = last < 4 ? last : 0;
    cudaStream_t stream = cuda_of(call)->stream;

    if (tensor_count(call->out) == 0)
        return 0;
    if (a.s.tokens > few)
        LAUNCH(tile_kernels[(a.s.width - 1) / ACROSS],
               dim3(blocks_for(a.s.tokens - few, TILE_ROWS), heads), dim3(SDPA_THREADS),
               tile_bytes(a.s.width), stream, a);
    a.row = a.s.tokens - few;
    if (few)
        LAUNCH(sdpa_few_kernel, dim3((unsigned)few, heads), dim3(SDPA_THREADS), 0, stream, a);
    return cuda_launched();
}
