/* products_tile.cuh - PAIRS of many rows: a block computes a tile of 16 * ROWS rows x 64 columns.
 *
 * 256 threads of ROWS x 4 outputs each.  16 elements of k at a time lie in shared memory, widened
 * to f32 when they are stored there: an element is unpacked once for the block instead of by each
 * of the 16 threads that use it, so the inner loop is loads of 128 bits and fused multiply-adds
 * only (with 4 rows, 16 of these for 2 loads: bound by arithmetic; 8 rows would leave no registers
 * for the sums of earlier blocks of k).  Meanwhile the next 16 are loaded into registers.  With two
 * buffers one barrier per 16 elements is enough. */
#ifndef SAMEBIT_CUDA_PRODUCTS_TILE_CUH
#define SAMEBIT_CUDA_PRODUCTS_TILE_CUH

#include "kernels/cuda/products.cuh"

enum {
    TILE_K = 16,    /* a divisor of every block of k */
    TILE_SIDE = 16, /* threads along either side of a tile */
    TILE_THREADS = TILE_SIDE * TILE_SIDE,
    TILE_COLUMNS = 4, /* of a thread */
    TILE_PADDING = 4
};

template <int ROWS> struct tile_memory {
    __align__(16) float x[2][TILE_K][TILE_SIDE * ROWS + TILE_PADDING]; /* [buffer][k][row] */
    __align__(16) float w[2][TILE_K][PANEL];
    int x_least;  /* see products.cuh */
    int below[2]; /* [buffer]: an element was too small for plain chains */
};

/* What a thread loads of 16 elements of k: 8 of a row of x, if it has one, and 4 of w. */
struct tile_source {
    const bf16 *x, *w; /* of k = 0; x NULL: none */
    int x_k, w_k;      /* first k, from the start of the 16 */
    int w_most;        /* VALUES: columns that are there; KEYS: 0 where the column is not */
};

/* Chooses what a thread loads: x by rows, w so that the loads of a warp are adjacent. */
template <int ROWS, enum layout LAYOUT>
static __forceinline__ __device__ struct tile_source tile_source_of(const struct matmul &p,
                                                                    int head, int thread)
{
    const int rows = TILE_SIDE * ROWS, row = (int)blockIdx.y * rows + thread % rows;
    const int first = (int)blockIdx.x * PANEL;
    struct tile_source s = {NULL, NULL, thread / rows * VECTOR, 0, 0};

    if (thread < rows * (TILE_K / VECTOR) && row < p.rows)
        s.x = matrix_row(p.x, p, head, row);
    if (LAYOUT == PANELS) {
        s.w_k = thread / 32 * 2;
        s.w = (const bf16 *)((const uint32_t *)p.w +
                             (int64_t)blockIdx.x * product_pairs_padded(p.K) * PANEL +
                             thread % 32 * 2);
    } else if (LAYOUT == KEYS) {
        s.w_k = thread / PANEL * 4;
        s.w = (const bf16 *)p.w + head * p.w_head + (first + thread % PANEL) * p.w_step;
        s.w_most = first + thread % PANEL < p.N ? 4 : 0;
    } else {
        s.w_k = thread / 16;
        s.w = (const bf16 *)p.w + head * p.w_head + first + thread % 16 * 4;
        s.w_most = p.N - first - thread % 16 * 4;
    }
    return s;
}

static __forceinline__ __device__ union bf16_part tile_fetch_x(const struct matmul &p,
                                                               const struct tile_source &s, int k)
{
    return s.x ? bf16_read<VECTOR>(s.x + k + s.x_k, p.K - k - s.x_k) : bf16_part{};
}

template <enum layout LAYOUT>
static __forceinline__ __device__ union bf16_part tile_fetch_w(const struct matmul &p,
                                                               const struct tile_source &s, int k)
{
    const int at = k + s.w_k;

    if (LAYOUT == PANELS) /* padded: always there */
        return bf16_read<4>(s.w + (int64_t)at / 2 * PANEL * 2, 4);
    if (LAYOUT == KEYS)
        return s.w_most ? bf16_read<4>(s.w + at, p.K - at) : bf16_part{};
    return at < p.K ? bf16_read<4>(s.w + at * p.w_step, s.w_most) : bf16_part{};
}

