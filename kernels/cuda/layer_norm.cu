/* layer_norm.cu - rows moved to a mean of 0 and scaled to a variance of 1.
 *
 * A warp has a row: its first threads a lane of ATen's vectors each, and all write. */
#include "kernels/cuda/rows.cuh"

#include "kernels/layer_norm.h"

enum { WARPS = 4 };

struct layer_norm {
    struct rows x, y;
    const bf16 *weight, *bias;
    float eps;
    int64_t width;
    uint32_t count;
    int lanes;
};

static __global__ void layer_norm_kernel(struct layer_norm n)
{
    __shared__ struct moments lane[WARPS][MOMENTS_LANES];
    const uint32_t row = blockIdx.x * WARPS + threadIdx.y;
    const int thread = (int)threadIdx.x;

    if (row < n.count && thread < n.lanes)
        lane[threadIdx.y][thread] = moments_of_lane(row_at(n.x, row), n.width, n.lanes, thread);
    __syncthreads();
    if (row < n.count) {
        const bf16 *x = row_at(n.x, row);
        const struct moments m = moments_of_row(x, n.width, n.lanes, lane[threadIdx.y]);
        const float scale = moments_scale(&m, n.width, n.eps);
        bf16 *y = row_at(n.y, row);

        for (int64_t i = thread; i < n.width; i += WARP)
            y[i] = layer_norm_element(x[i], n.weight[i], n.bias[i], scale, m.mean);
    }
}

int cuda_layer_norm(const struct op_call *call)
{
    const struct layer_norm n = {rows_of(call->in[0]),
                                 rows_of(call->out),
                                 (const bf16 *)call->weight->plain.data,
                                 (const bf16 *)call->bias->plain.data,
                                 (float)call->attrs->eps,
                                 rows_width(call->out),
                                 rows_count(call->out),
                                 call->backend->numerics->lanes};

    if (n.count == 0)
        return 0;
    LAUNCH(layer_norm_kernel, dim3(blocks_for(n.count, WARPS)), dim3(WARP, WARPS), 0,
           cuda_of(call)->stream, n);
    return cuda_launched();
}
