/* products_few.cuh - PAIRS of few rows (decode): a warp computes chains of 32 columns, a thread one
 * column of up to 4 rows; the warps of a block have different blocks of k, whose sums are added in
 * order.
 *
 * Bound by the bandwidth of memory: an element of w is read once for 4 rows, 128 bytes a warp and
 * load, 64 pairs ahead of the chain (8 KiB a warp in flight) in groups that take turns.  A chain of
 * 512 lasts 512 dependent fused multiply-adds (2048 cycles) at least, which is why blocks of k are
 * spread over warps, and why a block has no more than 32 columns: many are in flight.  More rows
 * are more blocks, next to one another, so that w comes from the cache for all but one. */
#ifndef SAMEBIT_CUDA_PRODUCTS_FEW_CUH
#define SAMEBIT_CUDA_PRODUCTS_FEW_CUH

#include "kernels/cuda/products.cuh"

enum {
    FEW_WARPS = 8,  /* of a block, at most */
    FEW_GROUPS = 4, /* of pairs, in flight */
    FEW_X = 512     /* elements of x that a warp keeps as f32 */
};

/* Pairs of a group: those of VALUES are two loads each. */
static inline __host__ __device__ constexpr int few_pairs(enum layout layout)
{
    return layout == PANELS ? PANEL_GROUP : PANEL_GROUP / 2;
}

template <int ROWS> struct few_memory {
    __align__(16) float x[FEW_WARPS][ROWS][FEW_X / ROWS];
    float sum[FEW_WARPS][ROWS][WARP];
    float total[ROWS][WARP];
};

/* A group of pairs as it was loaded; of PANELS `low` has both elements of a pair. */
template <enum layout LAYOUT> struct few_group {
    uint32_t low[few_pairs(LAYOUT)], high[LAYOUT == PANELS ? 1 : few_pairs(LAYOUT)];
};

/* A column of w. */
struct few_column {
    const void *w; /* its element of k = 0; NULL: beyond the last column */
    int64_t step;  /* elements (PANELS: pairs) from one k (pair) to the next */
};

template <enum layout LAYOUT>
static __forceinline__ __device__ struct few_column few_column_of(const struct matmul &p, int head,
                                                                  int n)
{
    if (LAYOUT == PANELS)
        return few_column{(const uint32_t *)p.w +
                              (int64_t)(n / PANEL) * product_pairs_padded(p.K) * PANEL + n % PANEL,
                          PANEL};
    return few_column{n < p.N ? (const bf16 *)p.w + head * p.w_head + n : NULL, p.w_step};
}

/* Loads the group that begins at k, if that is before `end`. */
template <enum layout LAYOUT>
static __forceinline__ __device__ void few_load(struct few_group<LAYOUT> *g,
                                                const struct few_column &c, int k, int end)
{
    if (k >= end)
        return;
    if constexpr (LAYOUT == PANELS) {
        const uint32_t *pair = (const uint32_t *)c.w + k / 2 * c.step;

#pragma unroll
        for (int i = 0; i < few_pairs(LAYOUT); i++)
            g->low[i] = pair[i * c.step];
    } else {
#pragma unroll
        for (int i = 0; i < few_pairs(LAYOUT); i++) {
            const bf16 *w = (const bf16 *)c.w + (k + 2 * i) * c.step;

            g->low[i] = c.w && k + 2 * i < end ? w[0] : 0;
            g->high[i] = c.w && k + 2 * i + 1 < end ? w[c.step] : 0;
        }
    }
}

template <enum layout LAYOUT>
static __forceinline__ __device__ uint32_t few_pair(const struct few_group<LAYOUT> &g, int i)
{
    if constexpr (LAYOUT == PANELS)
        return g.low[i];
    else
        return g.low[i] | g.high[i] << 16;
}

/* Returns whether an element of a group is too small for plain chains.  For PANELS that is known from
 * x_least. */
template <enum layout LAYOUT>
static __forceinline__ __device__ bool few_below(const struct few_group<LAYOUT> &g, int least)
{
    bool below = false;

    if constexpr (LAYOUT != PANELS) {
#pragma unroll
        for (int i = 0; i < few_pairs(LAYOUT); i++)
            below = below || is_below((bf16)g.low[i], least) || is_below((bf16)g.high[i], least);
    }
    return below;
}

