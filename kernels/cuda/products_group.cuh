/* products_group.cuh - linears of few rows (decode) that are done in one launch, with what follows them:
 * every sum as few_kernel has it, every rounding of the values that are not written.
 *
 * One launch is worth more than its own cost: a linear of few columns has fewer blocks than the GPU
 * multiprocessors, and beside others it does not leave the rest idle. */
#ifndef SAMEBIT_CUDA_PRODUCTS_GROUP_CUH
#define SAMEBIT_CUDA_PRODUCTS_GROUP_CUH

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/products_few.cuh"

enum { LINEARS_MOST = 3 };

/* Of ROWS 1 and 2, which so many rows take: with 4 and several operands a thread runs out of registers. */
static inline int group_size(const struct matmul *p)
{
    return p->rows <= 1 ? 0 : 1;
}

/* ---- linears of one input ---- */

struct linears {
    struct matmul p[LINEARS_MOST];
    int first[LINEARS_MOST]; /* block of columns from which on a linear's are */
    int count;
};

/* grid: ROWS rows, 32 columns of all linears one after the other. */
template <int ROWS>
static __global__ void __launch_bounds__(WARP *FEW_WARPS, 2) few_linears_kernel(struct linears l)
{
    __shared__ struct few_memory<ROWS> memory;
    int i = 0, n;

    while (i + 1 < l.count && (int)blockIdx.y >= l.first[i + 1])
        i++;
    n = ((int)blockIdx.y - l.first[i]) * WARP + (int)threadIdx.x;
    few_totals<ROWS, PANELS>(l.p[i], 0, n, &memory);
    for (int r = (int)threadIdx.y; r < ROWS; r += (int)blockDim.y)
        product_finish(l.p[i], 0, (int)blockIdx.x * ROWS + r, n, memory.total[r][threadIdx.x]);
}

static inline void few_linears_launch(const struct linears *l, int blocks, cudaStream_t stream)
{
    static void (*const kernels[])(struct linears l) = {few_linears_kernel<1>,
                                                        few_linears_kernel<2>};
    const int size = group_size(&l->p[0]);

    LAUNCH(kernels[size], dim3(blocks_for(l->p[0].rows, 1 << size), (unsigned)blocks),
           dim3(WARP, few_warps(&l->p[0])), 0, stream, *l);
}

/* ---- a linear and what is added to it ---- */

/* y = bf(bf(sum (+ bias)) + other) */
template <int ROWS>
static __global__ void __launch_bounds__(WARP *FEW_WARPS, 2)
    few_add_kernel(struct matmul p, struct matrix other)
{
    __shared__ struct few_memory<ROWS> memory;
    const int n = (int)(blockIdx.y * WARP + threadIdx.x);

    few_totals<ROWS, PANELS>(p, 0, n, &memory);
    for (int r = (int)threadIdx.y; r < ROWS; r += (int)blockDim.y) {
        const int row = (int)blockIdx.x * ROWS + r;

        if (row < p.rows && n < p.N)
            matrix_row(p.y, p, 0, row)[n] =
                element<ADD>(product_rounded(p, n, memory.total[r][threadIdx.x]),
                             matrix_row(other, p, 0, row)[n], 0.0f);
    }
}

static inline void few_add_launch(const struct matmul *p, const struct matrix *other,
                                  cudaStream_t stream)
{
    static void (*const kernels[])(struct matmul p, struct matrix other) = {
        few_add_kernel<1>, few_add_kernel<2>, few_add_kernel<4>};
    const int size = few_size(p);

    LAUNCH(kernels[size], dim3(blocks_for(p->rows, 1 << size), blocks_for(p->N, WARP)),
           dim3(WARP, few_warps(p)), 0, stream, *p, *other);
}

/* ---- gate, up, silu of the gate, product ---- */

struct gated {
    struct matmul p[2]; /* gate, up: of one shape; y of both is the product's */
};

/* block: 32 lanes, warps, the two linears. */
template <int ROWS>
static __global__ void __launch_bounds__(2 * WARP * FEW_WARPS, 1) few_gated_kernel(struct gated g)
{
    __shared__ struct few_memory<ROWS> memory[2];
    const int n = (int)(blockIdx.y * WARP + threadIdx.x), which = (int)threadIdx.z;
    const struct matmul &gate = g.p[0], &up = g.p[1];

    few_totals<ROWS, PANELS>(g.p[which], 0, n, &memory[which]);
    for (int r = (int)threadIdx.y; which == 0 && r < ROWS; r += (int)blockDim.y) {
        const int row = (int)blockIdx.x * ROWS + r;

        if (row < gate.rows && n < gate.N) {
            const bf16 x = product_rounded(gate, n, memory[0].total[r][threadIdx.x]);

            matrix_row(gate.y, gate, 0, row)[n] =
                element<MUL>(element<SILU>(x, 0, 0.0f),
                             product_rounded(up, n, memory[1].total[r][threadIdx.x]), 0.0f);
        }
    }
}

static inline void few_gated_launch(const struct gated *g, cudaStream_t stream)
{
    static void (*const kernels[])(struct gated g) = {few_gated_kernel<1>, few_gated_kernel<2>};
    const struct matmul *p = &g->p[0];
    const int size = group_size(p);

    LAUNCH(kernels[size], dim3(blocks_for(p->rows, 1 << size), blocks_for(p->N, WARP)),
           dim3(WARP, few_warps(p), 2), 0, stream, *g);
}

#endif
