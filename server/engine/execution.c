/* execution.c - see execution.h. */
#include "server/engine/execution.h"

#include <stdlib.h>
#include <string.h>

#include "server/engine/isolate.h"
#include "server/engine/outlet.h"
#include "server/engine/prefixes.h"
#include "server/engine/run_private.h"
#include "server/engine/logits_processor.h"
#include "server/engine/sampler.h"
#include "server/engine/sequence.h"

struct execution {
    struct run *run;
    struct run_sink sink;
    struct outlet outlet;
    struct sequence sequence;
    struct tap *taps;
    struct trace trace;
    struct model_call forward;
    int64_t call;
    int64_t entry;   /* the next value to be given out, in the order of run_entry */
    int64_t *chosen; /* [calls]: the greedy choice after each call that is over */
};

static int write_rows(struct execution *x, const struct tensor *value, int axis, int64_t first,
                      int64_t count, struct error *err)
{
    const struct tensor rows = tensor_slice(value, axis, first, count);

    return outlet_write(&x->outlet, x->entry, &rows, err);
}

/* The rows of a list of positions.  Where an axis lies outside the token axis (heads), each of its
 * indices gives all its rows before the next one does: row-major, as the reply is. */
static int write_list(struct execution *x, const struct tensor *value, int axis, int64_t first,
                      struct error *err)
{
    const struct run_state *s = x->run->state;
    const int64_t end = first + value->shape[axis];

    if (axis > 1)
        return error_set(err, 500, "a token axis behind two others");
    for (int64_t o = 0; o < (axis ? value->shape[0] : 1); o++) {
        const struct tensor one = axis ? tensor_slice(value, 0, o, 1) : *value;

        for (int64_t i = 0; i < s->position_count; i++)
            if (s->positions[i] >= first && s->positions[i] < end &&
                write_rows(x, &one, axis, s->positions[i] - first, 1, err))
                return -1;
    }
    return 0;
}

static int write_value(struct execution *x, int step, int64_t first, const struct tensor *value,
                       struct error *err)
{
    const struct program *p = x->run->program;
    const struct run_state *s = x->run->state;
    const int axis = shape_token_axis(&p->steps[step].shape);
    const int64_t count = axis < 0 ? 0 : value->shape[axis];
    const int64_t all = axis < 0 ? 0 : run_value(x->run, step, x->call).shape[axis];

    if (axis < 0)
        return write_rows(x, value, 0, 0, value->rank ? value->shape[0] : 1, err);
    if (s->which == POSITIONS_LAST)
        return first + count == all ? write_rows(x, value, axis, count - 1, 1, err) : 0;
    if (s->which == POSITIONS_LIST && x->call < x->run->prompt_calls)
        return write_list(x, value, axis, first, err);
    return write_rows(x, value, axis, 0, count, err);
}

/* Of a prompt in chunks the last one's row alone counts. */
static int choose_processed(struct execution *x, const bf16 *row, struct error *err)
{
    const struct run *r = x->run;
    const int64_t step = x->call - (r->prompt_calls - 1);

    if (step < 0)
        return 0;
    x->chosen[x->call] =
        logits_processor_choose(r->processor, r->tokens, r->token_count + step, row);
    return x->chosen[x->call] < 0
               ? error_set(err, 400,
                           "token %lld: none has a probability that one could be drawn by",
                           (long long)step + 1)
               : 0;
}

/* Chooses the next token by the last row of the logits. */
static int choose(struct execution *x, const struct tensor *logits, struct error *err)
{
    const struct tensor last = tensor_slice(logits, 0, logits->shape[0] - 1, 1);
    const void *row = outlet_read(&x->outlet, &last, err);

    if (!row)
        return -1;
    if (x->run->processor)
        return choose_processed(x, row, err);
    x->chosen[x->call] = last.dtype == DTYPE_F64 ? sampler_argmax_f64(row, last.shape[1])
                                                 : sampler_argmax(row, last.shape[1]);
    return 0;
}

