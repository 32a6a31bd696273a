/* attention.c - scores, mask, softmax and the weighted sum of values; the products one sum at a
 * time, for any CPU. */
#include "kernels/cpu/backend_cpu.h"
#include "kernels/products.h"

enum { ATTENTION_COLUMNS = 16 }; /* keys, or elements of a head, of a piece */

struct attention {
    const struct op_call *call;
    struct product_rule rule;
    int64_t heads, shared; /* H; query heads of one key head */
    int64_t tokens, N, K;
    int64_t blocks; /* of columns */
};

static struct attention attention_of(const struct op_call *call, enum op op)
{
    const struct tensor *x = call->in[0], *w = call->in[1];
    struct attention a = {.call = call, .heads = x->shape[0], .tokens = x->shape[1]};

    a.shared = a.heads / w->shape[0];
    a.N = w->shape[op == OP_matmul_qk ? 1 : 2];
    a.K = w->shape[op == OP_matmul_qk ? 2 : 1];
    a.blocks = cpu_pieces(a.N, ATTENTION_COLUMNS);
    a.rule = product_rule_of_heads(call, op, a.N, a.K);
    return a;
}

static void matmul_qk_piece(const void *work, int64_t piece)
{
    const struct attention *a = work;
    const struct tensor *q = a->call->in[0], *k = a->call->in[1], *out = a->call->out;
    const int64_t h = piece / a->blocks, first = piece % a->blocks * ATTENTION_COLUMNS;
    const int64_t end = first + ATTENTION_COLUMNS < a->N ? first + ATTENTION_COLUMNS : a->N;
    const bf16 *keys = (const bf16 *)k->data + h / a->shared * k->stride[0];

    for (int64_t t = 0; t < a->tokens; t++)
        for (int64_t l = first; l < end; l++)
            cpu_row(out, h * a->tokens + t)[l] = bf16_from_f32(product_sum(
                &a->rule, cpu_row(q, h * a->tokens + t), keys + l * k->stride[1], 1, a->K));
}

int cpu_matmul_qk(const struct op_call *call)
{
    const struct attention a = attention_of(call, OP_matmul_qk);

    cpu_run(call, matmul_qk_piece, &a, a.heads * a.blocks);
    return 0;
}

static void matmul_pv_piece(const void *work, int64_t piece)
{
    const struct attention *a = work;
    const struct tensor *p = a->call->in[0], *v = a->call->in[1], *out = a->call->out;
    const int64_t h = piece / a->blocks, first = piece % a->blocks * ATTENTION_COLUMNS;
    const int64_t end = first + ATTENTION_COLUMNS < a->N ? first + ATTENTION_COLUMNS : a->N;
    const bf16 *values = (const bf16 *)v->data + h / a->shared * v->stride[0];

    for (int64_t t = 0; t < a->tokens; t++)
        for (int64_t d = first; d < end; d++)
            cpu_row(out, t)[h * a->N + d] = bf16_from_f32(product_sum(
                &a->rule, cpu_row(p, h * a->tokens + t), values + d, v->stride[1], a->K));
}

int cpu_matmul_pv(const struct op_call *call)
{
    const struct attention a = attention_of(call, OP_matmul_pv);

    cpu_run(call, matmul_pv_piece, &a, a.heads * a.blocks);
    return 0;
}

/* Rows [*first, *end) of a piece of an operation on [H, T, L]. */
static void attention_rows(const struct op_call *call, int64_t piece, int64_t *first, int64_t *end)
{
    const int64_t rows = cpu_row_count(call->out);
    const int64_t per_piece = cpu_rows_of_piece(call->out->shape[call->out->rank - 1]);

    *first = piece * per_piece;
    *end = *first + per_piece < rows ? *first + per_piece : rows;
}

static int attention_run(const struct op_call *call, pool_fn *fn)
{
    const struct tensor *out = call->out;

    cpu_run(call, fn, call,
            cpu_pieces(cpu_row_count(out), cpu_rows_of_piece(out->shape[out->rank - 1])));
    return 0;
}

static int64_t clamp(int64_t x, int64_t least, int64_t most)
{
    return x < least ? least : x > most ? most : x;
}

/* Keys [from, to) of a row are seen. */
static void causal_mask_row(const struct op_call *call, const bf16 *x, bf16 *y, int64_t t)
{
    const struct rows *rows = cpu_of(call)->rows;
    const int64_t keys = call->out->shape[2], window = call->attrs->window;
    const int64_t self = keys - call->out->shape[1] + t; /* the query's own key */
    const int64_t to = clamp(self + 1, 0, keys);
    const int64_t padding = call->scope.padding - (call->scope.past + call->out->shape[1] - keys);
    const int64_t first = window ? self + 1 - window : 0;
    const int64_t from = clamp(padding > first ? padding : first, 0, to);
    const float lowest = bf16_to_f32(0xff7f);

    rows->add_value(x, lowest, y, from);
    rows->add_value(x + from, 0.0f, y + from, to - from);
    rows->add_value(x + to, lowest, y + to, keys - to);
}

static void causal_mask_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    int64_t first, end;

    attention_rows(call, piece, &first, &end);
    for (int64_t r = first; r < end; r++)
        causal_mask_row(call, cpu_row(call->in[0], r), cpu_row(call->out, r),
                        r % call->out->shape[1]);
}

int cpu_causal_mask(const struct op_call *call)
{
    return attention_run(call, causal_mask_piece);
}

static void softmax_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    const int lanes = call->backend->numerics == NUMERICS_TORCH_CPU_AVX512_BF16 ? 16 : 8;
    int64_t first, end;

    attention_rows(call, piece, &first, &end);
    for (int64_t r = first; r < end; r++)
        cpu_of(call)->rows->softmax(cpu_row(call->in[0], r), cpu_row(call->out, r),
                                    call->out->shape[call->out->rank - 1], lanes);
}

int cpu_softmax(const struct op_call *call)
{
    return attention_run(call, softmax_piece);
}
