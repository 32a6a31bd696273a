/* attention.cu - scores and the weighted sum of values, by cuBLAS, on PyTorch's copies. */
#include "kernels/cuda/aten/aten.cuh"

#include "kernels/cuda/aten/copies.h"

enum { THREADS = 256 };

/* ---- copies ---- */

/* Where the rows of heads lie: element i of row r of head h is at [h * head + r * row + i]. */
struct heads {
    bf16 *data;
    int64_t head, row;
};

/* Head h of `to` is head h / shared of `from`. */
static __global__ void copy_heads_kernel(struct heads from, struct heads to, int64_t rows,
                                         int64_t width, int64_t shared)
{
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, h = blockIdx.y;

    if (at < rows * width)
        to.data[h * to.head + at / width * to.row + at % width] =
            from.data[h / shared * from.head + at / width * from.row + at % width];
}

static int copy_heads(const struct op_call *call, struct heads from, struct heads to, int64_t heads,
                      int64_t rows, int64_t width, int64_t shared)
{
    LAUNCH(copy_heads_kernel, dim3(aten_blocks(rows * width, THREADS), (unsigned)heads),
           dim3(THREADS), 0, cuda_of(call)->stream, from, to, rows, width, shared);
    return cuda_launched();
}

static struct heads heads_of(const struct tensor *t)
{
    return {(bf16 *)t->data, t->stride[0], t->stride[1]};
}

static struct heads heads_packed(void *data, int64_t rows, int64_t width)
{
    return {(bf16 *)data, rows * width, width};
}

/* ---- the two products ---- */

struct aten_attention {
    int64_t heads, batch; /* H; matrices: scope.batch * H */
    int64_t shared;       /* query heads of one key head */
    int64_t T, L, D;
};

static struct aten_attention attention_of(const struct op_call *call, int64_t head_width)
{
    const struct tensor *x = call->in[0], *keys = call->in[1];
    struct aten_attention a = {x->shape[0],    0,         x->shape[0] / keys->shape[0], x->shape[1],
                               keys->shape[1], head_width};

    a.batch = aten_batch(call) * a.heads;
    return a;
}

/* Returns whether keys or values must be copied: where heads are repeated (repeat_kv), or where the
 * cache has unused positions between heads, which PyTorch's has not. */
static int is_copied(const struct op_call *call, const struct aten_attention *a)
{
    const struct tensor *keys = call->in[1];

    return a->shared > 1 || a->batch != a->heads || keys->stride[1] != a->D ||
           keys->stride[0] != a->L * a->D;
}

static size_t matrices(const struct aten_attention *a, int64_t rows, int64_t width)
{
    return (size_t)(a->batch * rows * width) * sizeof(bf16);
}

static int is_possible(const struct op_call *call, const struct aten_attention *a)
{
    return tensor_is_contiguous(call->in[0]) && tensor_is_contiguous(call->out) &&
           a->T * a->heads * a->D <= INT32_MAX && a->L <= INT32_MAX && a->batch <= UINT16_MAX;
}

/* Returns the keys or values of all matrices, copied to scratch if they must be. */
static const bf16 *keys_of(const struct op_call *call, const struct aten_attention *a,
                           void *scratch)
{
    if (!is_copied(call, a))
        return (const bf16 *)call->in[1]->data;
    if (copy_heads(call, heads_of(call->in[1]), heads_packed(scratch, a->L, a->D), a->heads, a->L,
                   a->D, a->shared))
        return NULL;
    return (const bf16 *)scratch;
}

/* ---- scores ---- */

struct copies matmul_qk_copies(const struct op_call *call)
{
    const struct aten_attention a = attention_of(call, call->in[0]->shape[2]);
    struct copies copies = {0, 0, 0};

    if (is_copied(call, &a))
        copies.a = matrices(&a, a.L, a.D);
    if (a.batch != a.heads || a.T > 1)
        copies.b = matrices(&a, a.T, a.D);
    if (a.batch != a.heads)
        copies.c = matrices(&a, a.T, a.L);
    return copies;
}

/* PyTorch's queries: [T, H, D] in memory, in a batch [H, T, D]. */
static int place_queries(const struct op_call *call, const struct aten_attention *a, void *scratch,
                         struct gemm *g)
{
    struct heads q = heads_packed(call->in[0]->data, a->T, a->D);
    const struct heads from = q;