static int emit(void *user, int step, int64_t first, const struct tensor *value, struct error *err)
{
    struct execution *x = user;
    const struct program *p = x->run->program;
    const int32_t *entry_step = x->run->state->entry_step;
    const int64_t end = x->run->state->first_entry[x->call + 1];
    const struct op_scope scope = x->run->state->scope[x->call];

    while (x->entry < end && entry_step[x->entry] < step)
        x->entry++;
    if (x->entry < end && entry_step[x->entry] == step && write_value(x, step, first, value, err))
        return -1;
    return step == p->logits && first + value->shape[0] == scope.tokens ? choose(x, value, err) : 0;
}

static int poll_sink(void *user, struct error *err)
{
    struct execution *x = user;

    return x->sink.poll ? x->sink.poll(x->sink.user, err) : 0;
}

static void set_taps(struct execution *x)
{
    const struct run *r = x->run;
    const struct run_state *s = r->state;

    memset(x->taps, 0, sizeof(*x->taps) * (size_t)r->program->count);
    x->entry = s->first_entry[x->call];
    for (int64_t i = s->first_entry[x->call]; i < s->first_entry[x->call + 1]; i++)
        x->taps[s->entry_step[i]].observe = 1;
    for (int64_t i = 0; i < s->put_count; i++)
        if (s->puts[i].call == x->call)
            x->taps[s->puts[i].step].replace = &s->puts[i].value;
    if (s->isolate)
        isolate_taps(s->isolate, x->call, x->taps);
}

static int compute(void *user, int step, const struct op_call *call, struct error *err)
{
    const struct execution *x = user;

    return isolate_compute(x->run->state->isolate, &x->sink, x->call, step, call, err);
}

/* Returns the first row of logits that anything reads: the choice reads the last one. */
static int64_t rows_from(const struct execution *x, int64_t tokens)
{
    const struct run_state *s = x->run->state;
    const struct program *p = x->run->program;

    for (int i = 0; i < p->count; i++)
        if (p->steps[i].by_rows && x->taps[i].observe && s->which == POSITIONS_ALL)
            return 0;
        else if (p->steps[i].by_rows && x->taps[i].observe && s->which == POSITIONS_LIST)
            return x->call < x->run->prompt_calls ? s->positions[0] : 0;
    return tokens - 1;
}

/* Returns whether a value of a tail step (program.h) is given out or replaced in this call. */
static int sees_tail(const struct execution *x)
{
    const struct program *p = x->run->program;

    for (int i = 0; i < p->count; i++)
        if (p->steps[i].tail && (x->taps[i].observe || x->taps[i].replace))
            return 1;
    return 0;
}

struct model_call *execution_begin(struct execution *x, struct error *err)
{
    const struct program *p = x->run->program;
    const struct op_scope scope = x->run->state->scope[x->call];
    int64_t from;

    set_taps(x);
    x->trace.rows_from = rows_from(x, scope.tokens);
    from = sees_tail(x) || x->run->state->isolate ? 0 : x->trace.rows_from;
    x->taps[p->logits].observe |= !x->run->state->isolate; /* to choose the next token by */
    sequence_shape(&x->sequence, &scope, from);
    if (sequence_feed(&x->sequence, x->run->tokens + scope.past, err))
        return NULL;
    x->forward = (struct model_call){
        .scope = scope, .values = x->sequence.values, .trace = &x->trace, .rows_from = from};
    return &x->forward;
}

/* The call is over and its token chosen.  Returns as execution_end. */
static int call_ended(struct execution *x, struct error *err)
{
    struct run *r = x->run;
    const int64_t step = x->call - r->prompt_calls + 1; /* 0: the prompt's last */
    int rc = 0;

    r->next = x->chosen[x->call];
    if (step >= 0 && step < r->steps && !r->state->isolate)
        r->tokens[r->token_count + step] = r->next;
    if (step >= 0 && x->sink.token)
        rc = x->sink.token(x->sink.user, step, r->next, err);
    x->call++;
    return rc ? rc : x->call == r->calls;
}

