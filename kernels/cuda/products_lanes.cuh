/* products_lanes.cuh - the orders of PyTorch's own loops: DOT8, FOUR and CHAIN; numerics avx2, and
 * small products.  No denormal is flushed.
 *
 * Sums that are independent are shared out over warps: a warp of DOT8 has one of the 8 accumulators,
 * a warp of FOUR one of the 4 chains; a thread has one column of ROWS rows. */
#ifndef SAMEBIT_CUDA_PRODUCTS_LANES_CUH
#define SAMEBIT_CUDA_PRODUCTS_LANES_CUH

#include "kernels/cuda/products.cuh"

enum {
    LANES8 = 8, /* lanes of an accumulator, and accumulators, of DOT8 */
    FOUR_CHAINS = 4,
    LANES_SLICE = 512, /* elements of k of which a block keeps x as f32; a multiple of 64 */
    LANES_ROWS_MOST = 4
};

/* Loads elements [k, end) of the block's rows, at most a slice, as f32.  All threads call it. */
template <int ROWS>
static __forceinline__ __device__ void lanes_widen(const struct matmul &p, int head, int k, int end,
                                                   float (*to)[LANES_SLICE])
{
    const int threads = (int)(blockDim.x * blockDim.y);
    const int thread = (int)(threadIdx.y * blockDim.x + threadIdx.x);

    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int row = (int)blockIdx.y * ROWS + r;
        const bf16 *x = matrix_row(p.x, p, head, row < p.rows ? row : 0) + k;

        for (int i = thread; i < LANES_SLICE && k + i < end; i += threads)
            to[r][i] = row < p.rows ? bf16_to_f32(x[i]) : 0.0f;
    }
    __syncthreads();
}

/* ---- DOT8 ---- */

template <int ROWS> union dot8_memory {
    float x[ROWS][LANES_SLICE];
    float acc[LANES8][ROWS][LANES8][WARP]; /* [accumulator][row][lane][column] */
};

static __forceinline__ __device__ float lanes8_sum(const float *v)
{
    return __fadd_rn(__fadd_rn(__fadd_rn(v[0], v[4]), __fadd_rn(v[2], v[6])),
                     __fadd_rn(__fadd_rn(v[1], v[5]), __fadd_rn(v[3], v[7])));
}

/* Adds the accumulators of one lane: r += r+4, r += r+2, r += r+1. */
template <int ROWS>
static __forceinline__ __device__ float dot8_lane(const union dot8_memory<ROWS> &m, int row,
                                                  int lane)
{
    const int c = (int)threadIdx.x;
    float v[4];

#pragma unroll
    for (int r = 0; r < 4; r++)
        v[r] = __fadd_rn(m.acc[r][row][lane][c], m.acc[r + 4][row][lane][c]);
    return __fadd_rn(__fadd_rn(v[0], v[2]), __fadd_rn(v[1], v[3]));
}

/* Adds the whole blocks of 16 from k on, in one accumulator. */
template <enum layout LAYOUT>
static __device__ float dot8_sixteens(const struct matmul &p, const bf16 *x, int head, int n, int k)
{
    float tail[LANES8] = {};

    for (; k < (p.K & ~15); k += LANES8)
#pragma unroll
        for (int l = 0; l < LANES8; l += 2) {
            const uint32_t pair = w_pair<LAYOUT>(p, head, n, (k + l) / 2);

            tail[l] = __fmaf_rn(bf16_to_f32(x[k + l]), low_of(pair), tail[l]);
            tail[l + 1] = __fmaf_rn(bf16_to_f32(x[k + l + 1]), high_of(pair), tail[l + 1]);
        }
    return lanes8_sum(tail);
}

