/* run.c - resolves a request into entries and replacements, and knows their sizes.  Running them is
 * run_execute.c. */
#include "server/engine/run.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/run_private.h"

enum { MOST_NAMES = 1024, MOST_REPLACEMENTS = 1024 };

struct op_scope run_scope(const struct run *r, int64_t call)
{
    if (call == 0)
        return (struct op_scope){.past = 0, .tokens = r->token_count};
    return (struct op_scope){.past = r->token_count + call - 1, .tokens = 1};
}

struct tensor run_value(const struct run *r, int step, int64_t call)
{
    const struct op_scope scope = run_scope(r, call);

    return shape_resolve(&r->engine->program->steps[step].shape, &scope, NULL);
}

int64_t run_rows(const struct run *r, int64_t call, int64_t extent)
{
    if (r->state->which == POSITIONS_LAST)
        return extent < 1 ? extent : 1;
    if (r->state->which == POSITIONS_LIST && call == 0)
        return r->state->position_count;
    return extent;
}

/* ---- names ---- */

/* Which (call, step) pairs are wanted: a bit each. */
struct selection {
    unsigned char *bits;
    int64_t calls;
    int steps;
    unsigned char *matched; /* scratch: by step */
};

static void select_value(struct selection *s, int64_t call, int step)
{
    const int64_t at = call * s->steps + step;

    s->bits[at / 8] = (unsigned char)(s->bits[at / 8] | 1u << at % 8);
}

static int is_selected(const struct selection *s, int64_t call, int step)
{
    const int64_t at = call * s->steps + step;

    return s->bits[at / 8] >> at % 8 & 1;
}

static int has_glob(const char *name)
{
    return strpbrk(name, "*?[") != NULL;
}

static int matches_alias(const struct program *p, int step, const char *pattern)
{
    struct buffer aliases = {0};
    char *save = NULL;
    int found = 0;

    program_aliases(p, step, &aliases);
    for (char *a = aliases.data ? strtok_r(aliases.data, ", ", &save) : NULL; a && !found;
         a = strtok_r(NULL, ", ", &save))
        found = fnmatch(pattern, a, 0) == 0;
    buffer_clear(&aliases);
    return found;
}

static int add_alias(struct run *r, const char *alias, const char *path)
{
    for (int64_t i = 0; i < r->alias_count; i++)
        if (strcmp(r->aliases[i].alias, alias) == 0 && r->aliases[i].path == path)
            return 0;
    r->aliases[r->alias_count] = (struct run_alias){strdup(alias), path};
    return r->aliases[r->alias_count++].alias ? 0 : -1;
}

static int unknown_name(const struct program *p, const char *param, const char *name,
                        struct error *err)
{
    char nearest[384];

    program_nearest(p, name, nearest, sizeof(nearest));
    return error_param(err, 400, param, "no value named '%.120s'; nearest: %s", name, nearest);
}

/* Marks the steps that a name without its step prefix stands for; how many, or -1. */
static int match_steps(struct run *r, struct selection *s, const char *param, const char *name,
                       struct error *err)
{
    const struct program *p = r->engine->program;
    int count = 0, step;

    memset(s->matched, 0, (size_t)s->steps);
    if (!has_glob(name)) {
        step = program_find(p, name);
        if (step < 0)
            return unknown_name(p, param, name, err);
        s->matched[step] = 1;
        if (strcmp(p->steps[step].name, name) != 0 && add_alias(r, name, p->steps[step].name))
            return error_set(err, 500, "out of memory");
        return 1;
    }
    for (int i = 0; i < s->steps; i++)
        if (fnmatch(name, p->steps[i].name, 0) == 0 || matches_alias(p, i, name))
            count += s->matched[i] = 1;
    return count ? count : unknown_name(p, param, name, err);
}

/* "step_<glob>/<name>": the name, and the glob into calls; the whole, and NULL, otherwise. */
static const char *split_step(const char *name, char *glob, size_t size)
{
    const char *slash = strchr(name, '/');

    if (strncmp(name, "step_", 5) != 0 || !slash || (size_t)(slash - name) >= size)
        return NULL;
    snprintf(glob, size, "%.*s", (int)(slash - name - 5), name + 5);
    return slash + 1;
}

static int select_name(struct run *r, struct selection *s, const char *param, const char *name,
                       struct error *err)
{
    char glob[32], number[24];
    const char *rest = split_step(name, glob, sizeof(glob));
    int64_t found = 0;

    if (match_steps(r, s, param, rest ? rest : name, err) < 0)
        return -1;
    for (int64_t call = 0; call < s->calls; call++) {
        snprintf(number, sizeof(number), "%lld", (long long)call);
        if (rest && (call == 0 || fnmatch(glob, number, 0) != 0))
            continue;
        found++;
        for (int i = 0; i < s->steps; i++)
            if (s->matched[i])
                select_value(s, call, i);
    }
    if (!found)
        return error_param(err, 400, param, "'%.120s': no such decode step; the request has %lld",
                           name, (long long)r->steps);
    return 0;
}

/* ---- entries ---- */

