/* slice.c - a part of every row, or of each of its equal pieces. */
#include <string.h>

#include "kernels/cpu/cpu.h"

static void slice_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    const struct op_attrs *a = call->attrs;
    const int64_t pieces = a->pieces ? a->pieces : 1, part = call->out->shape[1] / pieces;
    const int64_t step = call->in[0]->shape[1] / pieces, rows = call->out->shape[0];
    const int64_t per_piece = cpu_rows_of_piece(call->out->shape[1]);
    const int64_t end = (piece + 1) * per_piece < rows ? (piece + 1) * per_piece : rows;

    for (int64_t r = piece * per_piece; r < end; r++)
        for (int64_t i = 0; i < pieces; i++)
            memcpy(cpu_row(call->out, r) + i * part,
                   cpu_row(call->in[0], r) + i * step + a->before * a->width,
                   (size_t)part * sizeof(bf16));
}

int cpu_slice(const struct op_call *call)
{
    cpu_run(call, slice_piece, call,
            cpu_pieces(call->out->shape[0], cpu_rows_of_piece(call->out->shape[1])));
    return 0;
}
