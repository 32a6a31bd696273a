/* program_run.c - the loop that runs a program's steps. */
#include <string.h>

#include "server/engine/fuse.h"

/* Rows [row, row + rows) of T; `slice` holds the tensors of a by_rows step, which may be asked for
 * any rows, and of a tail step, which is asked for all that its value holds. */
static void bind(const struct program *p, const struct step *s, const struct op_scope *scope,
                 struct tensor *values, struct call_rows *slice, int64_t row, int64_t rows,
                 struct op_call *call)
{
    *call = (struct op_call){.backend = p->backend,
                             .op = s->op,
                             .weight = s->weight,
                             .bias = s->bias,
                             .soon = {s->soon[0], s->soon[1]},
                             .attrs = &s->attrs,
                             .scope = *scope,
                             .out = &values[s->out]};
    for (int k = 0; k < s->inputs; k++)
        call->in[k] = &values[s->in[k]];
    if (!s->by_rows && !s->tail)
        return;
    for (int k = 0; k < s->inputs; k++) {
        const int64_t first = scope->tokens - call->in[k]->shape[0]; /* that it holds */

        slice->in[k] = tensor_slice(call->in[k], 0, row - first, rows);
        call->in[k] = &slice->in[k];
    }
    slice->out = tensor_slice(call->out, 0, 0, rows);
    call->out = &slice->out;
    call->scope.row = row;
}

int program_prepare(const struct program *p, const struct op_scope *scope, struct tensor *values,
                    struct error *err)
{
    for (int i = 0; p->backend->prepare && i < p->count; i++) {
        const struct step *s = &p->steps[i];
        const int64_t rows = scope->tokens < PROGRAM_ROWS ? scope->tokens : PROGRAM_ROWS;
        struct op_call call;
        struct call_rows slice;

        bind(p, s, scope, values, &slice, 0, s->by_rows ? rows : scope->tokens, &call);
        if (p->backend->prepare(p->backend, s->op, &call, err))
            return error_prefix(err, "%s: ", s->name);
    }
    return 0;
}

int program_joins(const struct program *p)
{
    return p->backend->group[GROUP_SAME] != NULL;
}

/* ---- one step ---- */

static int step_failed(const struct program *p, const struct step *s, struct gang *g)
{
    const char *why = p->backend->trouble ? p->backend->trouble(p->backend) : NULL;

    for (int k = 0; k < g->count; k++)
        if (!g->part[k]->error.code)
            error_set(&g->part[k]->error, 500, "%s: %s failed on %s%s%s", s->name, op_name(s->op),
                      p->backend->device, why ? ": " : "", why ? why : "");
    return -1;
}

static int replace(const struct op_call *call, const struct tap *tap, int by_rows)
{
    struct tensor part = *tap->replace;

    if (by_rows)
        part = tensor_slice(&part, 0, call->scope.row, call->out->shape[0]);
    return call->backend->copy(call->backend, call->out, &part);
}

static int run_calls(const struct op_call *call, int count)
{
    struct backend *b = call->backend;

    if (count > 1)
        return b->group[GROUP_SAME](call, 1, count);
    return count ? b->op[call->op](call) : 0;
}

static void emit(struct part *part, const struct step *s, int i, const struct op_call *call)
{
    const struct trace *trace = part->trace;

    if (trace->at[i].observe && !part->error.code &&
        trace->emit(trace->user, i, call->scope.row, call->out, &part->error))
        error_set(&part->error, 499, "%s: the reader of the trace went away", s->name);
}

/* Rows from `done` on of every part: all of them, or the next few of a by_rows step.  Returns
 * whether any are left, or -1. */
static int step_rows(const struct program *p, int i, struct gang *g, int64_t done)
{
    const struct step *s = &p->steps[i];
    struct part *of[GROUP_PARTS];
    int count = 0, replaced = 0, more = 0;

    for (int k = 0; k < g->count; k++) {
        struct part *part = g->part[k];
        const struct tap *tap = &part->trace->at[i];
        const int64_t first = s->by_rows ? part->trace->rows_from + done
                              : s->tail  ? part->rows_from
                                         : 0;
        const int64_t left = part->scope.tokens - first;
        const int64_t rows = s->by_rows && left > PROGRAM_ROWS ? PROGRAM_ROWS : left;
        struct op_call *call = &g->call[count];

        if (left <= 0)
            continue;
        more |= left > rows;
        if (tap->replace) /* from the other end */
            call = &g->call[GROUP_PARTS - ++replaced];
        else
            of[count++] = part;
        bind(p, s, &part->scope, part->values, &g->rows[call - g->call], first, rows, call);
        if (tap->replace) {
            if (replace(call, tap, s->by_rows))
                return step_failed(p, s, g);
            emit(part, s, i, call);
        }
    }
    if (run_calls(g->call, count))
        return step_failed(p, s, g);
    for (int k = 0; k < count; k++)
        emit(of[k], s, i, &g->call[k]);
    return more;
}

/* ---- steps as one ---- */

/* Whether no part wants anything of the group at i that it does not leave. */
static int group_fits(const struct program *p, int i, int last, const struct gang *g)
{
    const struct step *s = &p->steps[i];

    if (s->grouped < 2 || i + s->grouped > last)
        return 0;
    for (int k = 0; k < g->count; k++)
        for (int j = 0; j < s->grouped; j++) {
            const struct tap *tap = &g->part[k]->trace->at[i + j];

            if (tap->replace || (tap->observe && !fuse_leaves(s->group, j, s->grouped)))
                return 0;
        }
    return 1;
}

static int group_run(const struct program *p, int i, struct gang *g)
{
    const struct step *s = &p->steps[i];

    for (int j = 0; j < s->grouped; j++)
        for (int k = 0; k < g->count; k++) {
            const struct part *part = g->part[k];
            const int64_t first = s[j].tail ? part->rows_from : 0;
            const int at = j * g->count + k;

            bind(p, s + j, &part->scope, part->values, &g->rows[at], first,
                 part->scope.tokens - first, &g->call[at]);
        }
    if (p->backend->group[s->group](g->call, s->grouped, g->count))
        return step_failed(p, s, g);
    for (int j = 0; j < s->grouped; j++)
        for (int k = 0; k < g->count; k++)
            emit(g->part[k], s + j, i + j, &g->call[j * g->count + k]);
    return 0;
}

/* ---- all of them ---- */

/* How many go on. */
static int poll_parts(const struct step *s, struct gang *g)
{
    int alive = 0;

    for (int k = 0; k < g->count; k++) {
        struct part *part = g->part[k];
        const struct trace *trace = part->trace;

        if (!part->error.code && trace->poll && trace->poll(trace->user, &part->error))
            error_prefix(&part->error, "%s: ", s->name);
        alive += !part->error.code;
    }
    return alive;
}

/* The engine.  Tracing, replacing and step errors live here and nowhere else. */
void program_run(const struct program *p, int first, int last, struct gang *g)
{
    for (int i = first; i < last; i++) {
        int more = 1;

        if (!poll_parts(&p->steps[i], g))
            return;
        if (group_fits(p, i, last, g)) {
            if (group_run(p, i, g))
                return;
            i += p->steps[i].grouped - 1;
            continue;
        }
        for (int64_t done = 0; more; done += PROGRAM_ROWS) {
            more = step_rows(p, i, g, done);
            if (more < 0)
                return;
        }
    }
}
