/* run_names.c - resolves the names of a request into entries and replacements. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/glob.h"
#include "server/engine/run_private.h"

int run_check_names(const struct run_request *request, struct error *err)
{
    if (request->value_count > RUN_NAMES)
        return error_param(err, 400, "values", "more than %d names", RUN_NAMES);
    if (request->replace_count > RUN_REPLACEMENTS)
        return error_param(err, 400, "replace", "more than %d values", RUN_REPLACEMENTS);
    return 0;
}

/* ---- names ---- */

/* The values that are asked for: a bit for each call and step of the program. */
struct selection {
    unsigned char *bits;
    int64_t calls;
    int steps;
    unsigned char *matched; /* [steps]: those that the name at hand stands for */
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

static int matches_name(void *user, const char *name)
{
    return glob_matches(user, name);
}

static int add_alias(struct run *r, const char *alias, const char *path)
{
    for (int64_t i = 0; i < r->alias_count; i++)
        if (strcmp(r->aliases[i].alias, alias) == 0 && r->aliases[i].path == path)
            return 0;
    r->aliases[r->alias_count] = (struct run_alias){strdup(alias), path};
    return r->aliases[r->alias_count++].alias ? 0 : -1;
}

/* Returns whether the pattern matches the step's name or an alias; -1: no memory. */
static int matches(const struct program *p, int step, const char *pattern)
{
    char *user = (char *)(uintptr_t)pattern; /* visitors take what is not const */

    return matches_name(user, p->steps[step].name) ? 1
                                                   : program_aliases(p, step, matches_name, user);
}

/* The attention in which a name that this run does not have, or a pattern that matches nothing of
 * it, would be found; or -1. */
static int find_elsewhere(const struct run *r, const char *name)
{
    for (int a = 0; a < ATTENTION_COUNT; a++) {
        const struct program *p = r->engine->program[a];

        if (p && program_find(p, name) >= 0)
            return a;
        for (int i = 0; p && has_glob(name) && i < p->count; i++)
            if (matches(p, i, name) > 0)
                return a;
    }
    return -1;
}

static int unknown_name(const struct run *r, const char *param, const char *name, struct error *err)
{
    const struct program *p = r->program;
    const int elsewhere = find_elsewhere(r, name);
    char nearest[384];

    if (elsewhere >= 0)
        return error_param(err, 400, param,
                           "'%.120s' is a value of %s attention, this run's is %s (ask with "
                           "\"attention\": \"%s\")",
                           name, attention_name((enum attention)elsewhere),
                           attention_name(p->family->attention),
                           attention_name((enum attention)elsewhere));
    program_nearest(p, name, nearest, sizeof(nearest));
    return error_param(err, 400, param, "no value named '%.120s'; nearest: %s", name, nearest);
}

/* Sets s->matched for a name without the prefix of its call.  Returns how many steps it stands for,
 * or -1. */
static int match_steps(struct run *r, struct selection *s, const char *param, const char *name,
                       struct error *err)
{
    const struct program *p = r->program;
    int count = 0, step;

    memset(s->matched, 0, (size_t)s->steps);
    if (!has_glob(name)) {
        step = program_find(p, name);
        if (step < 0)
            return unknown_name(r, param, name, err);
        s->matched[step] = 1;
        if (strcmp(p->steps[step].name, name) != 0 && add_alias(r, name, p->steps[step].name))
            return error_set(err, 500, "out of memory");
        return 1;
    }
    for (int i = 0; i < s->steps; i++) {
        const int found = matches(p, i, name);

        if (found < 0)
            return error_set(err, 500, "out of memory");
        s->matched[i] = found > 0;
        count += found > 0;
    }
    return count ? count : unknown_name(r, param, name, err);
}

/* Returns out, which is set to the prefix of the names of a call: "", "chunk_2/", "step_1/". */
static const char *call_prefix(const struct run *r, int64_t call, char *out, size_t size)
{
    out[0] = '\0';
    if (call >= r->prompt_calls)
        snprintf(out, size, "step_%lld/", (long long)(call - r->prompt_calls + 1));
    else if (r->prompt_calls > 1)
        snprintf(out, size, "chunk_%lld/", (long long)(call + 1));
    return out;
}

/* Splits "step_<glob>/<name>": returns the name and sets glob to what precedes it, slash included.
 * NULL where the name has no such prefix. */
static const char *split_call(const char *name, char *glob, size_t size)
{
    const char *slash = strchr(name, '/');

    if (!slash || (strncmp(name, "step_", 5) != 0 && strncmp(name, "chunk_", 6) != 0) ||
        (size_t)(slash - name) + 1 >= size)
        return NULL;
    snprintf(glob, size, "%.*s", (int)(slash - name) + 1, name);
    return slash + 1;
}

static int select_name(struct run *r, struct selection *s, const char *param, const char *name,
                       struct error *err)
{
    char glob[40], prefix[40];
    const char *rest = split_call(name, glob, sizeof(glob));
    int64_t found = 0;

