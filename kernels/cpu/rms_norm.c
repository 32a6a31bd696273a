/* rms_norm.c - rows (or heads) scaled to a mean square of 1. */
#include "kernels/cpu/cpu.h"

/* With a width, a row of the input holds several norms. */
static void rms_norm_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    const struct tensor *x = call->in[0];
    const int64_t width = call->weight->plain.shape[0], inner = x->shape[x->rank - 1] / width;
    const int64_t rows = cpu_row_count(x) * inner, per_piece = cpu_rows_of_piece(width);
    const int64_t end = (piece + 1) * per_piece < rows ? (piece + 1) * per_piece : rows;

    for (int64_t r = piece * per_piece; r < end; r++) {
        const bf16 *from = cpu_row(x, r / inner) + r % inner * width;

        cpu_of(call)->rows->rms_norm(from, call->weight->plain.data, call->attrs->norm,
                                     (float)call->attrs->eps, cpu_row(call->out, r), width);
    }
}

int cpu_rms_norm(const struct op_call *call)
{
    const int64_t width = call->weight->plain.shape[0];

    cpu_run(call, rms_norm_piece, call,
            cpu_pieces(tensor_count(call->in[0]) / width, cpu_rows_of_piece(width)));
    return 0;
}
