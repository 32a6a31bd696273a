/* scores.h - operations on the rows of scores [H, T, L]: how they are cut into pieces. */
#ifndef SAMEBIT_CPU_SCORES_H
#define SAMEBIT_CPU_SCORES_H

#include "kernels/cpu/cpu.h"

/* Rows [*first, *end) of a piece. */
static inline void scores_rows(const struct op_call *call, int64_t piece, int64_t *first,
                               int64_t *end)
{
    const int64_t rows = cpu_row_count(call->out);
    const int64_t per_piece = cpu_rows_of_piece(call->out->shape[call->out->rank - 1]);

    *first = piece * per_piece;
    *end = *first + per_piece < rows ? *first + per_piece : rows;
}

static inline int scores_run(const struct op_call *call, pool_fn *fn)
{
    const struct tensor *out = call->out;

    cpu_run(call, fn, call,
            cpu_pieces(cpu_row_count(out), cpu_rows_of_piece(out->shape[out->rank - 1])));
    return 0;
}

#endif