static __forceinline__ __device__ bf16 tile_element(const union bf16_part &part, int i)
{
    return denormal_flushed((bf16)(part.pair[i / 2] >> (i % 2 * 16)));
}

template <int ROWS>
static __forceinline__ __device__ void tile_store_x(struct tile_memory<ROWS> *m, int buffer,
                                                    const struct tile_source &s,
                                                    const union bf16_part &part, int thread)
{
    bool below = false;

    if (thread >= TILE_SIDE * ROWS * (TILE_K / VECTOR))
        return;
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        const bf16 b = tile_element(part, i);

        m->x[buffer][s.x_k + i][thread % (TILE_SIDE * ROWS)] = bf16_to_f32(b);
        below = below || is_below(b, m->x_least);
    }
    if (below)
        m->below[buffer] = 1;
}

template <int ROWS, enum layout LAYOUT>
static __forceinline__ __device__ void
tile_store_w(const struct matmul &p, struct tile_memory<ROWS> *m, int buffer,
             const struct tile_source &s, const union bf16_part &part, int thread)
{
    bool below = false;

#pragma unroll
    for (int i = 0; i < 4; i++) {
        const bf16 b = tile_element(part, i);
        const int k = LAYOUT == PANELS ? s.w_k + i % 2 : LAYOUT == KEYS ? s.w_k + i : s.w_k;
        const int n = LAYOUT == PANELS ? thread % 32 * 2 + i / 2
                      : LAYOUT == KEYS ? thread % PANEL
                                       : thread % 16 * 4 + i;

        m->w[buffer][k][n] = bf16_to_f32(b);
        below = below || (LAYOUT != PANELS && is_below(b, p.w_least));
    }
    if (below)
        m->below[buffer] = 1;
}

/* ---- the chains of a thread ---- */

template <int ROWS> struct tile_sums {
    float chain[ROWS][TILE_COLUMNS], total[ROWS][TILE_COLUMNS];
};

/* Adds the sums of a finished block of k to the totals. */
template <int ROWS>
static __forceinline__ __device__ void tile_fold(struct tile_sums<ROWS> *s, bool first)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < TILE_COLUMNS; c++) {
            s->total[r][c] = first ? s->chain[r][c] : __fadd_rn(s->total[r][c], s->chain[r][c]);
            s->chain[r][c] = 0.0f;
        }
}

/* One k: of ROWS rows and 4 columns. */
template <int ROWS, bool exact>
static __forceinline__ __device__ void tile_step(struct tile_sums<ROWS> *s, const float *x,
                                                 const float *w)
{
    const float4 w4 = *(const float4 *)w;
    const float columns[TILE_COLUMNS] = {w4.x, w4.y, w4.z, w4.w};
    float rows[ROWS];

    if constexpr (ROWS == 4) {
        const float4 x4 = *(const float4 *)x;

        rows[0] = x4.x;
        rows[1] = x4.y;
        rows[2] = x4.z;
        rows[3] = x4.w;
    } else {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            rows[r] = x[r];
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < TILE_COLUMNS; c++)
            s->chain[r][c] = exact ? product_fma_flushed(rows[r], columns[c], s->chain[r][c])
                                   : __fmaf_rn(rows[r], columns[c], s->chain[r][c]);
}

/* Adds up to 16 elements of k, the odd one of each pair first.  `count`: how many there are.  Zeros
 * beyond them would not change a plain chain, but would turn the -0 of an exact one into +0. */
