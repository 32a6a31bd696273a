/* sdpa_tile.cuh - attention of groups of four rows or more: a block of threads for each TILE_ROWS
 * rows of a query head, which takes the keys in blocks, in order.
 *
 * Shared memory holds in turn, for a block of keys: STEP columns of the keys, their scores, and
 * their weights beside a part of their values; and the queries throughout.  A thread has four rows
 * and eight keys of the scores, four rows and COLUMNS columns of the result. */
#ifndef SAMEBIT_CUDA_SDPA_TILE_CUH
#define SAMEBIT_CUDA_SDPA_TILE_CUH

#include "kernels/cuda/sdpa.cuh"

enum {
    TILE_ROWS = 16, /* divides every group that is whole */
    TILE_WARPS = SDPA_THREADS / WARP,
    ACROSS = 64, /* threads of the same rows */
    STEP = 16,
    TILE_FLOATS = STEP * SDPA_KEYS,
    TILE_VALUES = TILE_FLOATS / 2 /* floats before these are the weights */
};

struct tile {
    float *kept;       /* keys [STEP][SDPA_KEYS], scores [TILE_ROWS][SDPA_KEYS], or both below */
    uint32_t *weights; /* [SDPA_KEYS][TILE_ROWS / 2], two rows a word */
    float *values;     /* [][COLUMNS * ACROSS] */
    bf16 *q;           /* [D][TILE_ROWS] */
    float *factor;     /* [TILE_ROWS] */
    int t, rows;       /* the first row, and how many there are */
    int group_rows;
    int across, down; /* this thread's place: first key or column, first row */
};

static inline size_t tile_bytes(int64_t width)
{
    return TILE_FLOATS * sizeof(float) + TILE_ROWS * (sizeof(float) + (size_t)width * sizeof(bf16));
}

static __forceinline__ __device__ void tile_read_queries(const struct attention &a,
                                                         const struct tile &tile, int64_t h)
{
    const int parts = (int)a.s.width / VECTOR * TILE_ROWS;

    for (int i = (int)threadIdx.x; i < parts; i += SDPA_THREADS) {
        const int row = i % TILE_ROWS, d = i / TILE_ROWS * VECTOR;
        union bf16_part part = {};

        if (row < tile.rows)
            part = bf16_read<VECTOR>(sdpa_row(a.q, h, tile.t + row) + d, VECTOR);
#pragma unroll
        for (int c = 0; c < VECTOR; c++)
            tile.q[(d + c) * TILE_ROWS + row] = (bf16)(part.pair[c / 2] >> c % 2 * 16);
    }
}

/* Four rows of a bf16 array whose rows are adjacent. */
static __forceinline__ __device__ void read_rows(const void *four, float *row)
{
    const uint2 pair = *(const uint2 *)four;

    row[0] = low_of(pair.x);
    row[1] = high_of(pair.x);
    row[2] = low_of(pair.y);
    row[3] = high_of(pair.y);
}

/* ---- query times keys ---- */

/* Loads columns [d, d + STEP) of the first `keys` keys into shared memory. */
static __forceinline__ __device__ void
tile_read_keys(const struct attention &a, const struct tile &tile, const bf16 *k, int d, int keys)
{
#pragma unroll
    for (int i = 0; i < STEP / VECTOR * SDPA_KEYS / SDPA_THREADS; i++) {
        const int item = (int)threadIdx.x + i * SDPA_THREADS, key = item % SDPA_KEYS;
        const int column = item / SDPA_KEYS * VECTOR;

        if (key < keys && d + column < a.s.width) {
            const union bf16_part part = bf16_read<VECTOR>(k + key * a.k.row + d + column, VECTOR);

#pragma unroll
            for (int c = 0; c < VECTOR; c++)
                tile.kept[(column + c) * SDPA_KEYS + key] =
                    c % 2 ? high_of(part.pair[c / 2]) : low_of(part.pair[c / 2]);
        }
    }
}

/* Adds four more columns of D: from `d` on of the queries, from `column` on of the loaded keys. */
template <int HALVES>
static __forceinline__ __device__ void tile_chain(const struct tile &tile, int d, int column,
                                                  float (*sum)[8])
{
#pragma unroll
    for (int c = 0; c < 4; c++) {
        float q[4], k[8];

        read_rows(tile.q + (d + c) * TILE_ROWS + tile.down, q);
#pragma unroll
        for (int half = 0; half < HALVES; half++)
            *(float4 *)(k + 4 * half) = *(const float4 *)(tile.kept + (column + c) * SDPA_KEYS +
                                                          half * (SDPA_KEYS / 2) + 4 * tile.across);
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int j = 0; j < 4 * HALVES; j++)
                sum[r][j] = __fmaf_rn(q[r], k[j], sum[r][j]);
    }
}

/* Adds the finished chains to the totals and begins the next. */
static __forceinline__ __device__ void tile_chain_ends(float (*sum)[8], float (*total)[8])
{
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            total[r][j] = sum[r][j];
            sum[r][j] = 0.0f;
        }
}

