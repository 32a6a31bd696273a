/* rms_norm.cu - rows (or heads) scaled to a mean square of 1, the mean in ATen's order.
 *
 * A block is PyTorch's own: block_x threads along a row; block_y such rows of threads share one row
 * of the tensor (split) or have one each.  Per row of the tensor:
 *   thread     four accumulators from 0: element i of every vector of 4 into accumulator i; or, not
 *              in vectors, elements first, first + step, ... into accumulators 0, 1, 2, 3, 0, ...
 *              ((a0 + a1) + a2) + a3
 *   x          halves down to 32 threads through shared memory, then a warp's shuffle, 16 .. 1
 *   y          if split: halves through shared memory
 * Vectors begin at a 16-byte boundary of PyTorch's f32 tensor: up to three elements before it and
 * after the last whole vector go into accumulator 0. */
#include "kernels/cuda/aten/aten.cuh"
#include "kernels/cuda/norm.cuh"

struct aten_norm {
    const bf16 *x, *w;
    enum norm_weight kind;
    bf16 *y;
    int64_t rows;
    int n;
    float eps;
    struct mean_launch mean;
};

static __device__ float square(bf16 x)
{
    const float value = bf16_to_f32(x);

    return __fmul_rn(value, value); /* exact */
}

static __device__ float combine(const float *sum)
{
    return __fadd_rn(__fadd_rn(__fadd_rn(sum[0], sum[1]), sum[2]), sum[3]);
}

/* edges: whether this thread takes part in the elements that no vector holds. */
static __device__ float sum_vectors(const bf16 *x, int n, int shift, int first, int step, int edges)
{
    const int t = (int)threadIdx.x;
    float sum[MEAN_ACCUMULATORS] = {0.0f, 0.0f, 0.0f, 0.0f};
    int end = n;

    if (shift) {
        if (edges && t >= shift && t < MEAN_ACCUMULATORS)
            sum[0] = __fadd_rn(sum[0], square(x[t - shift]));
        x += MEAN_ACCUMULATORS - shift;
        end -= MEAN_ACCUMULATORS - shift;
    }
    for (int v = first; v * 4 + 3 < end; v += step)
        for (int i = 0; i < MEAN_ACCUMULATORS; i++)
            sum[i] = __fadd_rn(sum[i], square(x[v * 4 + i]));
    if (edges && end - end % 4 + t < end)
        sum[0] = __fadd_rn(sum[0], square(x[end - end % 4 + t]));
    return combine(sum);
}

static __device__ float sum_elements(const bf16 *x, int n, int first, int step)
{
    float sum[MEAN_ACCUMULATORS] = {0.0f, 0.0f, 0.0f, 0.0f};

    for (int base = first; base < n; base += MEAN_ACCUMULATORS * step)
        for (int i = 0; i < MEAN_ACCUMULATORS; i++)
            if (base + i * step < n)
                sum[i] = __fadd_rn(sum[i], square(x[base + i * step]));
    return combine(sum);
}

/* The sum of a row of threads, in its thread 0. */
static __device__ float sum_along_x(float sum, float *shared)
{
    const int x = (int)threadIdx.x, width = (int)blockDim.x, at = x + (int)threadIdx.y * width;
    const int threads = width * (int)blockDim.y, lanes = width < 32 ? width : 32;
    const unsigned mask = threads < 32 ? (1u << threads) - 1 : 0xffffffffu;

    if (width > 32) {
        shared[at] = sum;
        for (int half = width / 2; half >= 32; half /= 2) {
            __syncthreads();
            if (x < half) {
                sum = __fadd_rn(sum, shared[at + half]);
                shared[at] = sum;
            }
        }
    }
    for (int half = lanes / 2; half > 0; half /= 2)
        sum = __fadd_rn(sum, __shfl_down_sync(mask, sum, half, lanes));
    return sum;
}

/* The sum of all threads of the block, in thread 0; shared: one a row of threads. */
static __device__ float sum_along_y(float sum, float *shared)
{
    const int y = (int)threadIdx.y;

    if (threadIdx.x == 0)
        shared[y] = sum;
    for (int half = (int)blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x == 0 && y < half) {
            sum = __fadd_rn(sum, shared[y + half]);
            shared[y] = sum;
        }
    }
    return sum;
}

static __device__ float row_sum(const struct aten_norm *norm, int64_t row, float *shared)
{
    const int split = norm->mean.split;
    const int first = (int)(threadIdx.x + (split ? threadIdx.y * blockDim.x : 0));
    const bf16 *x = norm->x + row * norm->n;
    float sum = 0.0f;

    if (row < norm->rows)
        sum = norm->mean.vectors ? sum_vectors(x, norm->n, (int)(row * norm->n % 4), first,
                                               norm->mean.step, !split || threadIdx.y == 0)
                                 : sum_elements(x, norm->n, first, norm->mean.step);
    sum = sum_along_x(sum, shared);
    return split ? sum_along_y(sum, shared + blockDim.x * blockDim.y) : sum;
}

static __device__ void scale_row(const struct aten_norm *norm, int64_t row, float r)
{
    const int split = norm->mean.split;
    const int threads = (int)(split ? blockDim.x * blockDim.y : blockDim.x);
    const bf16 *x = norm->x + row * norm->n;
    bf16 *y = norm->y + row * norm->n;

    for (int i = (int)(threadIdx.x + (split ? threadIdx.y * blockDim.x : 0)); i < norm->n;
         i += threads)
        y[i] = norm_scaled(x[i], norm->w[i], norm->kind, r);
}

/* Shared: a sum a thread, a sum and a factor a row of threads. */
static __global__ void rms_norm_kernel(struct aten_norm norm)
{
    DYNAMIC_SHARED(float, shared);
    float *factor = shared + (blockDim.x + 1) * blockDim.y;
    const int y = norm.mean.split ? 0 : (int)threadIdx.y;
    const int64_t row = (int64_t)blockIdx.x * norm.mean.rows_per_block + y;
    const float sum = row_sum(&norm, row, shared);

    if (threadIdx.x == 0 && (int)threadIdx.y == y)
        factor[y] = rsqrtf(__fadd_rn(__fmul_rn(sum, norm.mean.factor), norm.eps));
    __syncthreads();
    if (row < norm.rows)
        scale_row(&norm, row, factor[y]);
}

int aten_rms_norm(const struct op_call *call)
{
    const struct tensor *x = call->in[0];
    const int64_t n = call->weight->plain.shape[0], tokens = x->shape[0];
    const int64_t rows = tensor_count(x) / n;
    const int64_t all = tokens ? aten_batch(call) * call->scope.tokens * (rows / tokens) : 0;
    struct aten_norm norm = {(const bf16 *)x->data,
                             (const bf16 *)call->weight->plain.data,
                             call->attrs->norm,
                             (bf16 *)call->out->data,
                             rows,
                             (int)n,
                             (float)call->attrs->eps,
                             {}};

    if (!rows)
        return 0;
    if (!tensor_is_contiguous(x) || !tensor_is_contiguous(call->out) ||
        mean_config(all, n, &norm.mean) || (norm.mean.vectors && n % 4 && rows != all))
        return -1;
    LAUNCH(rms_norm_kernel,
           dim3((unsigned)((rows + norm.mean.rows_per_block - 1) / norm.mean.rows_per_block)),
           dim3((unsigned)norm.mean.block_x, (unsigned)norm.mean.block_y),
           sizeof(float) * (size_t)((norm.mean.block_x + 2) * norm.mean.block_y),
           cuda_of(call)->stream, norm);
    return cuda_launched();
}
