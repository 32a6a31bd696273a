/* group.cu - several operations as one launch; what no launch is for is done one after the other.
 * backend.h has the contracts.  A call of the model runs alone here: parts is 1. */
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/products_group.cuh"
#include "kernels/cuda/rope.cuh"

static int one_by_one(const struct op_call *call, int steps)
{
    for (int s = 0; s < steps; s++)
        if (call[s].backend->op[call[s].op](&call[s]))
            return -1;
    return 0;
}

/* ---- linears ---- */

/* Whether two of few rows can share a block: the same rows, the same chains. */
static int goes_with(const struct matmul *a, const struct matmul *b)
{
    return a->rows == b->rows && a->K == b->K && a->block == b->block;
}

int cuda_group_linears(const struct op_call *call, int steps, int parts)
{
    struct linears l = {};
    int blocks = 0;

    if (parts != 1)
        return -1;
    if (steps > LINEARS_MOST)
        return one_by_one(call, steps);
    for (; l.count < steps; l.count++) {
        struct matmul *p = &l.p[l.count];

        if (call[l.count].op != OP_linear || !linear_is_few(&call[l.count], p) ||
            !goes_with(&l.p[0], p))
            return one_by_one(call, steps);
        l.first[l.count] = blocks;
        blocks += (int)blocks_for(p->N, WARP);
    }
    few_linears_launch(&l, blocks, cuda_of(call)->stream);
    return cuda_launched();
}

/* Rows of a tensor of rank 2. */
static struct matrix matrix_of(const struct tensor *t)
{
    return matrix{(bf16 *)t->data, 0, 0, t->stride[0]};
}

/* Whether a call is that operation, from rows to rows. */
static int is_plain(const struct op_call *call, enum op op)
{
    return call->op == op && call->in[0]->rank == 2 && call->out->rank == 2;
}

int cuda_group_linear_add(const struct op_call *call, int steps, int parts)
{
    const struct op_call *add = &call[1];
    struct matrix m;
    struct matmul p;

    if (parts != 1)
        return -1;
    if (!is_plain(call, OP_linear) || !is_plain(add, OP_add) || !linear_is_few(call, &p))
        return one_by_one(call, steps);
    p.y = matrix_of(add->out);
    m = matrix_of(add->in[add->in[0] == call->out]);
    few_add_launch(&p, &m, cuda_of(call)->stream);
    return cuda_launched();
}

int cuda_group_gated(const struct op_call *call, int steps, int parts)
{
    const struct op_call *product = &call[3];
    struct gated g;

    if (parts != 1)
        return -1;
    if (!is_plain(&call[0], OP_linear) || !is_plain(&call[1], OP_linear) ||
        !is_plain(&call[2], OP_silu) || !is_plain(product, OP_mul) ||
        !linear_is_few(&call[0], &g.p[0]) || !linear_is_few(&call[1], &g.p[1]) ||
        !goes_with(&g.p[0], &g.p[1]) || g.p[0].N != g.p[1].N)
        return one_by_one(call, steps);
    g.p[0].y = matrix_of(product->out);
    few_gated_launch(&g, cuda_of(call)->stream);
    return cuda_launched();
}

/* ---- heads turned and appended to the cache ---- */

enum { THREADS = 128, ROPE_APPEND = 4 /* steps */, FEW_TOKENS = 32 };

/* The last rows of a cache, of [heads, tokens, width]. */
struct tail {
    bf16 *data; /* of the first new row of head 0 */
    int64_t head, token;
};

struct rope_append {
    struct rope q, k;
    const bf16 *v;
    int64_t v_head, v_token; /* strides */
    struct tail keys, values;
    uint32_t width, v_work; /* elements of a head; of v */
};

static struct tail tail_of(const struct op_call *append, int64_t tokens)
{
    const struct tensor *cache = append->out;

    return tail{(bf16 *)cache->data + (cache->shape[1] - tokens) * cache->stride[1],
                cache->stride[0], cache->stride[1]};
}

static __forceinline__ __device__ bf16 *tail_row(const struct tail &t, uint32_t head,
                                                 uint32_t token)
{
    return t.data + head * t.head + token * t.token;
}

/* A thread has a pair of q, or a pair of k, which it writes into the cache too, or an element of v. */
static __global__ void rope_append_kernel(struct rope_append a)
{
    const uint32_t q_work = rope_work(a.q), k_work = rope_work(a.k), tokens = a.k.tokens;
    uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;

    if (at < q_work) {
        rope_pair(a.q, at);
        return;
    }
    at -= q_work;
    if (at < k_work) {
        const uint32_t row = at / a.k.half;
        const uint2 of = rope_elements(a.k, at % a.k.half);
        const bf16 *y = row_at(a.k.y, row);
        bf16 *to = tail_row(a.keys, row / tokens, row % tokens);

        rope_pair(a.k, at);
        to[of.x] = y[of.x];
        to[of.y] = y[of.y];
        return;
    }
    at -= k_work;
    if (at < a.v_work) {
        const uint32_t row = at / a.width, i = at % a.width;
        const uint32_t head = row / tokens, token = row % tokens;

        tail_row(a.values, head, token)[i] = a.v[head * a.v_head + token * a.v_token + i];
    }
}

/* Whether the steps are rope of q, rope of k, that one appended, and v appended, of few tokens. */
static int is_rope_append(const struct op_call *call, int left)
{
    return left >= ROPE_APPEND && call[0].op == OP_rope && call[1].op == OP_rope &&
           call[2].op == OP_cache_append && call[3].op == OP_cache_append &&
           call[2].in[0] == call[1].out && call[3].in[0]->rank == 2 &&
           call[1].out->shape[1] == call[0].out->shape[1] &&
           call[3].in[0]->shape[0] == call[1].out->shape[1] &&
           call[1].out->shape[1] <= FEW_TOKENS && call[3].out->shape[2] == call[1].out->shape[2];
}

static int launch_rope_append(const struct op_call *call)
{
    const struct tensor *v = call[3].in[0];
    const int64_t tokens = v->shape[0], width = call[3].out->shape[2];
    struct rope_append a = {rope_of(&call[0]),
                            rope_of(&call[1]),
                            (const bf16 *)v->data,
                            width,
                            v->stride[0],
                            tail_of(&call[2], tokens),
                            tail_of(&call[3], tokens),
                            (uint32_t)width,
                            (uint32_t)tensor_count(v)};
    const uint32_t work = rope_work(a.q) + rope_work(a.k) + a.v_work;

    if (work == 0)
        return 0;
    LAUNCH(rope_append_kernel, dim3(blocks_for(work, THREADS)), dim3(THREADS), 0,
           cuda_of(call)->stream, a);
    return cuda_launched();
}

int cuda_group_each(const struct op_call *call, int steps, int parts)
{
    if (parts != 1)
        return -1;
    for (int s = 0; s < steps;) {
        const int grouped = is_rope_append(&call[s], steps - s) ? ROPE_APPEND : 1;

        if (grouped > 1 ? launch_rope_append(&call[s]) : one_by_one(&call[s], 1))
            return -1;
        s += grouped;
    }
    return 0;
}