/* Returns the sum of one row and column: its accumulators, then the rest of k. */
template <int ROWS, enum layout LAYOUT>
static __device__ float dot8_sum(const struct matmul &p, const union dot8_memory<ROWS> &m, int head,
                                 int row, int n)
{
    const bf16 *x = matrix_row(p.x, p, head, (int)blockIdx.y * ROWS + row);
    float lane[LANES8], sum;

#pragma unroll
    for (int l = 0; l < LANES8; l++)
        lane[l] = dot8_lane<ROWS>(m, row, l);
    sum = __fadd_rn(lanes8_sum(lane), dot8_sixteens<LAYOUT>(p, x, head, n, p.K & ~63));
    for (int k = p.K & ~15; k < p.K; k++) {
        const uint32_t pair = w_pair<LAYOUT>(p, head, n, k / 2);

        sum = __fmaf_rn(bf16_to_f32(x[k]), k % 2 ? high_of(pair) : low_of(pair), sum);
    }
    return sum;
}

/* Adds the warp's 8 of every 64 elements of k, in a slice of `count` elements that starts at k. */
template <int ROWS, enum layout LAYOUT>
static __forceinline__ __device__ void dot8_slice(const struct matmul &p, int head, int n, int k,
                                                  int count, const float (*x)[LANES_SLICE],
                                                  float (*acc)[LANES8])
{
    /* a key's next elements come along with these */
#pragma unroll(LAYOUT == PANELS ? 4 : 1)
    for (int i = (int)threadIdx.y * LANES8; i < count; i += 64) {
        uint32_t pair[LANES8 / 2];

#pragma unroll
        for (int j = 0; j < LANES8 / 2; j++)
            pair[j] = w_pair<LAYOUT>(p, head, n, (k + i) / 2 + j);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int l = 0; l < LANES8; l += 2) {
                acc[r][l] = __fmaf_rn(x[r][i + l], low_of(pair[l / 2]), acc[r][l]);
                acc[r][l + 1] = __fmaf_rn(x[r][i + l + 1], high_of(pair[l / 2]), acc[r][l + 1]);
            }
    }
}

/* grid: 32 columns, ROWS rows, heads.  block: 32 columns, 8 accumulators. */
template <int ROWS, enum layout LAYOUT>
static __global__ void __launch_bounds__(WARP *LANES8) dot8_kernel(struct matmul p)
{
    __shared__ union dot8_memory<ROWS> memory;
    const int head = (int)blockIdx.z, n = (int)(blockIdx.x * WARP + threadIdx.x), end = p.K & ~63;
    float acc[ROWS][LANES8] = {};

    for (int k = 0; k < end; k += LANES_SLICE) {
        lanes_widen<ROWS>(p, head, k, end, memory.x);
        dot8_slice<ROWS, LAYOUT>(p, head, n, k, end - k < LANES_SLICE ? end - k : LANES_SLICE,
                                 memory.x, acc);
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int l = 0; l < LANES8; l++)
            memory.acc[threadIdx.y][r][l][threadIdx.x] = acc[r][l];
    __syncthreads();
    for (int r = (int)threadIdx.y; r < ROWS; r += LANES8)
        if ((int)blockIdx.y * ROWS + r < p.rows)
            product_finish(p, head, (int)blockIdx.y * ROWS + r, n,
                           dot8_sum<ROWS, LAYOUT>(p, memory, head, r, n));
}

/* ---- FOUR ---- */

template <int ROWS> struct four_memory {
    float x[ROWS][LANES_SLICE];
    float chain[FOUR_CHAINS][ROWS][WARP];
};

/* Adds every fourth k of a slice, which are this warp's; the last K % 4 belong to chain 0. */
template <int ROWS>
static __forceinline__ __device__ void four_slice(const struct matmul &p, const bf16 *w, int k,
                                                  const float (*x)[LANES_SLICE], float *acc)
{
    const int end = p.K - k < LANES_SLICE ? p.K - k : LANES_SLICE, fours = end & ~3;
    int i = (int)threadIdx.y;

#pragma unroll 8
    for (; i < fours; i += FOUR_CHAINS)
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            acc[r] = __fmaf_rn(x[r][i], bf16_to_f32(w[(k + i) * p.w_step]), acc[r]);
    if (threadIdx.y == 0)
        for (i = fours; i < end; i++)
            for (int r = 0; r < ROWS; r++)
                acc[r] = __fmaf_rn(x[r][i], bf16_to_f32(w[(k + i) * p.w_step]), acc[r]);
}

