/* isolate.c - see isolate.h. */
#include "client/isolate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"
#include "client/compare_stats.h"

/* Of a request, bytes and values that are given (the daemon takes 1024): large dumps go in several. */
enum { BODY_MOST = 40 << 20, GIVEN_MOST = 800 };

/* ---- the catalogue and the dump ---- */

static const struct side_value *value_at(const struct isolation *x, const json_t *position)
{
    return &x->hunt->theirs->values[json_integer_value(position)];
}

/* A value of the dump that can be given: whole, in the shape that the daemon has. */
static int is_whole(const struct isolation *x, const struct side_value *v)
{
    const struct side_value *ours = side_find(x->hunt->ours, v->canonical);

    return ours && ours->rank == v->rank &&
           memcmp(ours->shape, v->shape, sizeof(v->shape[0]) * (size_t)v->rank) == 0;
}

static void index_dump(struct isolation *x)
{
    const struct side *s = x->hunt->theirs;
    json_t *row;
    size_t i;

    json_array_foreach (x->catalogue, i, row)
        json_object_set(x->steps, json_string_value(json_object_get(row, "name")), row);
    for (int k = 0; k < s->count; k++) {
        const char *base = side_base_name(s->values[k].canonical);
        json_t *list = json_object_get(x->held, base);

        if (!json_object_get(x->steps, base) || strcmp(s->values[k].dtype, "I64") == 0)
            continue;
        if (!s->values[k].entry || !is_whole(x, &s->values[k])) {
            x->misfits++;
            continue;
        }
        if (!list)
            json_object_set_new(x->held, base, list = json_array());
        json_array_append_new(list, json_integer(k));
    }
}

/* Whether the dump has the value in every call, whole. */
static int is_held(const struct isolation *x, const char *base)
{
    const json_t *list = json_object_get(x->held, base);
    json_t *at;
    size_t i;

    json_array_foreach ((json_t *)list, i, at)
        if (!is_whole(x, value_at(x, at)))
            return 0;
    return json_array_size(list) ==
           1 + (size_t)json_integer_value(json_object_get(x->request, "steps"));
}

/* Adds what a step reads: what is held to `given`, what is not to `path`, and so on from there. */
static void walk(const struct isolation *x, const char *base, json_t *given, json_t *path,
                 json_t *seen)
{
    const json_t *inputs = json_object_get(json_object_get(x->steps, base), "inputs");
    json_t *input;
    size_t i;

    json_array_foreach ((json_t *)inputs, i, input) {
        const char *name = json_string_value(input);

        if (json_object_get(seen, name))
            continue;
        json_object_set_new(seen, name, json_true());
        if (json_object_get(x->held, name) && given)
            json_object_set_new(given, name, json_true());
        if (is_held(x, name) || !json_object_get(x->steps, name))
            continue;
        if (path)
            json_array_append(path, input);
        walk(x, name, given, path, seen);
    }
}

json_t *isolate_path(const struct isolation *x, const char *base)
{
    json_t *path = json_pack("[s]", base), *seen = json_object();

    walk(x, base, NULL, path, seen);
    json_decref(seen);
    return path;
}

/* ---- asking ---- */

/* The values that a request gives: all calls of each name, or the prompt's alone. */
static int give(const struct isolation *x, const json_t *given, int prompt_only,
                struct client_replace *out)
{
    const char *name;
    json_t *unused, *at;
    size_t i;
    int count = 0;

    json_object_foreach ((json_t *)given, name, unused) {
        (void)unused;
        json_array_foreach (json_object_get(x->held, name), i, at) {
            const struct side_value *v = value_at(x, at);

            if (is_whole(x, v) && !(prompt_only && side_step_of(v->canonical)))
                out[count++] = (struct client_replace){v->canonical, v->entry->tensor};
        }
    }
    return count;
}

static json_t *given_for(const struct isolation *x, const json_t *values, const json_t *more)
{
    json_t *given = json_object(), *name;
    size_t i;

    json_array_foreach ((json_t *)values, i, name) {
        const char *base = side_base_name(json_string_value(name));
        json_t *seen = json_object();

        walk(x, base, given, NULL, seen);
        if (json_object_get(x->held, base)) /* of calls before: a cache adds to it */
            json_object_set_new(given, base, json_true());
        json_decref(seen);
    }
    json_array_foreach ((json_t *)more, i, name)
        json_object_set_new(given, json_string_value(name), json_true());
    return given;
}

