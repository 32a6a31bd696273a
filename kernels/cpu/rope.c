/* rope.c - the tables of cos and sin, and heads turned by them. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/rotary.h"

/* A cos or sin costs about as much as this many elements of other operations. */
enum { ROTARY_COST = 32 };

struct rotary_work {
    const struct op_call *call;
    const float *inv_freq;
};

static void rotary_piece(const void *user, int64_t piece)
{
    const struct rotary_work *work = user;
    const struct op_call *call = work->call;
    const float scale = call->attrs->rotary_scale;
    const int apart = call->attrs->table == ROPE_NEIGHBOURS;
    const int64_t half = call->attrs->inv_freq_count, rows = call->out->shape[0];
    const int64_t per_piece = cpu_rows_of_piece(half * ROTARY_COST);
    const int64_t end = (piece + 1) * per_piece < rows ? (piece + 1) * per_piece : rows;

    for (int64_t t = piece * per_piece; t < end; t++) {
        const float position = (float)((const int64_t *)call->in[0]->data)[t];
        bf16 *y = cpu_row(call->out, t);

        for (int64_t i = 0; i < half; i++) {
            const float angle = position * work->inv_freq[i];

            const bf16 value = call->attrs->part == ROTARY_COS ? rotary_cos(angle, scale)
                                                               : rotary_sin(angle, scale);

            y[apart ? 2 * i : i] = value;
            y[apart ? 2 * i + 1 : i + half] = value;
        }
    }
}

int cpu_rotary(const struct op_call *call)
{
    float room[ROPE_MOST_PAIRS];
    const struct rotary_work work = {call, rotary_of_call(call, room)};

    cpu_run(call, rotary_piece, &work,
            cpu_pieces(call->out->shape[0],
                       cpu_rows_of_piece(call->attrs->inv_freq_count * ROTARY_COST)));
    return 0;
}

/* One head of one token. */
static void turn(const struct op_call *call, const bf16 *x, int64_t t, bf16 *y)
{
    const struct op_attrs *a = call->attrs;
    const int64_t width = call->out->shape[2], turned = a->still ? 0 : call->in[1]->shape[1];
    const bf16 *cos = cpu_row(call->in[1], t), *sin = cpu_row(call->in[2], t);

    if (turned && a->pairs == ROPE_HALVES && a->table == ROPE_HALVES && a->apply == ROPE_BF16)
        cpu_of(call)->rows->rope(x, cos, sin, y, turned);
    else if (turned)
        cpu_of(call)->rows->rope_as(a, x, cos, sin, y, turned);
    memcpy(y + turned, x + turned, (size_t)(width - turned) * sizeof(bf16));
}

/* Rows of the output, heads first: r = head * T + t. */
static void rope_piece(const void *work, int64_t piece)
{
    const struct op_call *call = work;
    const struct tensor *x = call->in[0], *out = call->out;
    const int64_t tokens = out->shape[1], width = out->shape[2], rows = out->shape[0] * tokens;
    const int64_t head_step = x->rank == 3 ? x->stride[1] : width;
    const int64_t per_piece = cpu_rows_of_piece(width);
    const int64_t end = (piece + 1) * per_piece < rows ? (piece + 1) * per_piece : rows;

    for (int64_t r = piece * per_piece; r < end; r++) {
        const int64_t head = r / tokens, t = r % tokens;
        const bf16 *from = (const bf16 *)x->data + t * x->stride[0] + head * head_step;

        turn(call, from, t, cpu_row(out, r));
    }
}

int cpu_rope(const struct op_call *call)
{
    const struct tensor *out = call->out;

    cpu_run(call, rope_piece, call,
            cpu_pieces(out->shape[0] * out->shape[1], cpu_rows_of_piece(out->shape[2])));
    return 0;
}