/* VALUES.  grid: 32 columns, ROWS rows, heads.  block: 32 columns, 4 chains. */
template <int ROWS>
static __global__ void __launch_bounds__(WARP *FOUR_CHAINS) four_kernel(struct matmul p)
{
    __shared__ struct four_memory<ROWS> m;
    const int head = (int)blockIdx.z, n = (int)(blockIdx.x * WARP + threadIdx.x);
    const bf16 *w = (const bf16 *)p.w + head * p.w_head + (n < p.N ? n : 0);
    float acc[ROWS] = {};

    for (int k = 0; k < p.K; k += LANES_SLICE) {
        lanes_widen<ROWS>(p, head, k, p.K, m.x);
        four_slice<ROWS>(p, w, k, m.x, acc);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        m.chain[threadIdx.y][r][threadIdx.x] = acc[r];
    __syncthreads();
    for (int r = (int)threadIdx.y; r < ROWS; r += FOUR_CHAINS) {
        const int c = (int)threadIdx.x;

        product_finish(
            p, head, (int)blockIdx.y * ROWS + r, n,
            __fadd_rn(__fadd_rn(__fadd_rn(m.chain[0][r][c], m.chain[1][r][c]), m.chain[2][r][c]),
                      m.chain[3][r][c]));
    }
}

/* ---- CHAIN ---- */

/* KEYS, VALUES.  grid: 32 columns, rows, heads; fewer than 400 products a head. */
template <enum layout LAYOUT> static __global__ void chain_kernel(struct matmul p)
{
    const int head = (int)blockIdx.z, n = (int)(blockIdx.x * WARP + threadIdx.x);
    const int row = (int)blockIdx.y;
    const bf16 *w = (const bf16 *)p.w + head * p.w_head;

    if (n < p.N)
        product_finish(p, head, row, n,
                       product_chain(matrix_row(p.x, p, head, row),
                                     w + (LAYOUT == KEYS ? n * p.w_step : n),
                                     LAYOUT == KEYS ? 1 : p.w_step, p.K));
}

static inline dim3 lanes_grid(const struct matmul *p, int rows, int heads)
{
    return dim3(blocks_for(p->N, WARP), blocks_for(p->rows, rows), (unsigned)heads);
}

/* PANELS or KEYS. */
template <enum layout LAYOUT>
static void dot8_launch(const struct matmul *p, int heads, cudaStream_t stream)
{
    const int rows = p->rows == 1 ? 1 : LANES_ROWS_MOST;
    product_kernel *const kernel =
        rows == 1 ? dot8_kernel<1, LAYOUT> : dot8_kernel<LANES_ROWS_MOST, LAYOUT>;

    LAUNCH(kernel, lanes_grid(p, rows, heads), dim3(WARP, LANES8), 0, stream, *p);
}

static inline void four_launch(const struct matmul *p, int heads, cudaStream_t stream)
{
    const int rows = p->rows == 1 ? 1 : LANES_ROWS_MOST;
    product_kernel *const kernel = rows == 1 ? four_kernel<1> : four_kernel<LANES_ROWS_MOST>;

    LAUNCH(kernel, lanes_grid(p, rows, heads), dim3(WARP, FOUR_CHAINS), 0, stream, *p);
}

/* KEYS or VALUES. */
template <enum layout LAYOUT>
static void chain_launch(const struct matmul *p, int heads, cudaStream_t stream)
{
    LAUNCH(chain_kernel<LAYOUT>, lanes_grid(p, 1, heads), dim3(WARP), 0, stream, *p);
}

#endif
