/* sdpa.cuh - what the kernels of scaled_dot_product_attention share: operands, and the softmax of a
 * row's block of keys by one warp. */
#ifndef SAMEBIT_CUDA_SDPA_CUH
#define SAMEBIT_CUDA_SDPA_CUH

#include "kernels/cuda/products.cuh"
#include "kernels/sdpa.h"

enum {
    SDPA_THREADS = 256,           /* of a block; no fewer than SDPA_WIDEST */
    SDPA_SLOTS = SDPA_KEYS / WARP /* keys of a lane: lane + WARP * slot */
};

/* Row t of head h begins at h * head + t * row. */
struct sdpa_rows {
    bf16 *data;
    int64_t head, row;
};

struct attention {
    struct sdpa s;
    struct sdpa_rows q, k, v, y;
    int64_t row; /* the first that the launch computes */
};

static __forceinline__ __device__ const bf16 *sdpa_row(const struct sdpa_rows &m, int64_t head,
                                                       int64_t row)
{
    return m.data + head * m.head + row * m.row;
}

/* ---- the softmax of a block ---- */

struct sdpa_state {
    float max, sum; /* sum: in lane 0 of the row's warp */
};

/* One row and one block of keys: how many of the keys it sees, and how many are in whole vectors of
 * ATen's. */
struct sdpa_block {
    int from, to, N, whole;
};

static __forceinline__ __device__ struct sdpa_block sdpa_block_of(const struct sdpa &s, int t,
                                                                  int n, int N)
{
    int64_t to, from = sdpa_seen(&s, t, &to);

    return sdpa_block{(int)(from - n), (int)(to - n), N, N - N % (int)s.lanes};
}

/* The score of key j < N as it enters the softmax. */
static __forceinline__ __device__ float sdpa_score(const struct sdpa &s, const struct sdpa_block &b,
                                                   const float *x, int j)
{
    const bool seen = j >= b.from && j < b.to;

    return s.masked ? __fmaf_rn(x[j], s.scale, seen ? 0.0f : -INFINITY)
                    : __fmul_rn(seen ? x[j] : -INFINITY, s.scale);
}

/* Reads this lane's scores, -inf beyond N; returns the maximum of the block of keys. */
static __forceinline__ __device__ float
sdpa_scores(const struct sdpa &s, const struct sdpa_block &b, const float *x, float *e)
{
    float most = -INFINITY;
    int nan = 0;

#pragma unroll
    for (int i = 0; i < SDPA_SLOTS; i++) {
        const int j = (int)threadIdx.x % WARP + WARP * i;

        e[i] = j < b.N ? sdpa_score(s, b, x, j) : -INFINITY;
        most = e[i] > most ? e[i] : most;
        nan |= e[i] != e[i] && (s.masked || j < b.whole);
    }
    for (int d = WARP / 2; d; d /= 2) {
        const float other = __shfl_xor_sync(WHOLE_WARP, most, d);

        most = other > most ? other : most;
    }
    return __any_sync(WHOLE_WARP, nan) ? NAN : most;
}

/* e = FEXP(e - most) for the keys in whole vectors, `left` for the others; returns the sum over the
 * keys in whole vectors, in lane 0. */
static __forceinline__ __device__ float sdpa_weights(int lanes, const struct sdpa_block &b,
                                                     float most, float left, float *e)
{
    float sum = 0.0f;

#pragma unroll
    for (int i = 0; i < SDPA_SLOTS; i++) {
        const int j = (int)threadIdx.x % WARP + WARP * i;
        const float weight = j < b.whole ? sdpa_fexp(__fsub_rn(e[i], most)) : 0.0f;

        sum = __fadd_rn(sum, weight);
        if (lanes < WARP / 2)
            sum = __fadd_rn(sum, __shfl_xor_sync(WHOLE_WARP, weight, WARP / 2));
        e[i] = j >= b.whole && j < b.N ? left : weight;
    }
    for (int d = lanes; d; d /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(WHOLE_WARP, sum, d));
    return sum;
}

/* One warp: x [N] are the scores of a row, e [SDPA_SLOTS] becomes this lane's weights, not rounded.
 * Returns the factor for the sums of earlier blocks.  Keys outside whole vectors are in one slot. */
static __forceinline__ __device__ float sdpa_softmax(const struct sdpa &s,
                                                     const struct sdpa_block &b, const float *x,
                                                     float *e, struct sdpa_state *state)
{
    const int j = b.whole - b.whole % WARP + (int)threadIdx.x % WARP;
    float most = sdpa_scores(s, b, x, e), left = 0.0f, sum, old;

    most = state->max > most ? state->max : most;
    if (most == -INFINITY) {
#pragma unroll
        for (int i = 0; i < SDPA_SLOTS; i++)
            e[i] = 0.0f;
        return 1.0f;
    }
    if (j >= b.whole && j < b.N)
        left = sdpa_exp_tail(__fsub_rn(sdpa_score(s, b, x, j), most));
    sum = sdpa_weights((int)s.lanes, b, most, left, e);
    for (int k = b.whole; k < b.N; k++)
        sum = __fadd_rn(sum, __shfl_sync(WHOLE_WARP, left, k % WARP));
    old = sdpa_exp_old(__fsub_rn(state->max, most));
    state->sum = __fmaf_rn(old, state->sum, sum);
    state->max = most;
    return old;
}

/* In lane 0. */
static __forceinline__ __device__ float sdpa_inverse(const struct sdpa_state &state)
{
    return __fdiv_rn(1.0f, state.sum == 0.0f ? 1.0f : state.sum);
}

/* ---- sums in lanes ---- */

/* s[d % LANES] = fma(q[d], k[d], s[d % LANES]), q `step` apart; LANES is 4 or 8. */
template <int LANES, class Query>
static __forceinline__ __device__ float sdpa_sum_in_lanes(const Query &q, const bf16 *k, int width)
{
    float s[LANES] = {};

#pragma unroll 2
    for (int d = 0; d < width; d += VECTOR) {
        const union bf16_part part = bf16_read<VECTOR>(k + d, VECTOR);

#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            const float x = i % 2 ? high_of(part.pair[i / 2]) : low_of(part.pair[i / 2]);

            s[i % LANES] = __fmaf_rn(q(d + i), x, s[i % LANES]);
        }
    }
    if (LANES == 8)
#pragma unroll
        for (int l = 0; l < 4; l++)
            s[l] = __fadd_rn(s[l], s[l + LANES - 4]);
    return __fadd_rn(__fadd_rn(s[0], s[2]), __fadd_rn(s[1], s[3]));
}

/* Returns whether the score of key j of N is summed in 8 lanes (else 4), in a group of `rows`. */
static __forceinline__ __device__ bool sdpa_is_wide(int rows, int j, int N)
{
    return rows > 1 && N > 1 && j >= N - N % 4;
}

#endif