/* The same run without its decode steps, on which nothing of the prompt's call depends. */
static void drop_steps(json_t *request)
{
    json_t *ids = json_copy(json_object_get(request, "tokens"));
    int64_t steps = json_integer_value(json_object_get(request, "steps"));

    while (steps-- > 0)
        json_array_remove(ids, json_array_size(ids) - 1);
    json_object_set_new(request, "tokens", ids);
    json_object_del(request, "steps");
}

struct safetensors *isolate_ask(const struct isolation *x, const json_t *values,
                                const char *numerics, const json_t *formulas, const json_t *more,
                                struct error *err)
{
    struct client_replace *replace = calloc((size_t)x->hunt->theirs->count + 1, sizeof(*replace));
    json_t *request = json_copy(x->request), *given = given_for(x, values, more);
    const int prompt_only = formulas && !side_step_of(json_string_value(json_array_get(values, 0)));
    struct safetensors *file = NULL;

    if (prompt_only && json_object_get(request, "steps"))
        drop_steps(request);
    json_object_set(request, "values", (json_t *)values);
    if (numerics) { /* "ideal", which has no threads */
        json_object_set_new(request, "numerics", json_string(numerics));
        json_object_del(request, "torch_threads");
    }
    if (formulas)
        json_object_set(request, "formulas", (json_t *)formulas);
    if (!replace)
        error_set(err, 500, "out of memory");
    else
        cli_receive_isolate(x->client, request, replace, give(x, given, prompt_only, replace),
                            &file, err);
    free(replace);
    json_decref(request);
    json_decref(given);
    return file;
}

struct tensor isolate_part(const struct tensor *ours, const struct tensor *theirs)
{
    const int64_t skip = tensor_count(ours) - tensor_count(theirs);
    struct tensor t = *theirs;

    t.dtype = ours->dtype;
    t.data = (char *)ours->data + (size_t)skip * dtype_size(ours->dtype);
    return t;
}

/* ---- judging ---- */

/* Where in the value the dump and PyTorch are apart. */
static int profile_row(const struct isolation *x, struct isolate_row *r, const struct tensor *torch,
                       struct error *err)
{
    const struct tensor *t = &r->theirs->tensor;
    const struct profile_axes axes = profile_axes_of(r->name, t->shape, t->rank, &x->hunt->model);
    const struct preset bits = {.kind = PRESET_BITS};
    struct profile *p;

    if (!x->profiles || r->judge.differing == 0)
        return 0;
    p = r->profile = calloc(1, sizeof(*p));
    if (!p)
        return error_set(err, 500, "out of memory");
    if (profile_make(t, torch, &axes, &bits, p, err))
        return -1;
    if (p->worst >= 0) {
        r->worst[0] = compare_stats_element(t, p->worst);
        r->worst[1] = compare_stats_element(torch, p->worst);
    }
    return 0;
}

static int judge_rows(struct isolation *x, int first, int end, struct error *err)
{
    json_t *values = json_array();
    struct safetensors *torch = NULL, *ideal = NULL;
    int rc = -1;

    for (int i = first; i < end; i++)
        json_array_append_new(values, json_string(x->rows[i].name));
    torch = isolate_ask(x, values, NULL, NULL, NULL, err);
    ideal = torch ? isolate_ask(x, values, "ideal", NULL, NULL, err) : NULL;
    for (int i = first; ideal && i < end; i++) {
        struct isolate_row *r = &x->rows[i];
        const struct safetensors_entry *t = safetensors_find(torch, r->name);
        const struct safetensors_entry *y = safetensors_find(ideal, r->name);
        struct tensor pt, py;

        if (!t || !y || tensor_count(&t->tensor) < tensor_count(&r->theirs->tensor)) {
            error_set(err, 502, "%s was not sent", r->name);
            goto out;
        }
        pt = isolate_part(&t->tensor, &r->theirs->tensor);
        py = isolate_part(&y->tensor, &r->theirs->tensor);
        judge_run(&r->theirs->tensor, &py, &pt, r->unit, r->op, 0, &r->judge);
        x->totals[r->judge.verdict]++;
        if (profile_row(x, r, &pt, err))
            goto out;
    }
    rc = ideal ? 0 : -1;
out:
    safetensors_close(torch);
    safetensors_close(ideal);
    json_decref(values);
    return rc;
}

/* Bytes that the rows' values have, and in binary64 what is sent back. */
static uint64_t bytes_of(const struct isolate_row *r)
{
    return tensor_bytes(&r->theirs->tensor);
}

