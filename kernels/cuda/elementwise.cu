/* elementwise.cu - operations on each element by itself.
 *
 * Bound by memory: 128 bits a thread where tensors are contiguous, else one element. */
#include "kernels/cuda/elementwise.cuh"

enum { THREADS = 256 };

struct operands {
    struct rows a, b, y; /* b: of ADD and MUL */
    float by;            /* of SCALE and DIVIDE */
    int64_t width, count;
    int64_t vectorized; /* of GELU_TANH: the first element that ATen's loop leaves over */
};

/* Contiguous and aligned: vector i, and of the last few elements the i-th. */
template <enum elementwise kind> static __global__ void flat_kernel(struct operands o)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const bool two = kind == ADD || kind == MUL;

    if (i < o.count / VECTOR) {
        const union vector a = {((const uint4 *)o.a.data)[i]};
        const union vector b = two ? vector{((const uint4 *)o.b.data)[i]} : a;
        union vector y;

#pragma unroll
        for (int j = 0; j < VECTOR; j++)
            vector_set(&y, j, element<kind>(vector_get(a, j), vector_get(b, j), o.by));
        ((uint4 *)o.y.data)[i] = y.whole;
    }
    if (i < o.count % VECTOR) {
        const int64_t at = o.count / VECTOR * VECTOR + i;

        o.y.data[at] = element<kind>(o.a.data[at], two ? o.b.data[at] : (bf16)0, o.by);
    }
}

template <enum elementwise kind> static __global__ void strided_kernel(struct operands o)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < o.count) {
        const uint32_t row = (uint32_t)(i / o.width);
        const int64_t at = i % o.width;
        const bool two = kind == ADD || kind == MUL;

        row_at(o.y, row)[at] =
            element<kind>(row_at(o.a, row)[at], two ? row_at(o.b, row)[at] : (bf16)0, o.by);
    }
}

/* What ATen's loop leaves over, again. */
static __global__ void left_over_kernel(struct operands o)
{
    const int64_t i = o.vectorized + threadIdx.x;

    if (i < o.count)
        row_at(o.y, (uint32_t)(i / o.width))[i % o.width] =
            gelu_tanh_left_over(row_at(o.a, (uint32_t)(i / o.width))[i % o.width]);
}

typedef void operands_kernel(struct operands o);

static bool is_flat(const struct tensor *t)
{
    return tensor_is_contiguous(t) && is_aligned(t->data, sizeof(uint4));
}

static int run(const struct op_call *call, operands_kernel *flat, operands_kernel *strided)
{
    const struct tensor *a = call->in[0], *b = call->in[1] ? call->in[1] : a, *y = call->out;
    const struct operands o = {rows_of(a),    rows_of(b),      rows_of(y), (float)call->attrs->by,
                               rows_width(y), tensor_count(y), 0};

    if (o.count == 0)
        return 0;
    if (is_flat(a) && is_flat(b) && is_flat(y))
        LAUNCH(flat, dim3(blocks_for(o.count, THREADS * VECTOR)), dim3(THREADS), 0,
               cuda_of(call)->stream, o);
    else
        LAUNCH(strided, dim3(blocks_for(o.count, THREADS)), dim3(THREADS), 0, cuda_of(call)->stream,
               o);
    return cuda_launched();
}

int cuda_add(const struct op_call *call)
{
    return run(call, flat_kernel<ADD>, strided_kernel<ADD>);
}

int cuda_mul(const struct op_call *call)
{
    return run(call, flat_kernel<MUL>, strided_kernel<MUL>);
}

int cuda_scale(const struct op_call *call)
{
    return run(call, flat_kernel<SCALE>, strided_kernel<SCALE>);
}

int cuda_divide(const struct op_call *call)
{
    return run(call, flat_kernel<DIVIDE>, strided_kernel<DIVIDE>);
}

int cuda_tanh(const struct op_call *call)
{
    return run(call, flat_kernel<TANH>, strided_kernel<TANH>);
}

int cuda_silu(const struct op_call *call)
{
    return run(call, flat_kernel<SILU>, strided_kernel<SILU>);
}

int cuda_gelu_tanh(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *y = call->out;
    const int64_t first = gelu_tanh_vectorized(&call->scope, x, call->backend->numerics->lanes);
    const struct operands o = {rows_of(x),    rows_of(x),      rows_of(y),           0.0f,
                               rows_width(y), tensor_count(y), first > 0 ? first : 0};

    if (run(call, flat_kernel<GELU_TANH>, strided_kernel<GELU_TANH>))
        return -1;
    if (o.vectorized >= o.count)
        return 0;
    LAUNCH(left_over_kernel, dim3(1), dim3(THREADS), 0, cuda_of(call)->stream, o);
    return cuda_launched();
}