int execution_end(struct execution *x, struct error *err)
{
    if (x->forward.error.code) {
        *err = x->forward.error;
        return -1;
    }
    return outlet_flush(&x->outlet, err) ? -1 : call_ended(x, err);
}

/* Returns how many of the first calls give no values.  The last call is not among them: its logits
 * are needed to choose by. */
static int64_t calls_unseen(const struct run *r)
{
    int64_t calls = 0;

    while (calls < r->calls - 1 && r->state->first_entry[calls + 1] == 0)
        calls++;
    return calls;
}

/* Returns whether the run may skip calls that another has made, and others may skip calls that it
 * has made.  The host copies caches, so it must be able to read them. */
static int shares(const struct execution *x)
{
    return x->run->engine->prefixes && x->run->state->put_count == 0 && !x->run->state->isolate &&
           !x->run->processor && x->run->program->backend->host_readable;
}

int execution_start(struct execution *x, struct error *err)
{
    int64_t calls;
    int rc = 0;

    if (!shares(x))
        return 0;
    calls = prefixes_fetch(x->run->engine->prefixes, x->run, calls_unseen(x->run), &x->sequence,
                           x->chosen);
    while (rc == 0 && x->call < calls)
        rc = call_ended(x, err);
    return rc;
}

int64_t execution_tokens(const struct execution *x)
{
    return x->run->state->scope[x->call].tokens;
}

const struct program *execution_program(const struct execution *x)
{
    return x->run->program;
}

/* Lets the backend take what its calls need.  A decode step needs more than the one before it, so the
 * last one is enough; chunks may be of any lengths. */
static int prepare(struct execution *x, struct error *err)
{
    const struct run *r = x->run;

    if (!r->program->backend->prepare)
        return 0;
    for (int64_t call = 0; call < r->calls; call++) {
        const struct op_scope *scope = &r->state->scope[call];

        if (call >= r->prompt_calls && call < r->calls - 1)
            continue;
        sequence_shape(&x->sequence, scope, 0);
        if (program_prepare(r->program, scope, x->sequence.values, err))
            return -1;
    }
    return 0;
}

static int open_all(struct execution *x, struct error *err)
{
    const struct run *r = x->run;
    const struct program *p = r->program;
    struct backend *b = p->backend;
    const size_t row =
        (size_t)r->engine->vocab_size * dtype_size(p->backend->numerics->activations);

    if (b->enter && b->enter(b))
        return error_set(err, 500, "%s does not answer", b->device);
    return sequence_open(&x->sequence, p, r->state->slot_bytes, r->token_count + r->steps,
                         r->state->scope->shift, err) ||
                   outlet_open(&x->outlet, b, &x->sink, row, err) || prepare(x, err)
               ? -1
               : 0;
}

struct execution *execution_open(struct run *r, const struct run_sink *sink, struct error *err)
{
    struct execution *x = calloc(1, sizeof(*x));

    if (x)
        x->taps = calloc((size_t)r->program->count, sizeof(*x->taps));
    if (x)
        x->chosen = calloc((size_t)r->calls, sizeof(*x->chosen));
    if (!x || !x->taps || !x->chosen) {
        execution_close(x);
        error_set(err, 503, "out of memory");
        return NULL;
    }
    x->run = r;
    x->sink = *sink;
    x->trace = (struct trace){
        .at = x->taps, .emit = emit, .compute = compute, .poll = poll_sink, .user = x};
    if (open_all(x, err)) {
        execution_close(x);
        return NULL;
    }
    return x;
}

void execution_close(struct execution *x)
{
    if (!x)
        return;
    if (x->sequence.cache_memory && shares(x))
        prefixes_give(x->run->engine->prefixes, x->run, x->call, x->chosen, &x->sequence);
    outlet_close(&x->outlet);
    sequence_close(&x->sequence);
    free(x->taps);
    free(x->chosen);
    free(x);
}
