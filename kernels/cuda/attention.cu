/* attention.cu - scores, mask and the weighted sum of values.
 *
 * The query heads that share a key head are rows of one product: row h * T + t. */
#include "kernels/cuda/products_few.cuh"
#include "kernels/cuda/products_lanes.cuh"
#include "kernels/cuda/products_tile.cuh"

/* ---- products ---- */

enum {
    HEADS_FEW = 32, /* rows up to which the blocks of keys are spread over warps */
    /* Exponents (as stored) below which plain chains are not taken, see products.cuh.  Queries and
     * keys: 2^-56 both.  Weights of a softmax are smaller and values are not: 2^-82 and 2^-30. */
    QUERY_LEAST = 71,
    WEIGHT_LEAST = 45
};

/* Returns the product of x [H, T, K] and w [G, ., .], whose axis 1 may have any stride; y is not set. */
static struct matmul heads_product(const struct op_call *call, int x_least)
{
    const struct tensor *x = call->in[0], *w = call->in[1];
    const int64_t shared = x->shape[0] / w->shape[0];
    struct matmul p = {};

    p.x = matrix{(bf16 *)x->data, shared * x->stride[0], x->stride[0], x->stride[1]};
    p.w = w->data;
    p.w_head = w->stride[0];
    p.w_step = w->stride[1];
    p.x_least = x_least;
    p.w_least = LEAST_BOTH - x_least;
    p.tokens = (int)x->shape[1];
    p.rows = (int)shared * p.tokens;
    return p;
}

int cuda_matmul_qk(const struct op_call *call)
{
    const struct tensor *k = call->in[1], *y = call->out;
    const struct product_rule rule = product_rule_of_qk(call);
    const int heads = (int)k->shape[0];
    cudaStream_t stream = cuda_of(call)->stream;
    struct matmul p;

    if (tensor_count(y) == 0)
        return 0;
    p = heads_product(call, QUERY_LEAST);
    p.y = matrix{(bf16 *)y->data, y->shape[0] / heads * y->stride[0], y->stride[0], y->stride[1]};
    p.N = (int)k->shape[1];
    p.K = (int)k->shape[2];
    p.block = (int)rule.block;
    switch (rule.kind) {
    case PRODUCT_PAIRS:
        tile_launch<KEYS>(&p, heads, stream);
        return cuda_launched();
    case PRODUCT_DOT8:
        dot8_launch<KEYS>(&p, heads, stream);
        return cuda_launched();
    case PRODUCT_CHAIN:
        chain_launch<KEYS>(&p, heads, stream);
        return cuda_launched();
    default: /* no numerics of a GPU has these here */
        break;
    }
    return -1;
}

int cuda_matmul_pv(const struct op_call *call)
{
    const struct tensor *v = call->in[1], *y = call->out;
    const struct product_rule rule = product_rule_of_pv(call);
    const int heads = (int)v->shape[0];
    cudaStream_t stream = cuda_of(call)->stream;
    struct matmul p;

    if (tensor_count(y) == 0)
        return 0;
    p = heads_product(call, WEIGHT_LEAST);
    p.N = (int)v->shape[2];
    p.K = (int)v->shape[1];
    p.y = matrix{(bf16 *)y->data, call->in[0]->shape[0] / heads * p.N, p.N, y->stride[0]};
    p.block = (int)rule.block;
    switch (rule.kind) {
    case PRODUCT_FOUR:
        four_launch(&p, heads, stream);
        return cuda_launched();
    case PRODUCT_CHAIN:
        chain_launch<VALUES>(&p, heads, stream);
        return cuda_launched();
    case PRODUCT_PAIRS:
        if (p.rows <= HEADS_FEW)
            few_launch<VALUES>(&p, heads, stream);
        else
            tile_launch<VALUES>(&p, heads, stream);
        return cuda_launched();
    default: /* no numerics of a GPU has these here */
        break;
    }
    return -1;
}

/* ---- the mask ---- */

enum { MASK_THREADS = 256 };

struct mask {
    struct rows x, y;
    int tokens, keys;
    int before;  /* keys before the first query's own */
    int window;  /* 0: none */
    int padding; /* the first keys that no query sees */
};

/* A block computes row blockIdx.x, which is head * tokens + token; its threads share the keys. */
static __global__ void causal_mask_kernel(struct mask m)
{
    const bf16 *x = row_at(m.x, blockIdx.x);
    bf16 *y = row_at(m.y, blockIdx.x);
    const int own = m.before + (int)(blockIdx.x % (unsigned)m.tokens);
    const int first = m.window ? own + 1 - m.window : 0,
              from = m.padding > first ? m.padding : first;

    for (int j = (int)threadIdx.x; j < m.keys; j += (int)blockDim.x) {
        const float value = j >= from && j <= own ? 0.0f : bf16_to_f32(0xff7f);

        y[j] = bf16_from_f32(__fadd_rn(bf16_to_f32(x[j]), value));
    }
}

int cuda_causal_mask(const struct op_call *call)
{
    const struct tensor *y = call->out;
    const int64_t tokens = y->shape[1], keys = y->shape[2];
    const struct mask m = {rows_of(call->in[0]),
                           rows_of(y),
                           (int)tokens,
                           (int)keys,
                           (int)(keys - tokens),
                           (int)call->attrs->window,
                           (int)(call->scope.padding - (call->scope.past + tokens - keys))};
    const unsigned warps = blocks_for(keys, WARP), most = MASK_THREADS / WARP;

    if (tensor_count(y) == 0)
        return 0;
    LAUNCH(causal_mask_kernel, dim3(rows_count(y)), dim3(WARP * (warps < most ? warps : most)), 0,
           cuda_of(call)->stream, m);
    return cuda_launched();
}
