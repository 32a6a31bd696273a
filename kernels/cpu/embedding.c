/* embedding.c - rows of a table. */
#include "kernels/cpu/backend_cpu.h"

#include <string.h>

static void embedding_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    const int64_t *tokens = call->in[0]->data, width = call->out->shape[1];
    const int64_t rows = call->out->shape[0], per_piece = cpu_rows_of_piece(width);
    const int64_t end = (piece + 1) * per_piece < rows ? (piece + 1) * per_piece : rows;

    for (int64_t t = piece * per_piece; t < end; t++)
        memcpy(cpu_row(call->out, t), cpu_row(&call->weight->plain, tokens[t]),
               (size_t)width * sizeof(bf16));
}

int cpu_embedding(const struct op_call *call)
{
    const struct tensor *out = call->out;

    cpu_run(call, embedding_piece, call,
            cpu_pieces(out->shape[0], cpu_rows_of_piece(out->shape[1])));
    return 0;
}