    if (match_steps(r, s, param, rest ? rest : name, err) < 0)
        return -1;
    for (int64_t call = 0; call < s->calls; call++) {
        if (rest && !glob_matches(glob, call_prefix(r, call, prefix, sizeof(prefix))))
            continue;
        found++;
        for (int i = 0; i < s->steps; i++)
            if (s->matched[i])
                select_value(s, call, i);
    }
    if (!found)
        return error_param(
            err, 400, param,
            "'%.120s': no such call; the request has %lld steps, its prompt %lld call%s", name,
            (long long)r->steps, (long long)r->prompt_calls, r->prompt_calls > 1 ? "s" : "");
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

static int call_of(const struct run *r, int64_t entry)
{
    const int64_t *first = r->state->first_entry;
    int64_t low = 0, high = r->calls; /* first[low] <= entry < first[high] */

    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;

        if (first[middle] <= entry)
            low = middle;
        else
            high = middle;
    }
    return (int)low;
}

struct run_entry run_entry(const struct run *r, int64_t entry)
{
    const int step = r->state->entry_step[entry], call = call_of(r, entry);
    const struct step *s = &r->program->steps[step];
    const int axis = shape_token_axis(&s->shape);
    struct tensor t = run_value(r, step, call);
    struct run_entry e;

    if (axis >= 0)
        t.shape[axis] = run_rows(r, call, t.shape[axis]);
    e = (struct run_entry){.call = call,
                           .step = step,
                           .path = s->name,
                           .dtype = t.dtype,
                           .rank = t.rank,
                           .bytes = tensor_bytes(&t)};
    memcpy(e.shape, t.shape, sizeof(e.shape));
    call_prefix(r, call, e.prefix, sizeof(e.prefix));
    return e;
}

char *run_entry_name(const struct run *r, int64_t entry)
{
    const struct run_entry e = run_entry(r, entry);
    char *name;

    return asprintf(&name, "%s%s", e.prefix, e.path) < 0 ? NULL : name;
}

static int make_entries(struct run *r, const struct selection *s, const struct run_limits *limits,
                        struct error *err)
{
    const int64_t count = count_selected(s);

    if (count > limits->values)
        return error_param(err, 400, "values", "the request names %lld values, the limit is %lld",
                           (long long)count, (long long)limits->values);
    r->state->entry_step = calloc((size_t)count + 1, sizeof(*r->state->entry_step));
    r->state->first_entry = calloc((size_t)s->calls + 1, sizeof(int64_t));
    if (!r->state->entry_step || !r->state->first_entry)
        return error_set(err, 500, "out of memory");
    for (int64_t call = 0; call < s->calls; call++) {
        r->state->first_entry[call] = r->entry_count;
        for (int i = 0; i < s->steps; i++)
            if (is_selected(s, call, i))
                r->state->entry_step[r->entry_count++] = i;
    }
    r->state->first_entry[s->calls] = r->entry_count;
    return 0;
}

int run_name_values(struct run *r, const struct run_request *request,
                    const struct run_limits *limits, struct error *err)
{
    struct selection s = {.calls = r->calls, .steps = r->program->count};
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

/* Returns the call that has this prefix, or -1.  The prompt's call has none, unless it is in
 * chunks. */
static int64_t call_named(const struct run *r, const char *glob)
{
    char prefix[40];

    for (int64_t call = 0; call < r->calls; call++)
        if (strcmp(call_prefix(r, call, prefix, sizeof(prefix)), glob) == 0)
            return call;
    return -1;
}

static int resolve_replacement(struct run *r, const struct run_replace *given, struct run_put *put,
                               struct error *err)
{
    const struct program *p = r->program;
    char glob[40] = "", param[96], has[80], wants[80];
    const char *rest = split_call(given->name, glob, sizeof(glob));
    const int64_t call = call_named(r, glob);
    struct tensor wanted;

    snprintf(param, sizeof(param), "replace.%.80s", given->name);
    if (call < 0)
        return error_param(err, 400, param, "no such call; the request has %lld steps%s",
                           (long long)r->steps, rest ? "" : ", and its prompt is in chunks");
    put->call = (int)call;
    put->step = program_find(p, rest ? rest : given->name);
    if (put->step < 0)
        return unknown_name(r, param, rest ? rest : given->name, err);
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
        return error_param(err, 400, param, "the dtype is I64, expected BF16, F16, F32 or F64");
    for (const struct run_put *other = r->state->puts; other < put; other++)
        if (other->call == put->call && other->step == put->step)
            return error_param(err, 400, param, "'%s' is replaced twice", p->steps[put->step].name);
    return 0;
}

int run_name_replacements(struct run *r, const struct run_request *request, struct error *err)
{
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
