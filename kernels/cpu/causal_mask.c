/* causal_mask.c - adds the mask to attention scores: 0 for keys that the query sees, bf16's lowest
 * finite value for the others (kernels/ops.h, causal_mask). */
#include "kernels/cpu/scores.h"

static int64_t clamp(int64_t x, int64_t least, int64_t most)
{
    return x < least ? least : x > most ? most : x;
}

/* Masks one row: its query sees keys [from, to). */
static void causal_mask_row(const struct op_call *call, const bf16 *x, bf16 *y, int64_t t)
{
    const struct rows *rows = cpu_of(call)->rows;
    const int64_t keys = call->out->shape[2], window = call->attrs->window;
    const int64_t self = keys - call->out->shape[1] + t; /* the key of the query's own position */
    const int64_t to = clamp(self + 1, 0, keys);
    /* Keys of left padding: key j is position past + T - L + j. */
    const int64_t padding = call->scope.padding - (call->scope.past + call->out->shape[1] - keys);
    const int64_t first = window ? self + 1 - window : 0;
    const int64_t from = clamp(padding > first ? padding : first, 0, to);
    const float lowest = bf16_to_f32(0xff7f);

    rows->add_value(x, lowest, y, from);
    /* PyTorch adds the 0 too: -0 becomes +0. */
    rows->add_value(x + from, 0.0f, y + from, to - from);
    rows->add_value(x + to, lowest, y + to, keys - to);
}

static void causal_mask_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    int64_t first, end;

    scores_rows(call, piece, &first, &end);
    for (int64_t r = first; r < end; r++)
        causal_mask_row(call, cpu_row(call->in[0], r), cpu_row(call->out, r),
                        r % call->out->shape[1]);
}

int cpu_causal_mask(const struct op_call *call)
{
    return scores_run(call, causal_mask_piece);
}
