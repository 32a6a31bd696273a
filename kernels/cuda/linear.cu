/* linear.cu - activations times a weight, and how the weight is packed. */
#include "kernels/cuda/linear.cuh"

#include "kernels/cuda/products_few.cuh"
#include "kernels/cuda/products_lanes.cuh"
#include "kernels/cuda/products_tile.cuh"

/* ---- packing ---- */

enum { PACK_THREADS = 256, PACK_PAIRS = 4 /* of a thread at a time */ };

static size_t panels_count(const struct tensor *plain)
{
    return blocks_for(plain->shape[0], PANEL);
}

static size_t panels_words(const struct tensor *plain)
{
    return panels_count(plain) * PANEL * (size_t)product_pairs_padded((int)plain->shape[1]);
}

size_t cuda_pack_linear_bytes(const struct tensor *plain)
{
    return panels_words(plain) * sizeof(uint32_t) + panels_count(plain) * sizeof(int);
}

/* Returns the exponent of an element as bf16 stores it: 0 for a denormal, a large one for zero. */
static __forceinline__ __device__ int exponent_of(bf16 b)
{
    return b & NUMBER_WITHOUT_SIGN ? b >> 7 & 0xff : 0xff;
}

static __forceinline__ __device__ int lesser(int a, int b)
{
    return a < b ? a : b;
}

/* Returns, in every thread, the smallest of all threads' values. */
static __device__ int block_least(int least)
{
    __shared__ int of_warp[PACK_THREADS / WARP];

    for (int d = WARP / 2; d; d /= 2)
        least = lesser(least, __shfl_xor_sync(WHOLE_WARP, least, d));
    if (threadIdx.x % WARP == 0)
        of_warp[threadIdx.x / WARP] = least;
    __syncthreads();
    for (int w = 0; w < PACK_THREADS / WARP; w++)
        least = lesser(least, of_warp[w]);
    return least;
}

/* A block packs one panel; a thread packs 4 pairs of one column, then the 4 that are 16 pairs further
 * on, and so on. */
static __global__ void pack_kernel(const bf16 *plain, int N, int K, uint32_t *packed, int *x_least)
{
    const int c = (int)threadIdx.x % PANEL, n = (int)blockIdx.x * PANEL + c;
    const int pairs = product_pairs_padded(K), step = PACK_THREADS / PANEL * PACK_PAIRS;
    uint32_t *panel = packed + (int64_t)blockIdx.x * pairs * PANEL + c;
    int least = 0xff;

    for (int p = (int)threadIdx.x / PANEL * PACK_PAIRS; p < pairs; p += step) {
        const union bf16_part part =
            n < N ? bf16_read<VECTOR>(plain + (int64_t)n * K + 2 * p, K - 2 * p) : bf16_part{};

#pragma unroll
        for (int i = 0; i < PACK_PAIRS; i++) {
            panel[(int64_t)(p + i) * PANEL] = part.pair[i];
            least = lesser(least, lesser(exponent_of((bf16)part.pair[i]),
                                         exponent_of((bf16)(part.pair[i] >> 16))));
        }
    }
    least = block_least(least);
    if (threadIdx.x == 0)
        x_least[blockIdx.x] = least ? LEAST_BOTH - least : LEAST_NEVER;
}

int cuda_pack_linear(const struct cuda *cuda, const struct tensor *plain, void *packed)
{
    uint32_t *panels = (uint32_t *)packed;

    if (tensor_count(plain) == 0)
        return 0;
    LAUNCH(pack_kernel, dim3((unsigned)panels_count(plain)), dim3(PACK_THREADS), 0, cuda->stream,
           (const bf16 *)plain->data, (int)plain->shape[0], (int)plain->shape[1], panels,
           (int *)(panels + panels_words(plain)));
    return cuda_launched();
}

/* ---- the operation ---- */

enum { LINEAR_FEW = 8 /* rows up to which memory is the bound */ };

static struct matrix linear_rows(const struct tensor *t)
{
    const int64_t width = rows_width(t);

    if (t->rank < 2 || tensor_is_contiguous(t))
        return matrix{(bf16 *)t->data, 0, t->rank < 3 ? 0 : t->shape[t->rank - 2] * width, width};
    return matrix{(bf16 *)t->data, 0, t->rank < 3 ? 0 : t->stride[0], t->stride[t->rank - 2]};
}

static struct matmul linear_of(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *x = call->in[0], *plain = &call->weight->plain;
    struct matmul p = {};

    p.x = linear_rows(x);
    p.y = linear_rows(call->out);
    p.w = call->weight->packed;
    p.panel_least = (const int *)((const uint32_t *)p.w + panels_words(plain));
    p.bias = call->bias ? (const bf16 *)call->bias->plain.data : NULL;
    p.rows = (int)rows_count(x);
    p.tokens = x->rank > 2 ? (int)x->shape[x->rank - 2] : p.rows;
    p.N = (int)plain->shape[0];
    p.K = (int)plain->shape[1];
    p.block = (int)rule->block;
    return p;
}

int linear_is_few(const struct op_call *call, struct matmul *p)
{
    const struct product_rule rule = product_rule_of_linear(call);

    *p = linear_of(call, &rule);
    return rule.kind == PRODUCT_PAIRS && p->rows > 0 && p->rows <= LINEAR_FEW &&
           call->in[0]->rank <= 3;
}

int cuda_linear(const struct op_call *call)
{
    const struct product_rule rule = product_rule_of_linear(call);
    const struct tensor *x = call->in[0], *y = call->out;
    const struct matmul p = linear_of(call, &rule);
    cudaStream_t stream = cuda_of(call)->stream;

    if (x->rank > 3 && !(tensor_is_contiguous(x) && tensor_is_contiguous(y)))
        return -1;
    if (tensor_count(y) == 0)
        return 0;
    switch (rule.kind) {
    case PRODUCT_DOT8:
        dot8_launch<PANELS>(&p, 1, stream);
        return cuda_launched();
    case PRODUCT_PAIRS:
        if (p.rows <= LINEAR_FEW)
            few_launch<PANELS>(&p, 1, stream);
        else
            tile_launch<PANELS>(&p, 1, stream);
        return cuda_launched();
    default: /* no numerics of a GPU has these here */
        break;
    }
    return -1;
}