template <int ROWS>
static __forceinline__ __device__ void tile_chains(struct tile_sums<ROWS> *s,
                                                   const struct tile_memory<ROWS> &m, int buffer,
                                                   int count, bool exact)
{
    const float *x = &m.x[buffer][0][threadIdx.x / TILE_SIDE * ROWS];
    const float *w = &m.w[buffer][0][threadIdx.x % TILE_SIDE * TILE_COLUMNS];
    const int x_step = TILE_SIDE * ROWS + TILE_PADDING;

    if (exact) {
#pragma unroll 1
        for (int k = 0; k < (count + 1) / 2 * 2; k++)
            tile_step<ROWS, true>(s, x + (k ^ 1) * x_step, w + (k ^ 1) * PANEL);
        return;
    }
#pragma unroll
    for (int k = 0; k < TILE_K; k++)
        tile_step<ROWS, false>(s, x + (k ^ 1) * x_step, w + (k ^ 1) * PANEL);
}

template <int ROWS>
static __forceinline__ __device__ void tile_finish(const struct matmul &p, int head,
                                                   const struct tile_sums<ROWS> &s)
{
    const int row = (int)(blockIdx.y * TILE_SIDE + threadIdx.x / TILE_SIDE) * ROWS;
    const int column = (int)(blockIdx.x * TILE_SIDE + threadIdx.x % TILE_SIDE) * TILE_COLUMNS;

#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < TILE_COLUMNS; c++)
            product_finish(p, head, row + r, column + c, s.total[r][c]);
}

/* grid: panels of columns, tiles of rows, heads. */
template <int ROWS, enum layout LAYOUT>
static __global__ void __launch_bounds__(TILE_THREADS, 2) tile_kernel(struct matmul p)
{
    __shared__ struct tile_memory<ROWS> memory;
    const int thread = (int)threadIdx.x, head = (int)blockIdx.z;
    const struct tile_source source = tile_source_of<ROWS, LAYOUT>(p, head, thread);
    union bf16_part x = tile_fetch_x(p, source, 0), w = tile_fetch_w<LAYOUT>(p, source, 0);
    struct tile_sums<ROWS> sums = {
    };
    bool exact = false; /* set by the first element that is too small for plain chains */

    if (thread < 2)
        memory.below[thread] = 0;
    if (thread == 0)
        memory.x_least = x_least_of(p, (int)blockIdx.x * PANEL);
    __syncthreads();
    for (int k = 0; k < p.K; k += TILE_K) {
        const int buffer = k / TILE_K % 2;

        tile_store_x<ROWS>(&memory, buffer, source, x, thread);
        tile_store_w<ROWS, LAYOUT>(p, &memory, buffer, source, w, thread);
        __syncthreads();
        if (k + TILE_K < p.K) {
            x = tile_fetch_x(p, source, k + TILE_K);
            w = tile_fetch_w<LAYOUT>(p, source, k + TILE_K);
        }
        if (k && k % p.block == 0)
            tile_fold<ROWS>(&sums, k == p.block);
        exact = exact || memory.below[buffer];
        tile_chains<ROWS>(&sums, memory, buffer, p.K - k < TILE_K ? p.K - k : TILE_K, exact);
    }
    tile_fold<ROWS>(&sums, p.K <= p.block);
    tile_finish<ROWS>(p, head, sums);
}

/* As many blocks keep a large GPU busy: with fewer, smaller tiles are faster. */
enum { TILE_BLOCKS_WANTED = 256 };

/* Returns how many rows a thread computes: 1, 2 or 4. */
static inline int tile_size(const struct matmul *p, int heads)
{
    int size = 2;

    while (size > 0 &&
           (p->rows <= TILE_SIDE << (size - 1) ||
            blocks_for(p->N, PANEL) * blocks_for(p->rows, TILE_SIDE << size) * (unsigned)heads <
                TILE_BLOCKS_WANTED))
        size--;
    return size;
}

template <enum layout LAYOUT>
static void tile_launch(const struct matmul *p, int heads, cudaStream_t stream)
{
    static product_kernel *const kernels[] = {tile_kernel<1, LAYOUT>, tile_kernel<2, LAYOUT>,
                                              tile_kernel<4, LAYOUT>};
    const int size = tile_size(p, heads);
    const dim3 grid(blocks_for(p->N, PANEL), blocks_for(p->rows, TILE_SIDE << size),
                    (unsigned)heads);

    LAUNCH(kernels[size], grid, dim3(TILE_THREADS), 0, stream, *p);
}

#endif