static int64_t count_selected(const struct selection *s)
{
    int64_t n = 0;

    for (int64_t i = 0; i < (s->calls * s->steps + 7) / 8; i++)
        n += __builtin_popcount(s->bits[i]);
    return n;
}

static int set_entry(struct run *r, struct run_entry *e, int64_t call, int step)
{
    const struct step *s = &r->engine->program->steps[step];
    struct tensor t = run_value(r, step, call);
    const int axis = shape_token_axis(&s->shape);

    if (axis >= 0)
        t.shape[axis] = run_rows(r, call, t.shape[axis]);
    *e = (struct run_entry){.call = (int)call,
                            .step = step,
                            .path = s->name,
                            .dtype = t.dtype,
                            .rank = t.rank,
                            .bytes = tensor_bytes(&t)};
    memcpy(e->shape, t.shape, sizeof(e->shape));
    if (call == 0)
        e->name = strdup(s->name);
    else if (asprintf(&e->name, "step_%lld/%s", (long long)call, s->name) < 0)
        e->name = NULL;
    return e->name ? 0 : -1;
}

static int make_entries(struct run *r, const struct selection *s, const struct run_limits *limits,
                        struct error *err)
{
    const int64_t count = count_selected(s);

    if (count > limits->values)
        return error_param(err, 400, "values", "the request names %lld values, the limit is %lld",
                           (long long)count, (long long)limits->values);
    r->entries = calloc((size_t)count + 1, sizeof(*r->entries));
    r->state->first_entry = calloc((size_t)s->calls + 1, sizeof(int64_t));
    if (!r->entries || !r->state->first_entry)
        return error_set(err, 500, "out of memory");
    for (int64_t call = 0; call < s->calls; call++) {
        r->state->first_entry[call] = r->entry_count;
        for (int i = 0; i < s->steps; i++)
            if (is_selected(s, call, i) && set_entry(r, &r->entries[r->entry_count++], call, i))
                return error_set(err, 500, "out of memory");
    }
    r->state->first_entry[s->calls] = r->entry_count;
    return 0;
}

static int resolve_values(struct run *r, const struct run_request *request,
                          const struct run_limits *limits, struct error *err)
{
    struct selection s = {.calls = r->steps + 1, .steps = r->engine->program->count};
    char param[32];
    int rc = -1;

    s.bits = calloc((size_t)(s.calls * s.steps) / 8 + 1, 1);
    s.matched = calloc((size_t)s.steps, 1);
    r->aliases = calloc((size_t)request->value_count + 1, sizeof(*r->aliases));
    if (!s.bits || !s.matched || !r->aliases) {
        error_set(err, 500, "out of memory");
        goto done;
    }
    for (int64_t i = 0; i < request->value_count; i++) {
        snprintf(param, sizeof(param), "values[%lld]", (long long)i);
        if (select_name(r, &s, param, request->values[i], err))
            goto done;
    }
    rc = make_entries(r, &s, limits, err);
done:
    free(s.bits);
    free(s.matched);
    return rc;
}

/* ---- replacements ---- */

static int same_extents(const struct tensor *given, const struct tensor *wanted)
{
    return given->rank == wanted->rank &&
           memcmp(given->shape, wanted->shape, sizeof(int64_t) * (size_t)wanted->rank) == 0;
}

static int resolve_replacement(struct run *r, const struct run_replace *given, struct run_put *put,
                               struct error *err)
{
    const struct program *p = r->engine->program;
    char glob[32], param[96], has[80], wants[80];
    const char *rest = split_step(given->name, glob, sizeof(glob));
    struct tensor wanted;
    char *end = glob;

    snprintf(param, sizeof(param), "replace.%.80s", given->name);
    put->call = rest ? (int)strtol(glob, &end, 10) : 0;
    if (rest && (*end || end == glob || put->call < 1 || put->call > r->steps))
        return error_param(err, 400, param, "no such decode step; the request has %lld",
                           (long long)r->steps);
    put->step = program_find(p, rest ? rest : given->name);
    if (put->step < 0)
        return unknown_name(p, param, rest ? rest : given->name, err);
    wanted = run_value(r, put->step, put->call);
    put->value = given->value;
    if (put->value.rank == wanted.rank + 1 && put->value.shape[0] == 1)
        put->value =
            tensor_make(put->value.dtype, wanted.rank, given->value.shape + 1, given->value.data);
    if (!same_extents(&put->value, &wanted))
        return error_param(err, 400, param, "the shape is %s, '%s' has %s",
                           tensor_shape_text(&given->value, has, sizeof(has)),
                           p->steps[put->step].name,
                           tensor_shape_text(&wanted, wants, sizeof(wants)));
    if (put->value.dtype == DTYPE_I64)
        return error_param(err, 400, param, "the dtype is I64, expected BF16, F16 or F32");
    for (const struct run_put *other = r->state->puts; other < put; other++)
        if (other->call == put->call && other->step == put->step)
            return error_param(err, 400, param, "'%s' is replaced twice", p->steps[put->step].name);
    return 0;
}

