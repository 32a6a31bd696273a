/* program_run.c - the loop that runs a program's steps.  Tracing, replacing and step errors live in
 * this file and nowhere else. */
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
                             .soon = {s->soon[0], s->soon[1]},
                             .attrs = &s->attrs,
                             .scope = *scope,
                             .out = &values[s->out]};
    memcpy(call->weights, s->weights, sizeof(s->weights));
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

static int step_failed(const struct program *p, const struct step *s, struct call_set *set)
{
    const char *why = p->backend->trouble ? p->backend->trouble(p->backend) : NULL;

    for (int k = 0; k < set->count; k++)
        if (!set->at[k]->error.code)
            error_set(&set->at[k]->error, 500, "%s: %s failed on %s%s%s", s->name, op_name(s->op),
                      p->backend->device, why ? ": " : "", why ? why : "");
    return -1;
}

/* Puts a given value where a computed one would be. */
static int put(const struct op_call *call, const struct tensor *given, int by_rows)
{
    struct tensor value = *given;

    if (by_rows)
        value = tensor_slice(&value, 0, call->scope.row, call->out->shape[0]);
    return call->backend->copy(call->backend, call->out, &value);
}

static int run_calls(const struct op_call *call, int count)
{
    struct backend *b = call->backend;

    if (count > 1)
        return b->group[GROUP_SAME](call, 1, count);
    return count ? b->op[call->op](call) : 0;
}

static void emit(struct model_call *m, const struct step *s, int i, const struct op_call *call)
{
    const struct trace *trace = m->trace;

    if (trace->at[i].observe && !m->error.code &&
        trace->emit(trace->user, i, call->scope.row, call->out, &m->error))
        error_set(&m->error, 499, "%s: the reader of the trace went away", s->name);
}

/* Shows a step's value, and goes on with the one that is given in its place. */
static int settle(struct model_call *m, const struct step *s, int i, const struct op_call *call)
{
    const struct tensor *take = m->trace->at[i].take;

    emit(m, s, i, call);
    return take ? put(call, take, s->by_rows) : 0;
}

/* A step that its trace, not the backend, makes: a given value, or a computation of its own. */
static int make(struct model_call *m, const struct step *s, int i, const struct op_call *call)
{
    const struct trace *trace = m->trace;

    if (trace->at[i].replace && put(call, trace->at[i].replace, s->by_rows))
        return -1;
    if (!trace->at[i].replace && !m->error.code)
        trace->compute(trace->user, i, call, &m->error);
    return settle(m, s, i, call);
}

/* Rows from `done` on of every call: all of them, or the next few of a by_rows step.  Returns
 * whether any are left, or -1. */
static int step_rows(const struct program *p, int i, struct call_set *set, int64_t done)
{
    const struct step *s = &p->steps[i];
    struct model_call *of[GROUP_PARTS];
    int count = 0, made = 0, more = 0;

    for (int k = 0; k < set->count; k++) {
        struct model_call *m = set->at[k];
        const struct tap *tap = &m->trace->at[i];
        const int64_t first = s->by_rows ? m->trace->rows_from + done : s->tail ? m->rows_from : 0;
        const int64_t left = m->scope.tokens - first;
        const int64_t rows = s->by_rows && left > PROGRAM_ROWS ? PROGRAM_ROWS : left;
        struct op_call *call = &set->op_call[count];

        if (left <= 0 || tap->skip)
            continue;
        more |= left > rows;
        if (tap->replace || tap->own) /* from the other end */
            call = &set->op_call[GROUP_PARTS - ++made];
        else
            of[count++] = m;
        bind(p, s, &m->scope, m->values, &set->rows[call - set->op_call], first, rows, call);
        if ((tap->replace || tap->own) && make(m, s, i, call))
            return step_failed(p, s, set);
    }
    if (run_calls(set->op_call, count))
        return step_failed(p, s, set);
    for (int k = 0; k < count; k++)
        if (settle(of[k], s, i, &set->op_call[k]))
            return step_failed(p, s, set);
    return more;
}

/* ---- a group: steps that the backend does as one ---- */

/* Returns whether the steps at i can run as one: no trace looks at a value that this leaves out. */
static int group_fits(const struct program *p, int i, int last, const struct call_set *set)
{
    const struct step *s = &p->steps[i];

    if (s->grouped < 2 || i + s->grouped > last)
        return 0;
    for (int k = 0; k < set->count; k++)
        for (int j = 0; j < s->grouped; j++) {
            const struct tap *tap = &set->at[k]->trace->at[i + j];

            if (tap->skip || tap->replace || tap->own || tap->take ||
                (tap->observe && !fuse_leaves(s->group, j, s->grouped)))
                return 0;
        }
    return 1;
}

static int group_run(const struct program *p, int i, struct call_set *set)
{
    const struct step *s = &p->steps[i];

    for (int j = 0; j < s->grouped; j++)
        for (int k = 0; k < set->count; k++) {
            const struct model_call *m = set->at[k];
            const int64_t first = s[j].tail ? m->rows_from : 0;
            const int at = j * set->count + k;

            bind(p, s + j, &m->scope, m->values, &set->rows[at], first, m->scope.tokens - first,
                 &set->op_call[at]);
        }
    if (p->backend->group[s->group](set->op_call, s->grouped, set->count))
        return step_failed(p, s, set);
    for (int j = 0; j < s->grouped; j++)
        for (int k = 0; k < set->count; k++)
            emit(set->at[k], s + j, i + j, &set->op_call[j * set->count + k]);
    return 0;
}

/* ---- all of them ---- */

/* Returns how many calls are not over. */
static int poll_calls(const struct step *s, struct call_set *set)
{
    int alive = 0;

    for (int k = 0; k < set->count; k++) {
        struct model_call *m = set->at[k];
        const struct trace *trace = m->trace;

        if (!m->error.code && trace->poll && trace->poll(trace->user, &m->error))
            error_prefix(&m->error, "%s: ", s->name);
        alive += !m->error.code;
    }
    return alive;
}

/* The loop: a step, or the steps that the backend does as one, at a time. */
void program_run(const struct program *p, int first, int last, struct call_set *set)
{
    for (int i = first; i < last; i++) {
        int more = 1;

        if (!poll_calls(&p->steps[i], set))
            return;
        if (group_fits(p, i, last, set)) {
            if (group_run(p, i, set))
                return;
            i += p->steps[i].grouped - 1;
            continue;
        }
        for (int64_t done = 0; more; done += PROGRAM_ROWS) {
            more = step_rows(p, i, set, done);
            if (more < 0)
                return;
        }
    }
}
