/* layer_norm.c - rows moved to a mean of 0 and scaled to a variance of 1. */
#include "kernels/cpu/cpu.h"

static void layer_norm_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    const int64_t width = call->weight->plain.shape[0], rows = call->out->shape[0];
    const int64_t per_piece = cpu_rows_of_piece(width);
    const int64_t end = (piece + 1) * per_piece < rows ? (piece + 1) * per_piece : rows;

    for (int64_t r = piece * per_piece; r < end; r++)
        cpu_of(call)->rows->layer_norm(
            cpu_row(call->in[0], r), call->weight->plain.data, call->bias->plain.data,
            (float)call->attrs->eps, cpu_row(call->out, r), width, call->backend->numerics->lanes);
}

int cpu_layer_norm(const struct op_call *call)
{
    cpu_run(call, layer_norm_piece, call,
            cpu_pieces(call->out->shape[0], cpu_rows_of_piece(call->weight->plain.shape[0])));
    return 0;
}
