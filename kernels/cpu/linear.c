/* linear.c - activations times a weight, one sum at a time, for any CPU. */
#include "kernels/cpu/backend_cpu.h"
#include "kernels/products.h"

enum { LINEAR_COLUMNS = 16 }; /* of a piece */

struct linear {
    const struct op_call *call;
    struct product_rule rule;
    int64_t rows, N, K;
};

static void linear_piece(const void *work, int64_t piece)
{
    const struct linear *l = work;
    const struct op_call *call = l->call;
    const bf16 *w = call->weight->plain.data;
    const bf16 *bias = call->bias ? call->bias->plain.data : NULL;
    const int64_t first = piece * LINEAR_COLUMNS;
    const int64_t end = first + LINEAR_COLUMNS < l->N ? first + LINEAR_COLUMNS : l->N;

    for (int64_t r = 0; r < l->rows; r++) {
        const bf16 *x = cpu_row(call->in[0], r);
        bf16 *y = cpu_row(call->out, r);

        for (int64_t n = first; n < end; n++) {
            const float sum = product_sum(&l->rule, x, w + n * l->K, 1, l->K);

            y[n] = bf16_from_f32(bias ? sum + bf16_to_f32(bias[n]) : sum);
        }
    }
}

int cpu_linear(const struct op_call *call)
{
    struct linear l = {.call = call,
                       .rows = cpu_row_count(call->in[0]),
                       .N = call->weight->plain.shape[0],
                       .K = call->weight->plain.shape[1]};

    l.rule = product_rule_of_linear(call);
    cpu_run(call, linear_piece, &l, cpu_pieces(l.N, LINEAR_COLUMNS));
    return 0;
}
