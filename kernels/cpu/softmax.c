/* softmax.c - rows of scores to rows of weights. */
#include "kernels/cpu/scores.h"

static void softmax_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    const int lanes = call->backend->numerics->lanes;
    int64_t first, end;

    scores_rows(call, piece, &first, &end);
    for (int64_t r = first; r < end; r++)
        cpu_of(call)->rows->softmax(cpu_row(call->in[0], r), cpu_row(call->out, r),
                                    call->out->shape[call->out->rank - 1], lanes);
}

int cpu_softmax(const struct op_call *call)
{
    return scores_run(call, softmax_piece);
}