/* Loads elements from k on of the block's rows, as f32, zero beyond `end`; returns whether one is too
 * small for plain chains.  All lanes of the warp call it. */
template <int ROWS>
static __forceinline__ __device__ bool few_widen(const struct matmul &p, int head, int k, int end,
                                                 int least, float (*to)[FEW_X / ROWS])
{
    const int length = FEW_X / ROWS / VECTOR; /* of a row, in vectors */
    union bf16_part part[FEW_X / VECTOR / WARP];
    bool below = false;

#pragma unroll
    for (int i = 0; i < FEW_X / VECTOR / WARP; i++) {
        const int v = i * WARP + (int)threadIdx.x, at = k + v % length * VECTOR;
        const int row = (int)blockIdx.x * ROWS + v / length;

        part[i] = row < p.rows ? bf16_read<VECTOR>(matrix_row(p.x, p, head, row) + at, end - at)
                               : bf16_part{};
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < FEW_X / VECTOR / WARP; i++) {
        const int v = i * WARP + (int)threadIdx.x;

#pragma unroll
        for (int j = 0; j < VECTOR; j++) {
            const bf16 b = denormal_flushed((bf16)(part[i].pair[j / 2] >> (j % 2 * 16)));

            to[v / length][v % length * VECTOR + j] = bf16_to_f32(b);
            below = below || is_below(b, least);
        }
    }
    below = __any_sync(WHOLE_WARP, below);
    __syncwarp();
    return below;
}

template <int ROWS, enum layout LAYOUT>
static __forceinline__ __device__ void few_plain(const struct few_group<LAYOUT> &g,
                                                 const float (*x)[FEW_X / ROWS], float *acc)
{
#pragma unroll
    for (int i = 0; i < few_pairs(LAYOUT); i += 2) {
        const uint32_t a = few_pair(g, i), b = few_pair(g, i + 1);

#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float4 x4 = *(const float4 *)&x[r][2 * i];

            acc[r] = __fmaf_rn(x4.y, high_of(a), acc[r]);
            acc[r] = __fmaf_rn(x4.x, low_of(a), acc[r]);
            acc[r] = __fmaf_rn(x4.w, high_of(b), acc[r]);
            acc[r] = __fmaf_rn(x4.z, low_of(b), acc[r]);
        }
    }
}

/* Adds elements [k, end) one by one, exactly.  It reads w again (from the cache): a loop cannot index
 * what was loaded into registers. */
template <int ROWS, enum layout LAYOUT>
static __forceinline__ __device__ void few_exact(const struct matmul &p, int head, int n, int k,
                                                 int end, const float (*x)[FEW_X / ROWS],
                                                 float *acc)
{
#pragma unroll 1
    for (int i = 0; k + i < end; i += 2) {
        const uint32_t pair = w_pair<LAYOUT>(p, head, n, (k + i) / 2);
        const float high = product_flushed((bf16)(pair >> 16)), low = product_flushed((bf16)pair);

#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            acc[r] = product_fma_flushed(x[r][i + 1], high, acc[r]);
            acc[r] = product_fma_flushed(x[r][i], low, acc[r]);
        }
    }
}

/* Returns x from element k of the slice on. */
template <int ROWS>
static __forceinline__ __device__ const float (*few_from(const float (*x)[FEW_X / ROWS],
                                                         int k))[FEW_X / ROWS]
{
    return (const float(*)[FEW_X / ROWS])(&x[0][k]);
}