/* sum = total + sum, into the scores. */
template <bool TWO>
static __forceinline__ __device__ void tile_keep_scores(const struct tile &tile, float (*sum)[8],
                                                        float (*total)[8])
{
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int j = 0; j < 8; j++)
            tile.kept[(tile.down + r) * SDPA_KEYS + j / 4 * (SDPA_KEYS / 2) + 4 * tile.across +
                      j % 4] = TWO ? __fadd_rn(total[r][j], sum[r][j]) : sum[r][j];
}

/* Computes the scores of the first `keys` keys; others are undefined.  TWO: D is cut into two chains. */
template <bool TWO>
static __forceinline__ __device__ void tile_scores(const struct attention &a,
                                                   const struct tile &tile, const bf16 *k, int keys)
{
    const int D = (int)a.s.width, first = 4 * (tile.across & -WARP);
    const int halves = (first < keys) + (first + SDPA_KEYS / 2 < keys);
    float sum[4][8] = {}, total[TWO ? 4 : 1][8];

    for (int d = 0; d < D; d += STEP) {
        __syncthreads();
        tile_read_keys(a, tile, k, d, keys);
        __syncthreads();
        for (int c = 0; c < STEP && d + c < D; c += 4) {
            if (TWO && d + c == D / 2)
                tile_chain_ends(sum, total);
            if (halves == 2)
                tile_chain<2>(tile, d + c, c, sum);
            else if (halves == 1)
                tile_chain<1>(tile, d + c, c, sum);
        }
    }
    __syncthreads();
    tile_keep_scores<TWO>(tile, sum, total);
}

struct tile_query {
    const bf16 *q;

    __forceinline__ __device__ float operator()(int d) const
    {
        return bf16_to_f32(q[d * TILE_ROWS]);
    }
};

/* The same for a block of fewer than 12 keys. */
static __forceinline__ __device__ void
tile_scores_in_lanes(const struct attention &a, const struct tile &tile, const bf16 *k, int N)
{
    const int row = (int)threadIdx.x % TILE_ROWS, j = (int)threadIdx.x / TILE_ROWS;
    const tile_query q = {tile.q + row};

    __syncthreads();
    if (j < N)
        tile.kept[row * SDPA_KEYS + j] =
            sdpa_is_wide(tile.group_rows, j, N)
                ? sdpa_sum_in_lanes<8>(q, k + j * a.k.row, (int)a.s.width)
                : sdpa_sum_in_lanes<4>(q, k + j * a.k.row, (int)a.s.width);
}

/* Returns how many keys of a block need scores: without a mask, those that some row of the tile sees. */
static __forceinline__ __device__ int tile_keys(const struct attention &a, const struct tile &tile,
                                                int n, int N)
{
    int64_t to;

    if (a.s.masked)
        return N;
    sdpa_seen(&a.s, tile.t + tile.rows - 1, &to);
    return (int)min_i64(N, to > n ? to - n : 0);
}

/* ---- softmax ---- */

/* Each warp has two rows.  All have read the scores before the weights are written over them. */
static __forceinline__ __device__ void tile_softmax(const struct attention &a,
                                                    const struct tile &tile, int n, int N,
                                                    struct sdpa_state *state)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    float e[2][SDPA_SLOTS], old[2];

    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int row = 2 * warp + i;

        old[i] = sdpa_softmax(a.s, sdpa_block_of(a.s, tile.t + row, n, N),
                              tile.kept + row * SDPA_KEYS, e[i], state + i);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < SDPA_SLOTS; i++)
        tile.weights[(lane + WARP * i) * (TILE_ROWS / 2) + warp] =
            bf16_from_f32(e[0][i]) | (uint32_t)bf16_from_f32(e[1][i]) << 16;
    if (lane == 0) {
        tile.factor[2 * warp] = old[0];
        tile.factor[2 * warp + 1] = old[1];
    }
}

/* ---- weights times values ---- */

template <int COLUMNS>
static __forceinline__ __device__ void
tile_read_values(const struct attention &a, const struct tile &tile, const bf16 *v, int count)
{
    const int parts = COLUMNS * ACROSS / VECTOR;

    for (int i = (int)threadIdx.x; i < count * parts; i += SDPA_THREADS) {
        const int key = i / parts, d = i % parts * VECTOR;

        if (d < a.s.width) {
            const union bf16_part part = bf16_read<VECTOR>(v + key * a.v.row + d, VECTOR);

#pragma unroll
            for (int c = 0; c < VECTOR; c++)
                tile.values[key * COLUMNS * ACROSS + d + c] =
                    c % 2 ? high_of(part.pair[c / 2]) : low_of(part.pair[c / 2]);
        }
    }
}

