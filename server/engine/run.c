/* run.c - what a request asks for: its tokens, calls, rows and memory.  The values that it names
 * are run_names.c, running it execution.c. */
#include "server/engine/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/isolate.h"
#include "server/engine/run_private.h"

struct tensor run_value(const struct run *r, int step, int64_t call)
{
    return shape_resolve(&r->program->steps[step].shape, &r->state->scope[call], NULL);
}

int64_t run_rows(const struct run *r, int64_t call, int64_t extent)
{
    if (r->state->which == POSITIONS_LAST)
        return extent < 1 ? extent : 1;
    if (r->state->which == POSITIONS_LIST && call < r->prompt_calls)
        return r->state->position_count;
    return extent;
}

/* ---- the request itself ---- */

/* Up to there rotary.h knows PyTorch's cos and sin.  (max_position_embeddings is no bound:
 * transformers computes longer texts too.) */
enum { MOST_POSITIONS = 1 << 17 };

static int check_tokens(const struct engine *e, const struct run_request *request,
                        const struct run_limits *limits, struct error *err)
{
    const int64_t n = request->token_count;
    const int64_t most = MOST_POSITIONS < limits->tokens ? MOST_POSITIONS : limits->tokens;
    char param[40];

    if (n < 1)
        return error_param(err, 400, "tokens", "the prompt has no tokens");
    if (request->steps < 0)
        return error_param(err, 400, "steps", "steps is negative");
    if (n > most || request->steps > most - n)
        return error_param(err, 400, n > most ? "tokens" : "steps",
                           "%lld tokens and %lld steps are more than the limit of %lld positions",
                           (long long)n, (long long)request->steps, (long long)most);
    for (int64_t i = 0; i < n; i++)
        if (request->tokens[i] < 0 || request->tokens[i] >= e->vocab_size) {
            snprintf(param, sizeof(param), "tokens[%lld]", (long long)i);
            return error_param(err, 400, param, "token id %lld is not in 0..%lld",
                               (long long)request->tokens[i], (long long)e->vocab_size - 1);
        }
    return 0;
}

static int check_chunks(const struct run_request *request, struct error *err)
{
    int64_t sum = 0;
    char param[40];

    if (request->padding < 0 || request->padding >= request->token_count)
        return error_param(err, 400, "padding", "padding %lld of %lld tokens",
                           (long long)request->padding, (long long)request->token_count);
    for (int64_t i = 0; i < request->chunk_count; i++) {
        snprintf(param, sizeof(param), "chunks[%lld]", (long long)i);
        if (request->chunks[i] < 1 || request->chunks[i] > request->token_count - sum)
            return error_param(err, 400, param, "a chunk of %lld tokens, after %lld of %lld",
                               (long long)request->chunks[i], (long long)sum,
                               (long long)request->token_count);
        sum += request->chunks[i];
    }
    if (request->chunk_count && sum != request->token_count)
        return error_param(err, 400, "chunks", "the chunks are %lld tokens, the prompt has %lld",
                           (long long)sum, (long long)request->token_count);
    return 0;
}

static int check_positions(const struct run_request *request, struct error *err)
{
    char param[40];

    if (request->which != POSITIONS_LIST)
        return 0;
    if (request->chunk_count > 1)
        return error_param(err, 400, "positions", "a list of positions needs a prompt in one call");
    if (request->position_count < 1)
        return error_param(err, 400, "positions", "the list is empty");
    for (int64_t i = 0; i < request->position_count; i++) {
        const int64_t at = request->positions[i];

        snprintf(param, sizeof(param), "positions[%lld]", (long long)i);
        if (at < 0 || at >= request->token_count)
            return error_param(err, 400, param, "position %lld is not in 0..%lld", (long long)at,
                               (long long)request->token_count - 1);
        if (i > 0 && at <= request->positions[i - 1])
            return error_param(err, 400, param, "positions must ascend without repeats");
    }
    return 0;
}

static int copy_request(struct run *r, const struct run_request *request, struct error *err)
{
    const size_t n = (size_t)request->token_count, m = (size_t)request->position_count;

    r->steps = request->steps;
    r->torch_threads = request->torch_threads;
    r->token_count = request->token_count;
    r->tokens = calloc(n + (size_t)request->steps, sizeof(*r->tokens));
    r->state = calloc(1, sizeof(*r->state));
    if (!r->tokens || !r->state)
        return error_set(err, 500, "out of memory");
    memcpy(r->tokens, request->tokens,
           (n + (request->isolate ? (size_t)request->steps : 0)) * sizeof(*r->tokens));
    r->state->which = request->which;
    if (request->which != POSITIONS_LIST)
        return 0;
    r->state->positions = calloc(m, sizeof(int64_t));
    if (!r->state->positions)
        return error_set(err, 500, "out of memory");
    memcpy(r->state->positions, request->positions, m * sizeof(int64_t));
    r->state->position_count = request->position_count;
    return 0;
}

