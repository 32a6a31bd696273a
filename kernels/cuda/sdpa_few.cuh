/* sdpa_few.cuh - attention of a group of fewer than four rows, decoding above all: a block of threads
 * for each row and query head, which takes the keys in blocks, in order. */
#ifndef SAMEBIT_CUDA_SDPA_FEW_CUH
#define SAMEBIT_CUDA_SDPA_FEW_CUH

#include "kernels/cuda/sdpa.cuh"

enum { FEW_FLOATS = 8192 /* of values or sums kept in shared memory */ };

/* What the threads of a block share. */
struct few {
    float q[SDPA_WIDEST];
    float x[SDPA_KEYS]; /* scores, then weights */
    float kept[FEW_FLOATS];
    float factor;
};

struct few_query {
    const float *q;

    __forceinline__ __device__ float operator()(int d) const
    {
        return q[d];
    }
};

static __forceinline__ __device__ void few_scores(const struct attention &a, struct few *few,
                                                  const bf16 *keys, int rows, int N)
{
    const few_query q = {few->q};

    for (int j = (int)threadIdx.x; j < N; j += SDPA_THREADS) {
        const bf16 *k = keys + j * a.k.row;

        few->x[j] = sdpa_is_wide(rows, j, N) ? sdpa_sum_in_lanes<8>(q, k, (int)a.s.width)
                                             : sdpa_sum_in_lanes<4>(q, k, (int)a.s.width);
    }
}

/* The first warp turns scores into weights, and sets the factor for the sums of earlier blocks. */
static __forceinline__ __device__ void few_softmax(const struct attention &a, struct few *few,
                                                   const struct sdpa_block &b,
                                                   struct sdpa_state *state)
{
    const int lane = (int)threadIdx.x;
    float e[SDPA_SLOTS];
    const float old = sdpa_softmax(a.s, b, few->x, e, state);

    __syncwarp();
#pragma unroll
    for (int i = 0; i < SDPA_SLOTS; i++)
        few->x[lane + WARP * i] = bf16_to_f32(bf16_from_f32(e[i]));
    if (lane == 0)
        few->factor = old;
}

/* ---- one row: four keys at a time ---- */

static __forceinline__ __device__ float part_get(const union bf16_part &part, int i)
{
    return i % 2 ? high_of(part.pair[i / 2]) : low_of(part.pair[i / 2]);
}

/* Returns (v0*p0 + v2*p2) + (v1*p1 + v3*p3) for VECTOR columns. */
static __forceinline__ __device__ void four_keys(const bf16 *v, int64_t step, const float *p,
                                                 float *sum)
{
    union bf16_part part[4];

#pragma unroll
    for (int i = 0; i < 4; i++)
        part[i] = bf16_read<VECTOR>(v + i * step, VECTOR);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        const float even =
            __fmaf_rn(part_get(part[2], i), p[2], __fmul_rn(part_get(part[0], i), p[0]));
        const float odd =
            __fmaf_rn(part_get(part[3], i), p[3], __fmul_rn(part_get(part[1], i), p[1]));

        sum[i] = __fadd_rn(even, odd);
    }
}

/* Stores the sums of each of `fours` groups of four keys in few->kept [fours][D]. */
static __forceinline__ __device__ void keep_fours(const struct attention &a, struct few *few,
                                                  const bf16 *v, const float *p, int fours)
{
    const int D = (int)a.s.width, columns = D / VECTOR, groups = SDPA_THREADS / columns;
    const int column = (int)threadIdx.x % columns * VECTOR, group = (int)threadIdx.x / columns;

    if (group < groups)
        for (int i = group; i < fours; i += groups)
            four_keys(v + 4 * i * a.v.row + column, a.v.row, p + 4 * i, few->kept + i * D + column);
}

