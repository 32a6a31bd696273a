/* embedding.c - rows of a table. */
#include "kernels/cpu/panels.h"

#include <string.h>

/* Where the table is a linear's weight too, it is there as panels only. */
static void read_row(const struct weight *table, int64_t token, bf16 *row)
{
    const int64_t width = table->plain.shape[1];

    if (table->packed)
        panels_read_row(table->packed, width, token, row);
    else
        memcpy(row, cpu_row(&table->plain, token), (size_t)width * sizeof(bf16));
}

static void embedding_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    const int64_t *tokens = call->in[0]->data, width = call->out->shape[1];
    const int64_t rows = call->out->shape[0], per_piece = cpu_rows_of_piece(width);
    const float by = bf16_to_f32(bf16_from_f32((float)call->attrs->by));
    const int64_t end = (piece + 1) * per_piece < rows ? (piece + 1) * per_piece : rows;

    for (int64_t t = piece * per_piece; t < end; t++) {
        bf16 *row = cpu_row(call->out, t);

        read_row(call->weight, tokens[t], row);
        for (int64_t i = 0; by != 0 && i < width; i++)
            row[i] = bf16_from_f32(bf16_to_f32(row[i]) * by);
    }
}

int cpu_embedding(const struct op_call *call)
{
    const struct tensor *out = call->out;

    cpu_run(call, embedding_piece, call,
            cpu_pieces(out->shape[0], cpu_rows_of_piece(out->shape[1])));
    return 0;
}