/* Adds a chain over the keys [first, end) to y. */
template <int COLUMNS>
static __forceinline__ __device__ void tile_values(const struct attention &a,
                                                   const struct tile &tile, const bf16 *v,
                                                   int first, int end, float (*y)[COLUMNS])
{
    const int most = TILE_VALUES / (COLUMNS * ACROSS);
    float sum[4][COLUMNS] = {};

    for (int j = first; j < end; j += most) {
        const int count = end - j < most ? end - j : most;

        __syncthreads();
        tile_read_values<COLUMNS>(a, tile, v + j * a.v.row, count);
        __syncthreads();
#pragma unroll 4
        for (int i = 0; i < count; i++) {
            float p[4];

            read_rows((const bf16 *)tile.weights + (j + i) * TILE_ROWS + tile.down, p);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                const float x = tile.values[(i * COLUMNS + c) * ACROSS + tile.across];

#pragma unroll
                for (int r = 0; r < 4; r++)
                    sum[r][c] = __fmaf_rn(x, p[r], sum[r][c]);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            y[r][c] = __fadd_rn(y[r][c], sum[r][c]);
}

/* y = 0 + (y * factor + weights . values); the 0 turns a -0 into +0. */
template <int COLUMNS>
static __forceinline__ __device__ void tile_add_values(const struct attention &a,
                                                       const struct tile &tile, const bf16 *v,
                                                       int N, float (*y)[COLUMNS])
{
    const int chain = (int)sdpa_chain(N);

    __syncthreads();
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            y[r][c] = __fmul_rn(y[r][c], tile.factor[tile.down + r]);
    for (int j = 0; j < N; j += chain)
        tile_values<COLUMNS>(a, tile, v, j, (int)min_i64(j + chain, N), y);
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            y[r][c] = __fadd_rn(0.0f, y[r][c]);
}

/* Needs no barrier of its own: those of tile_values come after the last reads of the factors. */
template <int COLUMNS>
static __forceinline__ __device__ void
tile_finish(const struct attention &a, const struct tile &tile, int64_t h,
            const struct sdpa_state *state, float (*y)[COLUMNS])
{
    const int warp = (int)threadIdx.x / WARP;

    if (threadIdx.x % WARP == 0) {
        tile.factor[2 * warp] = sdpa_inverse(state[0]);
        tile.factor[2 * warp + 1] = sdpa_inverse(state[1]);
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            if (tile.down + r < tile.rows && tile.across + c * ACROSS < a.s.width)
                a.y.data[h * a.y.head + (tile.t + tile.down + r) * a.y.row + tile.across +
                         c * ACROSS] =
                    bf16_from_f32(__fmul_rn(y[r][c], tile.factor[tile.down + r]));
}

/* ---- a tile ---- */

/* The tile `number` of a call, in a block's shared memory. */
static __forceinline__ __device__ struct tile tile_at(const struct attention &a, int number,
                                                      float *shared)
{
    struct tile tile;
    int64_t rows, first;

    tile.kept = shared;
    tile.weights = (uint32_t *)shared;
    tile.values = shared + TILE_FLOATS - TILE_VALUES;
    tile.factor = shared + TILE_FLOATS;
    tile.q = (bf16 *)(tile.factor + TILE_ROWS);
    tile.t = number * TILE_ROWS;
    first = sdpa_group_of(&a.s, tile.t, &rows);
    tile.group_rows = (int)rows;
    tile.rows = (int)min_i64(TILE_ROWS, first + rows - tile.t);
    tile.across = (int)threadIdx.x % ACROSS;
    tile.down = (int)threadIdx.x / ACROSS * 4;
    return tile;
}

/* Query head blockIdx.y; the last tiles, which see the most keys, begin first.  COLUMNS: of ACROSS
 * elements, that cover D.  Two chains of scores and four columns are more registers than two blocks
 * of a multiprocessor have. */
template <int COLUMNS>
static __global__ void __launch_bounds__(SDPA_THREADS, COLUMNS < 4 ? 2 : 1)
    sdpa_tile_kernel(struct attention a)
{
    DYNAMIC_SHARED(float, shared);
    const struct tile tile = tile_at(a, (int)(gridDim.x - 1 - blockIdx.x), shared);
    const int64_t h = blockIdx.y, g = h / a.s.shared;
    const int end = (int)sdpa_group_keys(&a.s, tile.t / a.s.group * a.s.group, tile.group_rows);
    struct sdpa_state state[2] = {{-INFINITY, 0.0f}, {-INFINITY, 0.0f}};
    float y[4][COLUMNS] = {};

    tile_read_queries(a, tile, h);
    for (int n = 0; n < end; n += SDPA_KEYS) {
        const int N = (int)min_i64(SDPA_KEYS, a.s.keys - n);
        const bf16 *k = sdpa_row(a.k, g, n);

        if (sdpa_in_lanes(tile.group_rows, N))
            tile_scores_in_lanes(a, tile, k, N);
        else
            tile_scores<(COLUMNS * ACROSS > 192)>(a, tile, k, tile_keys(a, tile, n, N));
        tile_softmax(a, tile, n, N, state);
        tile_add_values<COLUMNS>(a, tile, sdpa_row(a.v, g, n), N, y);
    }
    tile_finish<COLUMNS>(a, tile, h, state, y);
}

#endif
