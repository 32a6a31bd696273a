/* rms_norm.cu - rows (or heads) scaled to a mean square of 1.
 *
 * ATen's cascade sum (cpu/reduce.h) has 8 lanes x 4 accumulators: the 32 lanes of a warp, so a warp
 * adds up a row.  Wide rows of few tokens have a block each, whose other warps help to write. */
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/rows.cuh"

enum {
    LEVELS = 4,  /* of the cascade */
    STEP = 16,   /* terms before a level goes up to the next */
    LANES = 8,   /* x 4 accumulators */
    WARPS = 8,   /* of a block */
    NARROW = 512 /* elements of a row that one warp writes as fast as many */
};

struct norm {
    struct rows x, y;
    const bf16 *weight;
    enum norm_weight kind;
    float eps;
    int64_t width;
    uint32_t inner, count; /* norms of a row of x; norms */
};

static __forceinline__ __device__ float square(bf16 b)
{
    const float v = bf16_to_f32(b);

    return __fmul_rn(v, v);
}

/* After `terms` terms: adds level j to level j + 1 every 16^(j + 1) terms. */
static __forceinline__ __device__ void carry(float *level, int64_t terms)
{
    bool more = true;

#pragma unroll
    for (int j = 1; j < LEVELS; j++) {
        if (more) {
            level[j] = __fadd_rn(level[j], level[j - 1]);
            level[j - 1] = 0.0f;
        }
        more = more && (terms & ((int64_t)(STEP - 1) << (4 * j))) == 0;
    }
}

/* Returns the cascade sum of `terms` squares: every 32nd element from x on. */
static __forceinline__ __device__ float cascade(const bf16 *x, int64_t terms)
{
    float level[LEVELS] = {0.0f, 0.0f, 0.0f, 0.0f};
    int64_t i = 0;

#pragma unroll 2
    for (; i + STEP <= terms; i += STEP) {
        bf16 ahead[STEP];

#pragma unroll
        for (int j = 0; j < STEP; j++)
            ahead[j] = x[(i + j) * WARP];
#pragma unroll
        for (int j = 0; j < STEP; j++)
            level[0] = __fadd_rn(level[0], square(ahead[j]));
        carry(level, i + STEP);
    }
    for (; i < terms; i++)
        level[0] = __fadd_rn(level[0], square(x[i * WARP]));
    return __fadd_rn(__fadd_rn(__fadd_rn(level[0], level[1]), level[2]), level[3]);
}

/* Returns sum(x^2) of n >= 8 elements in every lane.  All lanes of the warp call it. */
static __device__ float sum_of_squares(const bf16 *x, int64_t n, int lane)
{
    const int64_t terms = n / WARP, vectors = n / LANES;
    float acc = cascade(x + lane, terms), sum = 0.0f, lanes;

    for (int64_t v = terms * 4; v < vectors; v++)
        if (lane < LANES)
            acc = __fadd_rn(acc, square(x[v * LANES + lane]));
    lanes = acc;
#pragma unroll
    for (int k = 1; k < 4; k++)
        lanes = __fadd_rn(lanes, __shfl_sync(WHOLE_WARP, acc, lane % LANES + k * LANES));
    for (int64_t i = vectors * LANES; i < n; i++)
        sum = __fadd_rn(sum, square(x[i]));
#pragma unroll
    for (int l = 0; l < LANES; l++)
        sum = __fadd_rn(sum, __shfl_sync(WHOLE_WARP, lanes, l));
    return sum;
}

/* The same for n < 8, less than a vector: one term in each of 4 accumulators, the rest in the first. */
static __device__ float sum_of_few(const bf16 *x, int64_t n)
{
    float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};

    if (n >= 4)
        for (int k = 0; k < 4; k++)
            acc[k] = square(x[k]);
    for (int64_t i = n & ~(int64_t)3; i < n; i++)
        acc[0] = __fadd_rn(acc[0], square(x[i]));
    return __fadd_rn(__fadd_rn(__fadd_rn(acc[0], acc[1]), acc[2]), acc[3]);
}

static __forceinline__ __device__ const bf16 *norm_at(const struct norm &n, uint32_t row)
{
    return row_at(n.x, row / n.inner) + row % n.inner * n.width;
}

static __device__ float scale_of(const struct norm &n, const bf16 *x, int lane)
{
    const float sum = n.width < LANES ? sum_of_few(x, n.width) : sum_of_squares(x, n.width, lane);
    const float mean = __fdiv_rn(sum, (float)n.width);

    return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, n.eps)));
}

/* Writes elements first, first + step, ... of a row: this thread's share. */
static __device__ void write_row(const struct norm &n, const bf16 *x, bf16 *y, float scale,
                                 int first, int step)
{
    int64_t i = first;

    if (n.width % VECTOR == 0 && is_aligned(x, sizeof(uint4)) && is_aligned(y, sizeof(uint4)) &&
        is_aligned(n.weight, sizeof(uint4))) {
        for (; i < n.width / VECTOR; i += step) {
            const union vector from = {((const uint4 *)x)[i]};
            const union vector weight = {((const uint4 *)n.weight)[i]};
            union vector to;

#pragma unroll
            for (int j = 0; j < VECTOR; j++)
                vector_set(&to, j,
                           norm_scaled(vector_get(from, j), vector_get(weight, j), n.kind, scale));
            ((uint4 *)y)[i] = to.whole;
        }
        return;
    }
    for (; i < n.width; i += step)
        y[i] = norm_scaled(x[i], n.weight[i], n.kind, scale);
}

/* A row a warp. */
static __global__ void narrow_kernel(struct norm n)
{
    const uint32_t row = blockIdx.x * WARPS + threadIdx.y;
    const int lane = (int)threadIdx.x;

    if (row < n.count) {
        const bf16 *x = norm_at(n, row);

        write_row(n, x, row_at(n.y, row), scale_of(n, x, lane), lane, WARP);
    }
}

/* A row a block. */
static __global__ void wide_kernel(struct norm n)
{
    __shared__ float scale;
    const bf16 *x = norm_at(n, blockIdx.x);

    if (threadIdx.y == 0) {
        const float of_row = scale_of(n, x, (int)threadIdx.x);

        if (threadIdx.x == 0)
            scale = of_row;
    }
    __syncthreads();
    write_row(n, x, row_at(n.y, blockIdx.x), scale, (int)(threadIdx.y * WARP + threadIdx.x),
              WARPS * WARP);
}

int cuda_rms_norm(const struct op_call *call)
{
    const struct tensor *x = call->in[0];
    const int64_t width = call->weight->plain.shape[0], inner = rows_width(x) / width;
    const struct norm n = {rows_of(x),
                           rows_of(call->out),
                           (const bf16 *)call->weight->plain.data,
                           call->attrs->norm,
                           (float)call->attrs->eps,
                           width,
                           (uint32_t)inner,
                           rows_count(x) * (uint32_t)inner};

    if (n.count == 0)
        return 0;
    if (width <= NARROW)
        LAUNCH(narrow_kernel, dim3(blocks_for(n.count, WARPS)), dim3(WARP, WARPS), 0,
               cuda_of(call)->stream, n);
    else
        LAUNCH(wide_kernel, dim3(n.count), dim3(WARP, WARPS), 0, cuda_of(call)->stream, n);
    return cuda_launched();
}