    if (a->batch != a->heads || a->T > 1)
        q = a->batch != a->heads ? heads_packed(scratch, a->T, a->D)
                                 : heads{(bf16 *)scratch, a->D, a->heads * a->D};
    g->b = q.data;
    g->ldb = (int)q.row;
    g->stride_b = q.head;
    return q.data == from.data ? 0 : copy_heads(call, from, q, a->heads, a->T, a->D, 1);
}

static int matmul_qk_run(const struct op_call *call, const struct aten_attention *a)
{
    const struct copies copies = matmul_qk_copies(call);
    char *scratch = (char *)blas_scratch(cuda_of(call)->blas, copies_end(&copies));
    struct gemm g = {};

    if (!scratch)
        return -1;
    g.transpose_a = 1;
    g.m = (int)a->L;
    g.n = (int)a->T;
    g.k = (int)a->D;
    g.a = keys_of(call, a, scratch);
    g.lda = (int)a->D;
    g.stride_a = a->L * a->D;
    g.c = (bf16 *)(copies.c ? copies_c(&copies, scratch) : call->out->data);
    g.ldc = (int)a->L;
    g.stride_c = a->T * a->L;
    g.batch = (int)a->batch;
    if (!g.a || place_queries(call, a, copies_b(&copies, scratch), &g) ||
        blas_gemm_batched(cuda_of(call)->blas, &g))
        return -1;
    return !copies.c
               ? 0
               : copy_heads(call, heads_packed(g.c, a->T, a->L),
                            heads_packed(call->out->data, a->T, a->L), a->heads, a->T, a->L, 1);
}

/* ---- the weighted sum ---- */

struct copies matmul_pv_copies(const struct op_call *call)
{
    const struct aten_attention a = attention_of(call, call->in[1]->shape[2]);
    struct copies copies = {0, 0, 0};

    if (is_copied(call, &a))
        copies.a = matrices(&a, a.L, a.D);
    if (a.batch != a.heads)
        copies.b = matrices(&a, a.T, a.L);
    if (a.batch != a.heads || a.T > 1)
        copies.c = matrices(&a, a.T, a.D);
    return copies;
}

static int matmul_pv_run(const struct op_call *call, const struct aten_attention *a)
{
    const struct copies copies = matmul_pv_copies(call);
    char *scratch = (char *)blas_scratch(cuda_of(call)->blas, copies_end(&copies));
    struct gemm g = {};

    if (!scratch)
        return -1;
    g.m = (int)a->D;
    g.n = (int)a->T;
    g.k = (int)a->L;
    g.a = keys_of(call, a, scratch);
    g.lda = (int)a->D;
    g.stride_a = a->L * a->D;
    g.b = (const bf16 *)(copies.b ? copies_b(&copies, scratch) : call->in[0]->data);
    g.ldb = (int)a->L;
    g.stride_b = a->T * a->L;
    g.c = (bf16 *)(copies.c ? copies_c(&copies, scratch) : call->out->data);
    g.ldc = (int)a->D;
    g.stride_c = a->T * a->D;
    g.batch = (int)a->batch;
    if (!g.a ||
        (copies.b && copy_heads(call, heads_packed(call->in[0]->data, a->T, a->L),
                                heads_packed((void *)g.b, a->T, a->L), a->heads, a->T, a->L, 1)) ||
        blas_gemm_batched(cuda_of(call)->blas, &g))
        return -1;
    return !copies.c ? 0
                     : copy_heads(call, heads_packed(g.c, a->T, a->D),
                                  heads{(bf16 *)call->out->data, a->D, a->heads * a->D}, a->heads,
                                  a->T, a->D, 1);
}

/* ---- */

typedef int product_fn(const struct op_call *call, const struct aten_attention *a);

static int run(const struct op_call *call, int64_t head_width, product_fn *product)
{
    const struct aten_attention a = attention_of(call, head_width);
    int status;

    if (!tensor_count(call->out))
        return 0;
    if (!is_possible(call, &a))
        return -1;
    blas_lock(cuda_of(call)->blas);
    status = product(call, &a);
    blas_unlock(cuda_of(call)->blas);
    return status;
}

int aten_matmul_qk(const struct op_call *call)
{
    return run(call, call->in[0]->shape[2], matmul_qk_run);
}

int aten_matmul_pv(const struct op_call *call)
{
    return run(call, call->in[1]->shape[2], matmul_pv_run);
}