static int judge_all(struct isolation *x, struct error *err)
{
    const int calls = 1 + (int)json_integer_value(json_object_get(x->request, "steps"));
    const int most = calls < GIVEN_MOST ? GIVEN_MOST / calls : 1;
    struct progress progress;
    int rc = 0;

    progress_start(&progress);
    for (int first = 0, end; rc == 0 && first < x->count; first = end) {
        uint64_t bytes = 0;

        for (end = first;
             end < x->count && (end == first || (bytes < BODY_MOST / 2 && end - first < most));
             end++)
            bytes += bytes_of(&x->rows[end]);
        progress_show(&progress, x->rows[first].name, (uint64_t)first, (uint64_t)x->count);
        rc = judge_rows(x, first, end, err);
    }
    progress_end(&progress);
    return rc;
}

static int by_step(const void *a, const void *b)
{
    const struct isolate_row *x = a, *y = b;
    const int sx = side_step_of(x->name), sy = side_step_of(y->name);

    return sx != sy ? sx - sy : x->judge.count < y->judge.count ? -1 : 1;
}

/* Rows of what is held, in the order of the catalogue, call after call. */
static int make_rows(struct isolation *x, struct error *err)
{
    json_t *row, *at;
    size_t i, k;
    int64_t order = 0;

    x->rows = calloc((size_t)x->hunt->theirs->count + 1, sizeof(*x->rows));
    if (!x->rows)
        return error_set(err, 500, "out of memory");
    json_array_foreach (x->catalogue, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        json_t *path = isolate_path(x, name);

        json_array_foreach (json_object_get(x->held, name), k, at) {
            const struct side_value *v = value_at(x, at);

            x->rows[x->count++] = (struct isolate_row){
                .name = v->canonical,
                .op = json_string_value(json_object_get(row, "op")),
                .theirs = v->entry,
                .unit = judge_unit(v->entry->tensor.dtype, judge_holds_bf16(&v->entry->tensor)),
                .direct = json_array_size(path) == 1,
                .judge.count = order};
        }
        order++;
        json_decref(path);
    }
    qsort(x->rows, (size_t)x->count, sizeof(*x->rows), by_step);
    return x->count
               ? 0
               : error_set(err, 400,
                           x->misfits ? "%s: no value of the model in it can be read and has its "
                                        "shape"
                                      : "%s: holds no value of the model",
                           x->hunt->theirs->label);
}

/* Copies, which hold nothing but bf16 numbers in a program of any dtype. */
static int is_copy(const char *op)
{
    return !strcmp(op, "embedding") || !strcmp(op, "cache_append") || !strcmp(op, "causal_mask");
}

/* What a program computes with is what most of its values show: one of bf16 may have its logits in
 * F32, and one of F32 has some values that bf16 could hold. */
static void settle_units(struct isolation *x)
{
    double finest = 1;
    int narrow = 0, all = 0;

    for (int i = 0; i < x->count; i++) {
        finest = x->rows[i].unit < finest ? x->rows[i].unit : finest;
        narrow += x->rows[i].unit == judge_bf16 && !is_copy(x->rows[i].op);
        all += !is_copy(x->rows[i].op);
    }
    for (int i = 0; i < x->count; i++) {
        const double own = x->rows[i].unit;

        x->rows[i].unit = 2 * narrow > all ? judge_bf16 : finest;
        x->rows[i].wide = own < x->rows[i].unit;
    }
}

/* What the run is: the prompt, how it was fed, and the tokens of the decode steps. */
static int make_request(struct isolation *x, struct error *err)
{
    static const char *const keys[] = {"tokens", "attention", "padding", "position_ids",
                                       "batch",  "chunks",    "steps",   "torch_threads"};
    const struct side_value *all = side_find(x->hunt->theirs, "tokens");
    const int64_t steps = json_integer_value(json_object_get(x->hunt->request, "steps"));
    json_t *ids;

    x->request = json_object();
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (json_object_get(x->hunt->request, keys[i]))
            json_object_set(x->request, keys[i], json_object_get(x->hunt->request, keys[i]));
    ids = side_prompt_tokens(x->hunt->ours);
    if (!json_object_get(x->request, "tokens") && ids)
        json_object_set(x->request, "tokens", ids);
    json_decref(ids);
    if (!steps)
        return 0;
    if (!all || !all->entry || all->rank != 1)
        return error_set(err, 400,
                         "%s: has decode steps, but not the tokens that they were fed (`tokens`: "
                         "those of the prompt, then one a step)",
                         x->hunt->theirs->label);
    ids = json_array();
    for (int64_t i = 0; i < all->shape[0]; i++)
        json_array_append_new(ids, json_integer(compare_stats_integer(&all->entry->tensor, i)));
    json_object_set_new(x->request, "tokens", ids);
    return 0;
}

