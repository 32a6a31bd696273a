/* elementwise.c - operations on each element by itself. */
#include "kernels/cpu/cpu.h"
#include "kernels/gelu.h"

/* One row of an operation: inputs, output, length. */
typedef void row_fn(const struct op_call *call, const bf16 *a, const bf16 *b, bf16 *y, int64_t n);

struct elementwise {
    const struct op_call *call;
    row_fn *row;
    int flat; /* all tensors are contiguous: one long row, cut anywhere */
    int64_t rows, n, per_piece;
};

static void elementwise_piece(const void *work, int64_t piece)
{
    const struct elementwise *e = work;
    const struct op_call *call = e->call;
    const int64_t first = piece * e->per_piece;
    const int64_t end = first + e->per_piece < e->rows ? first + e->per_piece : e->rows;

    if (e->flat) {
        e->row(call, (const bf16 *)call->in[0]->data + first,
               call->in[1] ? (const bf16 *)call->in[1]->data + first : NULL,
               (bf16 *)call->out->data + first, end - first);
        return;
    }
    for (int64_t r = first; r < end; r++)
        e->row(call, cpu_row(call->in[0], r), call->in[1] ? cpu_row(call->in[1], r) : NULL,
               cpu_row(call->out, r), e->n);
}

static int elementwise_run(const struct op_call *call, row_fn *row)
{
    const struct tensor *out = call->out;
    struct elementwise e = {.call = call, .row = row};

    e.flat = tensor_is_contiguous(out) && tensor_is_contiguous(call->in[0]) &&
             (!call->in[1] || tensor_is_contiguous(call->in[1]));
    e.n = out->shape[out->rank - 1];
    e.rows = e.flat ? tensor_count(out) : cpu_row_count(out);
    e.per_piece = e.flat ? CPU_PIECE : cpu_rows_of_piece(e.n);
    cpu_run(call, elementwise_piece, &e, cpu_pieces(e.rows, e.per_piece));
    return 0;
}

static void add_row(const struct op_call *call, const bf16 *a, const bf16 *b, bf16 *y, int64_t n)
{
    cpu_of(call)->rows->add(a, b, y, n);
}

static void mul_row(const struct op_call *call, const bf16 *a, const bf16 *b, bf16 *y, int64_t n)
{
    cpu_of(call)->rows->mul(a, b, y, n);
}

static void silu_row(const struct op_call *call, const bf16 *a, const bf16 *b, bf16 *y, int64_t n)
{
    (void)b;
    cpu_of(call)->rows->silu(a, y, n);
}

static void gelu_tanh_row(const struct op_call *call, const bf16 *a, const bf16 *b, bf16 *y,
                          int64_t n)
{
    (void)b;
    cpu_of(call)->rows->gelu_tanh(a, y, n);
}

static void scale_row(const struct op_call *call, const bf16 *a, const bf16 *b, bf16 *y, int64_t n)
{
    (void)b;
    cpu_of(call)->rows->scale(a, (float)call->attrs->by, y, n);
}

static void divide_row(const struct op_call *call, const bf16 *a, const bf16 *b, bf16 *y, int64_t n)
{
    (void)b;
    cpu_of(call)->rows->divide(a, (float)call->attrs->by, y, n);
}

static void tanh_row(const struct op_call *call, const bf16 *a, const bf16 *b, bf16 *y, int64_t n)
{
    (void)b;
    cpu_of(call)->rows->tanh(a, y, n);
}

int cpu_add(const struct op_call *call)
{
    return elementwise_run(call, add_row);
}

int cpu_mul(const struct op_call *call)
{
    return elementwise_run(call, mul_row);
}

int cpu_silu(const struct op_call *call)
{
    return elementwise_run(call, silu_row);
}

int cpu_gelu_tanh(const struct op_call *call)
{
    const struct tensor *x = call->in[0];
    const int64_t width = x->shape[x->rank - 1], count = tensor_count(x);
    int64_t i = gelu_tanh_vectorized(&call->scope, x, call->backend->numerics->lanes);

    elementwise_run(call, gelu_tanh_row);
    for (i = i > 0 ? i : 0; i < count; i++)
        cpu_row(call->out, i / width)[i % width] =
            gelu_tanh_left_over(cpu_row(x, i / width)[i % width]);
    return 0;
}

int cpu_divide(const struct op_call *call)
{
    return elementwise_run(call, divide_row);
}

int cpu_tanh(const struct op_call *call)
{
    return elementwise_run(call, tanh_row);
}

int cpu_scale(const struct op_call *call)
{
    return elementwise_run(call, scale_row);
}