/* Computes the chains over k in [first, end) of column n. */
template <int ROWS, enum layout LAYOUT>
static __forceinline__ __device__ void few_chain(const struct matmul &p, int head, int n, int first,
                                                 int end, float (*x)[FEW_X / ROWS], float *acc)
{
    const int group_k = 2 * few_pairs(LAYOUT), step = FEW_GROUPS * group_k;
    const struct few_column column = few_column_of<LAYOUT>(p, head, n);
    const int least = x_least_of(p, n < p.N ? n : p.N - 1);
    struct few_group<LAYOUT> ahead[FEW_GROUPS] = {
    };
    int plain = end; /* k from which on chains are exact: that of the first small element */

#pragma unroll
    for (int g = 0; g < FEW_GROUPS; g++)
        few_load<LAYOUT>(&ahead[g], column, first + g * group_k, end);
    for (int k = first; k < end; k += step) {
        const int in_slice = (k - first) % (FEW_X / ROWS);

        if (in_slice == 0 && few_widen<ROWS>(p, head, k, end, least, x) && plain > k)
            plain = k;
#pragma unroll
        for (int g = 0; g < FEW_GROUPS; g++) {
            const int at = k + g * group_k;

            if (at < plain && few_below<LAYOUT>(ahead[g], p.w_least))
                plain = at;
            if (at < plain)
                few_plain<ROWS, LAYOUT>(ahead[g], few_from<ROWS>(x, in_slice + g * group_k), acc);
            few_load<LAYOUT>(&ahead[g], column, at + step, end);
        }
        if (plain < k + step && plain < end) {
            const int from = plain > k ? plain : k;

            few_exact<ROWS, LAYOUT>(p, head, n, from, k + step < end ? k + step : end,
                                    few_from<ROWS>(x, in_slice + from - k), acc);
        }
    }
}

/* Adds the sums of a round's chains, in order, to the totals. */
template <int ROWS>
static __forceinline__ __device__ void few_fold(struct few_memory<ROWS> *m, int count, bool first)
{
    for (int r = (int)threadIdx.y; r < ROWS; r += (int)blockDim.y) {
        float total = first ? m->sum[0][r][threadIdx.x] : m->total[r][threadIdx.x];

        for (int i = first ? 1 : 0; i < count; i++)
            total = __fadd_rn(total, m->sum[i][r][threadIdx.x]);
        m->total[r][threadIdx.x] = total;
    }
}

/* The sums of the block's rows of column n, into memory->total, by warps of the block that count from
 * threadIdx.y; all threads of the block call it, as often with as many chains. */
template <int ROWS, enum layout LAYOUT>
static __forceinline__ __device__ void few_totals(const struct matmul &p, int head, int n,
                                                  struct few_memory<ROWS> *memory)
{
    const int warp = (int)threadIdx.y, warps = (int)blockDim.y;
    const int chains = (p.K + p.block - 1) / p.block;

    for (int round = 0; round < chains; round += warps) {
        const int first = (round + warp) * p.block, left = chains - round;
        float acc[ROWS] = {};

        if (first < p.K) {
            few_chain<ROWS, LAYOUT>(p, head, n, first,
                                    p.K - first < p.block ? p.K : first + p.block, memory->x[warp],
                                    acc);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                memory->sum[warp][r][threadIdx.x] = acc[r];
        }
        __syncthreads();
        few_fold<ROWS>(memory, left < warps ? left : warps, round == 0);
        __syncthreads();
    }
}

/* grid: ROWS rows, 32 columns, heads.  block: 32 lanes, 1..FEW_WARPS warps. */
template <int ROWS, enum layout LAYOUT>
static __global__ void __launch_bounds__(WARP *FEW_WARPS, LAYOUT == PANELS ? 2 : 1)
    few_kernel(struct matmul p)
{
    __shared__ struct few_memory<ROWS> memory;
    const int head = (int)blockIdx.z, n = (int)(blockIdx.y * WARP + threadIdx.x);

    few_totals<ROWS, LAYOUT>(p, head, n, &memory);
    for (int r = (int)threadIdx.y; r < ROWS; r += (int)blockDim.y)
        product_finish(p, head, (int)blockIdx.x * ROWS + r, n, memory.total[r][threadIdx.x]);
}

/* Of ROWS 1, 2 and 4, which so many rows take. */
static inline int few_size(const struct matmul *p)
{
    return p->rows <= 1 ? 0 : p->rows <= 2 ? 1 : 2;
}

static inline unsigned few_warps(const struct matmul *p)
{
    const unsigned chains = blocks_for(p->K, p->block), most = FEW_WARPS;

    return chains < most ? chains : most;
}

template <enum layout LAYOUT>
static void few_launch(const struct matmul *p, int heads, cudaStream_t stream)
{
    static product_kernel *const kernels[] = {few_kernel<1, LAYOUT>, few_kernel<2, LAYOUT>,
                                              few_kernel<4, LAYOUT>};
    const int size = few_size(p);
    const dim3 grid(blocks_for(p->rows, 1 << size), blocks_for(p->N, WARP), (unsigned)heads);

    LAUNCH(kernels[size], grid, dim3(WARP, few_warps(p)), 0, stream, *p);
}

#endif