static int make_calls(struct run *r, const struct run_request *request, struct error *err)
{
    struct op_scope *scope;
    int64_t past = 0;

    r->prompt_calls = request->chunk_count ? request->chunk_count : 1;
    r->calls = r->prompt_calls + r->steps;
    scope = calloc((size_t)r->calls, sizeof(*scope));
    if (!scope)
        return error_set(err, 500, "out of memory");
    r->state->scope = scope;
    if (engine_torch(r->engine, request->torch_threads, &r->state->torch, err))
        return -1;
    for (int64_t i = 0; i < r->calls; i++) {
        scope[i].past = past;
        scope[i].padding = request->padding;
        scope[i].shift = request->ids_from_mask ? request->padding : 0;
        scope[i].batch = request->batch;
        scope[i].torch = &r->state->torch;
        scope[i].tokens = i >= r->prompt_calls   ? 1
                          : request->chunk_count ? request->chunks[i]
                                                 : r->token_count;
        past += scope[i].tokens;
    }
    return 0;
}

/* ---- memory: known before the run, whatever is asked for ---- */

static uint64_t slot_need(const struct run *r, int step, int64_t call)
{
    const uint64_t unit = r->program->backend->alignment;
    struct tensor t = run_value(r, step, call);

    if (r->program->steps[step].by_rows && t.shape[0] > PROGRAM_ROWS)
        t.shape[0] = PROGRAM_ROWS;
    return (tensor_bytes(&t) + unit - 1) / unit * unit;
}

static int count_memory(struct run *r, const struct run_limits *limits, struct error *err)
{
    const struct program *p = r->program;
    uint64_t *slots = calloc((size_t)p->slots + 1, sizeof(*slots));

    if (!slots)
        return error_set(err, 500, "out of memory");
    r->state->slot_bytes = slots;
    for (int i = 0; i < p->count; i++)
        for (int64_t call = 0; call < r->calls && p->steps[i].slot >= 0;
             call += call >= r->prompt_calls && call < r->calls - 1 ? r->calls - 1 - call : 1) {
            const uint64_t need = slot_need(r, i, call);

            if (need > slots[p->steps[i].slot])
                slots[p->steps[i].slot] = need;
        }
    for (int i = 0; i < p->slots; i++)
        r->memory += slots[i];
    for (int i = 0; i < p->cache_count; i++)
        r->memory += (uint64_t)(p->caches[i].heads * p->caches[i].width) *
                     dtype_size(p->backend->numerics->activations) *
                     (uint64_t)(r->token_count + r->steps);
    if (r->memory > limits->memory)
        return error_param(err, 413, "tokens", "the run takes %llu MB, the limit is %llu MB",
                           (unsigned long long)(r->memory >> 20),
                           (unsigned long long)(limits->memory >> 20));
    return 0;
}

static void count_held(struct run *r, const struct run_request *request)
{
    const struct run_state *s = r->state;

    r->held =
        sizeof(*r) + sizeof(*s) +
        sizeof(int64_t) * (uint64_t)(r->token_count + r->steps + s->position_count + r->calls) +
        sizeof(*s->entry_step) * (uint64_t)r->entry_count + sizeof(*s->scope) * (uint64_t)r->calls +
        sizeof(*s->puts) * (uint64_t)request->replace_count +
        (sizeof(*r->aliases) + 64) * (uint64_t)request->value_count +
        (s->isolate ? isolate_bytes(s->isolate) : 0);
}

/* The tokens of its decode steps are the last of those that are given. */
static int check_isolated(const struct run_request *given, struct error *err)
{
    if (!given->isolate || (given->steps >= 0 && given->steps < given->token_count))
        return 0;
    return error_param(err, 400, "steps", "%lld steps of %lld tokens: the prompt has none",
                       (long long)given->steps, (long long)given->token_count);
}

struct run *run_create(struct engine *e, const struct run_request *given,
                       const struct run_limits *limits, struct error *err)
{
    struct run_request prompt = *given, *const request = &prompt;
    struct run *r;

    if (check_isolated(given, err))
        return NULL;
    if (given->isolate)
        prompt.token_count -= given->steps; /* their tokens follow the prompt's */
    if (check_tokens(e, request, limits, err) || check_chunks(request, err) ||
        check_positions(request, err) || run_check_names(request, err))
        return NULL;
    r = calloc(1, sizeof(*r));
    if (!r) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    r->engine = e;
    r->program = e->program[request->attention];
    if (copy_request(r, request, err) || make_calls(r, request, err) ||
        count_memory(r, limits, err) || run_name_values(r, request, limits, err) ||
        run_name_replacements(r, request, err) ||
        (request->isolate && !(r->state->isolate = isolate_create(r, request, limits, err)))) {
        run_free(r);
        return NULL;
    }
    count_held(r, request);
    if (request->formula_count) /* they may take what is left */
        r->memory = limits->memory;
    return r;
}

uint64_t run_call_bytes(const struct run *r)
{
    uint64_t most = 0;

    for (int64_t call = 0; call < r->calls; call++) {
        uint64_t bytes = 0;

        for (int64_t i = r->state->first_entry[call]; i < r->state->first_entry[call + 1]; i++)
            bytes += run_entry(r, i).bytes;
        most = bytes > most ? bytes : most;
    }
    return most;
}

void run_free(struct run *r)
{
    if (!r)
        return;
    for (int64_t i = 0; i < r->alias_count; i++)
        free(r->aliases[i].alias);
    if (r->state) {
        isolate_free(r->state->isolate);
        free(r->state->positions);
        free(r->state->puts);
        free(r->state->entry_step);
        free(r->state->first_entry);
        free(r->state->scope);
        free(r->state->slot_bytes);
    }
    free(r->state);
    free(r->aliases);
    free(r->tokens);
    free(r);
}
