/* products_plain.c - the matrix products one sum at a time, for any CPU; see products.h. */
#include "kernels/cpu/products.h"

#include "kernels/products.h"

enum { COLUMNS = 16 /* of the right operand, of a piece */ };

struct plain {
    const struct op_call *call;
    const struct product_rule *rule;
    int64_t rows, N, K; /* rows of one head */
    int64_t row;        /* linear: the first of them in PyTorch's call */
    int64_t shared;     /* query heads of one key head */
    int64_t blocks;     /* of columns */
};

/* Columns [*first, *end) of a piece's head, which is returned. */
static int64_t piece_of(const struct plain *p, int64_t piece, int64_t *first, int64_t *end)
{
    *first = piece % p->blocks * COLUMNS;
    *end = *first + COLUMNS < p->N ? *first + COLUMNS : p->N;
    return piece / p->blocks;
}

static void linear_piece(const void *work, int64_t piece)
{
    const struct plain *p = work;
    const struct op_call *call = p->call;
    const bf16 *w = call->weight->plain.data;
    const bf16 *bias = call->bias ? call->bias->plain.data : NULL;
    int64_t first, end;

    piece_of(p, piece, &first, &end);
    for (int64_t r = 0; r < p->rows; r++) {
        const bf16 *x = cpu_row(call->in[0], r);
        bf16 *y = cpu_row(call->out, r);

        for (int64_t n = first; n < end; n++) {
            const struct product_rule rule = product_rule_at(p->rule, p->row + r, n);
            const float sum = product_sum(&rule, x, w + n * p->K, 1, p->K);

            y[n] = product_round(&rule, bias ? sum + bf16_to_f32(bias[n]) : sum);
        }
    }
}

int cpu_linear_plain(const struct op_call *call, const struct product_rule *rule)
{
    struct plain p = {.call = call,
                      .rule = rule,
                      .rows = cpu_row_count(call->in[0]),
                      .row = call->scope.row,
                      .N = call->weight->plain.shape[0],
                      .K = call->weight->plain.shape[1]};

    p.blocks = cpu_pieces(p.N, COLUMNS);
    cpu_run(call, linear_piece, &p, p.blocks);
    return 0;
}

/* x [H, T, K] against N columns for each of the heads of w. */
static struct plain heads_of(const struct op_call *call, const struct product_rule *rule, int64_t N,
                             int64_t K)
{
    const struct tensor *x = call->in[0], *w = call->in[1];

    return (struct plain){.call = call,
                          .rule = rule,
                          .rows = x->shape[1],
                          .N = N,
                          .K = K,
                          .shared = x->shape[0] / w->shape[0],
                          .blocks = cpu_pieces(N, COLUMNS)};
}

static void qk_piece(const void *work, int64_t piece)
{
    const struct plain *p = work;
    const struct tensor *q = p->call->in[0], *k = p->call->in[1], *out = p->call->out;
    int64_t first, end, h = piece_of(p, piece, &first, &end);
    const bf16 *keys = (const bf16 *)k->data + h / p->shared * k->stride[0];

    for (int64_t t = 0; t < p->rows; t++) {
        const bf16 *x = cpu_row(q, h * p->rows + t);
        bf16 *y = cpu_row(out, h * p->rows + t);

        for (int64_t l = first; l < end; l++) {
            const struct product_rule rule = product_rule_at(p->rule, h * p->rows + t, l);

            y[l] = product_round(&rule, product_sum(&rule, x, keys + l * k->stride[1], 1, p->K));
        }
    }
}

int cpu_qk_plain(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *k = call->in[1];
    const struct plain p = heads_of(call, rule, k->shape[1], k->shape[2]);

    cpu_run(call, qk_piece, &p, call->in[0]->shape[0] * p.blocks);
    return 0;
}

static void pv_piece(const void *work, int64_t piece)
{
    const struct plain *p = work;
    const struct tensor *x = p->call->in[0], *v = p->call->in[1], *out = p->call->out;
    int64_t first, end, h = piece_of(p, piece, &first, &end);
    const bf16 *values = (const bf16 *)v->data + h / p->shared * v->stride[0];

    for (int64_t t = 0; t < p->rows; t++) {
        const bf16 *weights = cpu_row(x, h * p->rows + t);
        bf16 *y = cpu_row(out, t) + h * p->N;

        for (int64_t d = first; d < end; d++) {
            const struct product_rule rule = product_rule_at(p->rule, h * p->rows + t, d);

            y[d] =
                product_round(&rule, product_sum(&rule, weights, values + d, v->stride[1], p->K));
        }
    }
}

int cpu_pv_plain(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *v = call->in[1];
    const struct plain p = heads_of(call, rule, v->shape[2], v->shape[1]);

    cpu_run(call, pv_piece, &p, call->in[0]->shape[0] * p.blocks);
    return 0;
}
