/* slice.cu - a part of every row, or of each of its equal pieces. */
#include "kernels/cuda/rows.cuh"

enum { THREADS = 256 };

struct slice {
    struct rows x, y;
    int64_t count, width, part, step, first; /* width: of y; part, step: of a piece of y, of x */
};

static __global__ void slice_kernel(struct slice s)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < s.count) {
        const uint32_t row = (uint32_t)(i / s.width);
        const int64_t at = i % s.width;

        row_at(s.y, row)[at] = row_at(s.x, row)[at / s.part * s.step + s.first + at % s.part];
    }
}

int cuda_slice(const struct op_call *call)
{
    const struct op_attrs *a = call->attrs;
    const int64_t pieces = a->pieces ? a->pieces : 1, width = rows_width(call->out);
    const struct slice s = {rows_of(call->in[0]),    rows_of(call->out),
                            tensor_count(call->out), width,
                            width / pieces,          rows_width(call->in[0]) / pieces,
                            a->before * a->width};

    if (s.count == 0)
        return 0;
    LAUNCH(slice_kernel, dim3(blocks_for(s.count, THREADS)), dim3(THREADS), 0,
           cuda_of(call)->stream, s);
    return cuda_launched();
}