int isolate_open(struct isolation *x, struct client *c, const struct hunt *h, int profiles,
                 struct error *err)
{
    *x = (struct isolation){.client = c,
                            .hunt = h,
                            .profiles = profiles,
                            .steps = json_object(),
                            .held = json_object()};
    x->catalogue = h->catalogue ? json_incref(h->catalogue)
                                : client_values(c, side_text(h->ours, "attention"), NULL, -1, err);
    if (!x->catalogue)
        return -1;
    index_dump(x);
    if (make_request(x, err) || make_rows(x, err))
        return -1;
    settle_units(x);
    return judge_all(x, err);
}

void isolate_close(struct isolation *x)
{
    json_decref(x->steps);
    json_decref(x->catalogue);
    json_decref(x->held);
    json_decref(x->request);
    for (int i = 0; i < x->count; i++)
        if (x->rows[i].profile) {
            profile_clear(x->rows[i].profile);
            free(x->rows[i].profile);
        }
    free(x->rows);
    *x = (struct isolation){0};
}

/* ---- telling ---- */

static const struct table_column columns[] = {
    {"value", 0, 0},    {"op", 0, 2},    {"verdict", 0, 0},
    {"distance", 1, 0}, {"floor", 1, 0}, {"differing", 1, 3},
};

static void print_row(struct table *t, const struct isolate_row *r)
{
    const struct judge *j = &r->judge;
    char text[64], more[64];

    table_row(t, COLOR_NONE);
    table_cell(t, "%s%s", r->name, r->direct ? "" : " *");
    table_cell(t, "%s", r->op);
    table_cell(t, "%s", judge_name(j->verdict));
    table_cell_color(t, j->verdict == JUDGE_BEYOND ? COLOR_BAD : COLOR_GOOD);
    table_cell(t, "%s", number_short(j->distance, text, sizeof(text)));
    table_cell(t, "%s", number_short(j->floor, text, sizeof(text)));
    table_cell(t, "%s of %s", number_grouped(j->differing, text, sizeof(text)),
               number_grouped(j->count, more, sizeof(more)));
}

int isolate_print(const struct isolation *x, int all, struct error *err)
{
    struct table *t = table_create(columns, 6);
    int indirect = 0, left = 0;

    for (int i = 0; i < x->count; i++) {
        if (!all && x->rows[i].judge.verdict != JUDGE_BEYOND) {
            left++;
            continue;
        }
        indirect |= !x->rows[i].direct;
        print_row(t, &x->rows[i]);
    }
    if (left)
        table_line(t, COLOR_DIM, "  ... %d values that rounding explains (--all shows them)", left);
    if (cli_print_table(t, err))
        return -1;
    if (indirect)
        printf("* computed forward from the nearest values that the dump has\n");
    printf("\n%d equal to PyTorch's bits, %d rounding, %d beyond rounding", x->totals[JUDGE_EQUAL],
           x->totals[JUDGE_ROUNDING], x->totals[JUDGE_BEYOND]);
    if (x->misfits)
        printf("; %d not read or of another shape, not judged", x->misfits);
    putchar('\n');
    return cli_flush(err);
}

static json_t *number(double d)
{
    return isfinite(d) ? json_real(d) : json_null();
}

json_t *isolate_json(const struct isolation *x)
{
    json_t *rows = json_array();

    for (int i = 0; i < x->count; i++) {
        const struct isolate_row *r = &x->rows[i];
        const struct judge *j = &r->judge;

        json_array_append_new(
            rows,
            json_pack("{s:s,s:s,s:s,s:o,s:o,s:o,s:o,s:I,s:I,s:I,s:b}", "value", r->name, "op",
                      r->op, "verdict", judge_name(j->verdict), "distance", number(j->distance),
                      "floor", number(j->floor), "limit", number(j->limit), "bias", number(j->bias),
                      "elements", (json_int_t)j->count, "differing", (json_int_t)j->differing,
                      "wrong", (json_int_t)j->wrong, "direct", r->direct));
    }
    return rows;
}