static int resolve_replacements(struct run *r, const struct run_request *request, struct error *err)
{
    if (request->replace_count > MOST_REPLACEMENTS)
        return error_param(err, 400, "replace", "more than %d values", MOST_REPLACEMENTS);
    r->state->puts = calloc((size_t)request->replace_count + 1, sizeof(*r->state->puts));
    if (!r->state->puts)
        return error_set(err, 500, "out of memory");
    for (int64_t i = 0; i < request->replace_count; i++) {
        if (resolve_replacement(r, &request->replace[i], &r->state->puts[i], err))
            return -1;
        r->state->put_count++;
    }
    return 0;
}

/* ---- the request itself ---- */

static int check_tokens(const struct engine *e, const struct run_request *request,
                        const struct run_limits *limits, struct error *err)
{
    const int64_t n = request->token_count;
    const int64_t most = e->max_positions < limits->tokens ? e->max_positions : limits->tokens;
    char param[40];

    if (n < 1)
        return error_param(err, 400, "tokens", "the prompt has no tokens");
    if (request->steps < 0)
        return error_param(err, 400, "steps", "steps is negative");
    if (n > most || request->steps > most - n)
        return error_param(err, 400, n > most ? "tokens" : "steps",
                           "%lld tokens and %lld steps are more than the %s %lld positions",
                           (long long)n, (long long)request->steps,
                           most == limits->tokens ? "limit of" : "model's", (long long)most);
    for (int64_t i = 0; i < n; i++)
        if (request->tokens[i] < 0 || request->tokens[i] >= e->vocab_size) {
            snprintf(param, sizeof(param), "tokens[%lld]", (long long)i);
            return error_param(err, 400, param, "token id %lld is not in 0..%lld",
                               (long long)request->tokens[i], (long long)e->vocab_size - 1);
        }
    return 0;
}

static int check_positions(const struct run_request *request, struct error *err)
{
    char param[40];

    if (request->which != POSITIONS_LIST)
        return 0;
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

    r->token_count = request->token_count;
    r->steps = request->steps;
    r->tokens = calloc(n + (size_t)request->steps, sizeof(*r->tokens));
    r->state = calloc(1, sizeof(*r->state));
    if (!r->tokens || !r->state)
        return error_set(err, 500, "out of memory");
    memcpy(r->tokens, request->tokens, n * sizeof(*r->tokens));
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

/* ---- memory: known before the run, whatever is asked for ---- */

static uint64_t slot_need(const struct run *r, int step, int64_t call)
{
    struct tensor t = run_value(r, step, call);

    if (r->engine->program->steps[step].by_rows && t.shape[0] > PROGRAM_ROWS)
        t.shape[0] = PROGRAM_ROWS;
    return (tensor_bytes(&t) + 63) / 64 * 64;
}

static int count_memory(struct run *r, const struct run_limits *limits, struct error *err)
{
    const struct program *p = r->engine->program;
    uint64_t *slots = calloc((size_t)p->slots + 1, sizeof(*slots));

    if (!slots)
        return error_set(err, 500, "out of memory");
    r->state->slot_bytes = slots;
    for (int i = 0; i < p->count; i++)
        for (int64_t call = 0; call <= r->steps && p->steps[i].slot >= 0;
             call += r->steps ? r->steps : 1) {
            const uint64_t need = slot_need(r, i, call);

            if (need > slots[p->steps[i].slot])
                slots[p->steps[i].slot] = need;
        }
    for (int i = 0; i < p->slots; i++)
        r->memory += slots[i];
    for (int i = 0; i < p->cache_count; i++)
        r->memory += (uint64_t)(p->caches[i].heads * p->caches[i].width) * 2 *
                     (uint64_t)(r->token_count + r->steps);
    if (r->memory > limits->memory)
        return error_param(err, 413, "tokens", "the run takes %llu MB, the limit is %llu MB",
                           (unsigned long long)(r->memory >> 20),
                           (unsigned long long)(limits->memory >> 20));
    return 0;
}

struct run *run_create(struct engine *e, const struct run_request *request,
                       const struct run_limits *limits, struct error *err)
{
    struct run *r;

    if (check_tokens(e, request, limits, err) || check_positions(request, err))
        return NULL;
    if (request->value_count > MOST_NAMES) {
        error_param(err, 400, "values", "more than %d names", MOST_NAMES);
        return NULL;
    }
    r = calloc(1, sizeof(*r));
    if (!r) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    r->engine = e;
    if (copy_request(r, request, err) || count_memory(r, limits, err) ||
        resolve_values(r, request, limits, err) || resolve_replacements(r, request, err)) {
        run_free(r);
        return NULL;
    }
    return r;
}

void run_free(struct run *r)
{
    if (!r)
        return;
    for (int64_t i = 0; i < r->entry_count; i++)
        free(r->entries[i].name);
    for (int64_t i = 0; i < r->alias_count; i++)
        free(r->aliases[i].alias);
    if (r->state) {
        free(r->state->positions);
        free(r->state->puts);
        free(r->state->first_entry);
        free(r->state->slot_bytes);
    }
    free(r->state);
    free(r->entries);
    free(r->aliases);
    free(r->tokens);
    free(r);
}