static __forceinline__ __device__ float values_of_one(const struct attention &a, struct few *few,
                                                      const bf16 *v, int N, float y)
{
    const int D = (int)a.s.width, d = (int)threadIdx.x, fours = N / 4, most = FEW_FLOATS / D;

    for (int first = 0; first < fours; first += most) {
        const int count = fours - first < most ? fours - first : most;

        __syncthreads();
        keep_fours(a, few, v + 4 * first * a.v.row, few->x + 4 * first, count);
        __syncthreads();
        if (d < D)
#pragma unroll 8
            for (int i = 0; i < count; i++)
                y = __fadd_rn(y, few->kept[i * D + d]);
    }
    if (d < D)
        for (int j = N - 1; j >= 4 * fours; j--)
            y = __fmaf_rn(bf16_to_f32(v[j * a.v.row + d]), few->x[j], y);
    return y;
}

/* ---- two or three rows: one chain ---- */

static __forceinline__ __device__ void keep_values(const struct attention &a, struct few *few,
                                                   const bf16 *v, int count)
{
    const int D = (int)a.s.width, columns = D / VECTOR;

    for (int i = (int)threadIdx.x; i < count * columns; i += SDPA_THREADS) {
        const int key = i / columns, column = i % columns * VECTOR;
        const union bf16_part part = bf16_read<VECTOR>(v + key * a.v.row + column, VECTOR);

#pragma unroll
        for (int c = 0; c < VECTOR; c++)
            few->kept[key * D + column + c] = part_get(part, c);
    }
}

static __forceinline__ __device__ float values_chained(const struct attention &a, struct few *few,
                                                       const bf16 *v, int N, float y)
{
    const int D = (int)a.s.width, d = (int)threadIdx.x, most = FEW_FLOATS / D;

    for (int first = 0; first < N; first += most) {
        const int count = N - first < most ? N - first : most;

        __syncthreads();
        keep_values(a, few, v + first * a.v.row, count);
        __syncthreads();
        if (d < D)
#pragma unroll 8
            for (int i = 0; i < count; i++)
                y = __fmaf_rn(few->kept[i * D + d], few->x[first + i], y);
    }
    return y;
}

/* ---- a row ---- */

/* A block computes row a.row + blockIdx.x of query head blockIdx.y; the group has gridDim.x rows. */
static __global__ void __launch_bounds__(SDPA_THREADS) sdpa_few_kernel(struct attention a)
{
    __shared__ struct few few;
    const int thread = (int)threadIdx.x, rows = (int)gridDim.x;
    const int t = (int)a.row + (int)blockIdx.x;
    const int64_t h = blockIdx.y, g = h / a.s.shared;
    const int end = (int)sdpa_group_keys(&a.s, a.row, rows);
    struct sdpa_state state = {-INFINITY, 0.0f};
    float y = 0.0f;

    if (thread < a.s.width)
        few.q[thread] = bf16_to_f32(sdpa_row(a.q, h, t)[thread]);
    for (int n = 0; n < end; n += SDPA_KEYS) {
        const int N = (int)min_i64(SDPA_KEYS, a.s.keys - n);
        const bf16 *v = sdpa_row(a.v, g, n);

        __syncthreads();
        few_scores(a, &few, sdpa_row(a.k, g, n), rows, N);
        __syncthreads();
        if (thread < WARP)
            few_softmax(a, &few, sdpa_block_of(a.s, t, n, N), &state);
        __syncthreads();
        y = __fmul_rn(y, few.factor);
        y = rows == 1 ? values_of_one(a, &few, v, N, y) : values_chained(a, &few, v, N, y);
        if (n == 0 || rows > 1)
            y = __fadd_rn(0.0f, y);
    }
    __syncthreads();
    if (thread == 0)
        few.factor = sdpa_inverse(state);
    __syncthreads();
    if (thread < a.s.width)
        a.y.data[h * a.y.head + t * a.y.row + thread] = bf16_from_f32(__fmul_rn(y, few.factor));
}

#endif
