/* diagnose.c - see diagnose.h. */
#include "client/diagnose.h"

#include <ctype.h>
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/table.h"

enum { NEAREST = 3, VALUES_MOST = 64, ODD = 25 };
static const double LOOSE = 0.2;

static const char *text_of(const json_t *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}

/* "self_attn.q_rope" of "model.layers.0.self_attn.q_rope", "x" of "model.layers.0"; the path itself
 * outside of the layers.  prefix: set to "model.layers.0.", or "". */
static const char *row_name(const struct isolation *x, const char *path, char *prefix, size_t size)
{
    const json_t *layer = json_object_get(json_object_get(x->steps, path), "layer");
    const char *at = path;

    *prefix = '\0';
    if (!json_is_integer(layer) || json_integer_value(layer) < 0)
        return path;
    while (*at && !(at[0] == '.' && at[1] >= '0' && at[1] <= '9'))
        at++;
    at += *at == '.';
    at += strspn(at, "0123456789");
    snprintf(prefix, size, "%.*s.", (int)(at - path), path);
    return *at == '.' ? at + 1 : "x";
}

static int fits(const struct isolation *x, const json_t *h, const char *path)
{
    const char *rows = text_of(h, "rows"), *op = text_of(h, "op");
    const char *is = text_of(json_object_get(x->steps, path), "op");
    char prefix[160];

    return op && is && strcmp(op, is) == 0 &&
           (!rows || fnmatch(rows, row_name(x, path, prefix, sizeof(prefix)), 0) == 0);
}

/* ---- one hypothesis ---- */

struct trial {
    const struct isolation *x;
    const struct isolate_row *row;
    const char *path;      /* the step that the formula stands for */
    const json_t *best;    /* the hypothesis that comes nearest, */
    const char *best_path; /* for this step */
    struct judge judge;    /* and how near */
    json_t *nearest;       /* [{hypothesis, says, distance}], nearest first */
    struct progress *progress;
    uint64_t tried, all; /* hypotheses */
};

/* Names in the layer that a formula reads, as paths. */
static json_t *values_read(const struct isolation *x, const json_t *h, const char *path)
{
    json_t *paths = json_array(), *name;
    char prefix[160];
    size_t i;

    row_name(x, path, prefix, sizeof(prefix));
    json_array_foreach (json_object_get(h, "values"), i, name)
        json_array_append_new(paths, json_sprintf("%s%s", prefix, json_string_value(name)));
    return paths;
}

static void insert_nearest(struct trial *t, const json_t *h, double distance)
{
    json_t *row = json_pack("{s:O?,s:O?,s:f}", "hypothesis", json_object_get(h, "name"), "says",
                            json_object_get(h, "says"), "distance", distance);
    size_t k = 0;

    while (k < json_array_size(t->nearest) &&
           json_number_value(json_object_get(json_array_get(t->nearest, k), "distance")) <=
               distance)
        k++;
    json_array_insert_new(t->nearest, k, row);
    while (json_array_size(t->nearest) > NEAREST)
        json_array_remove(t->nearest, NEAREST);
}

/* The formula, "r(" in it being what the dump's own program rounds to. */
static char *formula_of(const struct trial *t, const json_t *h)
{
    const int narrow = t->row->unit == judge_bf16;
    const char *at = text_of(h, "formula");
    struct buffer out = {0};

    for (; *at; at++)
        if (at[0] == 'r' && at[1] == '(' &&
            (at == text_of(h, "formula") || !isalnum((unsigned char)at[-1])))
            buffer_text(&out, narrow ? "bf16" : "");
        else
            buffer_append(&out, at, 1);
    return out.data;
}

/* Whether this is nearer than what was best.  A bf16 program is told by its bits.  What is equally near
 * is left to the one that stands first. */
static int is_nearer(const struct trial *t, const struct judge *j)
{
    if (!t->best)
        return 1;
    if (t->row->unit == judge_bf16 && 100 * llabs(j->off - t->judge.off) > j->count)
        return j->off < t->judge.off;
    return j->distance < 0.9 * t->judge.distance;
}

/* {path: formula} for the step, or for all steps on the path that the hypothesis fits: a mistake in how
 * heads are rotated is made of queries and of keys. */
static json_t *formulas_of(const struct trial *t, const json_t *h, const json_t *path)
{
    char *formula = formula_of(t, h);
    json_t *formulas = json_object(), *step;
    size_t i;

    if (!path)
        json_object_set_new(formulas, t->path, json_string(formula));
    json_array_foreach ((json_t *)path, i, step)
        if (fits(t->x, h, json_string_value(step)))
            json_object_set_new(formulas, json_string_value(step), json_string(formula));
    free(formula);
    return formulas;
}

/* Runs it for the step, or with a path for all of its steps; what cannot be run here (no bias, another
 * shape, a value that the dump lacks) says nothing.  -1: the daemon does not answer. */
static int try_one(struct trial *t, const json_t *h, const json_t *path, struct error *err)
{
    const struct isolate_row *r = t->row;
    json_t *values = json_pack("[s]", r->name);
    json_t *formulas = formulas_of(t, h, path);
    json_t *more = values_read(t->x, h, t->path);
    struct error own = {0};
    struct safetensors *file;
    const struct safetensors_entry *e;
    struct judge j;

    progress_show(t->progress, r->name, t->tried++, t->all);
    file = isolate_ask(t->x, values, "ideal", formulas, more, &own);
    e = file ? safetensors_find(file, r->name) : NULL;
    if (e && tensor_count(&e->tensor) >= tensor_count(&r->theirs->tensor)) {
        const struct tensor part = isolate_part(&e->tensor, &r->theirs->tensor);

        judge_run(&r->theirs->tensor, &part, NULL, r->unit, r->op, fmax(r->judge.floor, r->unit),
                  &j);
        if (!j.wrong && isfinite(j.distance)) {
            insert_nearest(t, h, j.distance);
            if (is_nearer(t, &j)) {
                t->best = h;
                t->best_path = t->path;
                t->judge = j;
            }
        }
    }
    safetensors_close(file);
    json_decref(values);
    json_decref(formulas);
    json_decref(more);
    return own.code && own.code != 400 ? error_set(err, own.code, "%s", own.text) : 0;
}

/* Whether the best reproduces the dump's values: within rounding; where the hypothesis rounds on the way
 * (`loose`), where a tie falls may differ; of values that rounding explains, by the bits. */
static int explains(const struct trial *t)
{
    const struct judge *plain = &t->row->judge;

    if (!t->best)
        return 0;
    if (plain->verdict != JUDGE_BEYOND)
        return 10 * t->judge.off < plain->differing;
    return t->judge.verdict != JUDGE_BEYOND ||
           (json_is_true(json_object_get(t->best, "loose")) && !t->judge.wrong &&
            t->judge.distance < LOOSE * plain->distance);
}

/* Whether a value that rounding explains is rounded in another way than PyTorch's: in a bf16 program
 * that shows in the bits. */
static int is_odd(const struct isolate_row *r)
{
    return r->judge.verdict == JUDGE_ROUNDING && r->unit == judge_bf16 && r->direct &&
           ODD * r->judge.differing > r->judge.count;
}

/* ---- what cannot be told ---- */

/* Returns how many steps one layer has. */
static size_t steps_of_layer(const struct isolation *x)
{
    json_t *row;
    size_t i, count = 0;

    json_array_foreach (x->catalogue, i, row) {
        const json_t *layer = json_object_get(row, "layer");

        count += json_is_integer(layer) && json_integer_value(layer) == 0;
    }
    return count;
}

/* Returns the one value that the dump holds, NULL if it holds several. */
static const char *only_value(const struct isolation *x)
{
    const char *first = side_base_name(x->rows[0].name);

    for (int i = 1; i < x->count; i++)
        if (strcmp(side_base_name(x->rows[i].name), first) != 0)
            return NULL;
    return first;
}

/* Returns what the dump lacks to tell which step before the value is at fault: a new string, or NULL
 * where the dump holds the value's inputs but for one layer's worth of steps. */
static json_t *lacking(const struct isolation *x, const struct isolate_row *r)
{
    json_t *path = isolate_path(x, side_base_name(r->name)), *step;
    const char *only = only_value(x);
    size_t i, within = 0;

    json_array_foreach (path, i, step) {
        const json_t *row = json_object_get(x->steps, json_string_value(step));
        const json_t *layer = json_object_get(row, "layer");

        within += json_is_integer(layer) && json_integer_value(layer) >= 0;
    }
    i = json_array_size(path);
    json_decref(path);
    if (within <= steps_of_layer(x))
        return NULL;
    if (only)
        return json_sprintf("the dump holds only %s; dump layer outputs to name a step", only);
    return json_sprintf("the dump lacks the %d steps before it; dump layer outputs to name one",
                        (int)i - 1);
}

/* Returns what is said of NaN where the step, on the dump's own inputs, gives numbers; else NULL. */
static json_t *said_of_nan(const struct isolate_row *r)
{
    if (!r->judge.nan)
        return NULL;
    return json_sprintf("NaN in %lld of %lld elements, where its inputs give numbers",
                        (long long)r->judge.nan, (long long)r->judge.count);
}

/* ---- one value ---- */

static json_t *describe(const struct trial *t)
{
    const struct isolate_row *r = t->row;
    const char *path = explains(t) ? t->best_path : t->path;
    char prefix[160];
    const json_t *step = json_object_get(t->x->steps, path);
    json_t *row = json_pack("{s:s,s:s,s:O?,s:s,s:f,s:f,s:O}", "value", r->name, "step", path,
                            "layer", json_object_get(step, "layer"), "row",
                            row_name(t->x, path, prefix, sizeof(prefix)), "plain",
                            isfinite(r->judge.distance) ? r->judge.distance : -1.0, "limit",
                            r->judge.limit, "nearest", t->nearest);
    char says[160];
    json_t *lack;

    if (explains(t)) {
        json_object_set(row, "hypothesis", json_object_get(t->best, "name"));
        json_object_set(row, "says", json_object_get(t->best, "says"));
        json_object_set_new(row, "distance", json_real(t->judge.distance));
        return row;
    }
    if (r->judge.nan) {
        json_object_set_new(row, "hypothesis", json_string("nan"));
        json_object_set_new(row, "says", said_of_nan(r));
        return row;
    }
    if (!r->judge.wrong && r->judge.scaled <= r->judge.limit) {
        snprintf(says, sizeof(says), "the port's value is %.6g times what it should be",
                 r->judge.scale);
        json_object_set_new(row, "hypothesis", json_string("scaled"));
        json_object_set_new(row, "says", json_string(says));
        json_object_set_new(row, "distance", json_real(r->judge.scaled));
        return row;
    }
    json_object_set_new(row, "hypothesis", json_null());
    if ((lack = lacking(t->x, r)) != NULL)
        json_object_set_new(row, "lacks", lack);
    return row;
}

static const json_t *named(const json_t *hypotheses, const char *name)
{
    json_t *h;
    size_t i;

    json_array_foreach ((json_t *)hypotheses, i, h)
        if (strcmp(text_of(h, "name"), name) == 0)
            return h;
    return NULL;
}

/* What explained the same row of another layer is tried first, and alone where it explains this. */
static int try_known(struct trial *t, const json_t *hypotheses, const json_t *found,
                     struct error *err)
{
    char prefix[160];
    const char *row = row_name(t->x, t->path, prefix, sizeof(prefix));
    json_t *before;
    size_t i;

    json_array_foreach ((json_t *)found, i, before) {
        const char *name = text_of(before, "hypothesis");
        const json_t *h = name ? named(hypotheses, name) : NULL;

        if (h && strcmp(text_of(before, "row"), row) == 0 && fits(t->x, h, t->path)) {
            if (try_one(t, h, NULL, err))
                return -1;
            if (explains(t))
                return 0;
        }
    }
    return 0;
}

/* The first step on the path that the hypothesis fits, where it fits several; else NULL. */
static const char *first_fit(const struct trial *t, const json_t *h, const json_t *path)
{
    const char *first = NULL;
    json_t *step;
    size_t i;
    int count = 0;

    json_array_foreach ((json_t *)path, i, step)
        if (fits(t->x, h, json_string_value(step)) && count++ == 0)
            first = json_string_value(step);
    return count > 1 ? first : NULL;
}

/* Returns how many hypotheses fit the steps of a path. */
static uint64_t count_fits(const struct isolation *x, const json_t *hypotheses, const json_t *path)
{
    json_t *step, *h;
    uint64_t count = 0;
    size_t i, k;

    json_array_foreach ((json_t *)path, i, step)
        json_array_foreach ((json_t *)hypotheses, k, h)
            count += (uint64_t)fits(x, h, json_string_value(step));
    return count;
}

/* Tries nothing where the steps before the value are too many, or no formula gives its NaN. */
static int is_hopeless(const struct trial *t)
{
    json_t *lack = lacking(t->x, t->row);

    json_decref(lack);
    return lack || t->row->judge.nan;
}

static int try_all(struct trial *t, const json_t *hypotheses, const json_t *found,
                   struct error *err)
{
    json_t *path = isolate_path(t->x, side_base_name(t->row->name)), *step, *h;
    size_t i, k;
    int rc = 0;

    if (is_hopeless(t))
        goto out;
    t->all = count_fits(t->x, hypotheses, path);
    json_array_foreach (path, i, step) {
        t->path = json_string_value(step);
        rc = try_known(t, hypotheses, found, err);
        if (rc || explains(t))
            goto out;
    }
    json_array_foreach (path, i, step) {
        t->path = json_string_value(step);
        json_array_foreach ((json_t *)hypotheses, k, h) {
            if (fits(t->x, h, t->path) && (rc = try_one(t, h, NULL, err)) != 0)
                goto out;
        }
        if (explains(t)) /* a step nearer to the value than those that are left */
            goto out;
    }
    json_array_foreach ((json_t *)hypotheses, k, h) {
        t->path = first_fit(t, h, path);
        if (t->path && (rc = try_one(t, h, path, err)) != 0)
            goto out;
    }
out:
    if (t->best_path)
        t->best_path = text_of(json_object_get(t->x->steps, t->best_path), "name");
    if (!rc)
        t->path = text_of(json_object_get(t->x->steps, side_base_name(t->row->name)), "name");
    json_decref(path);
    return rc;
}

json_t *diagnose(const struct isolation *x, const json_t *hypotheses, struct error *err)
{
    json_t *found = json_array();
    struct progress progress;
    int tried = 0;

    progress_start(&progress);
    for (int i = 0; i < x->count && tried < VALUES_MOST; i++) {
        struct trial t = {.x = x, .row = &x->rows[i], .progress = &progress};
        const int odd = is_odd(&x->rows[i]);

        if (x->rows[i].judge.verdict != JUDGE_BEYOND && !odd)
            continue;
        tried += !odd;
        t.nearest = json_array();
        if (try_all(&t, hypotheses, found, err)) {
            json_decref(t.nearest);
            json_decref(found);
            found = NULL;
            break;
        }
        if (!odd || explains(&t))
            json_array_append_new(found, describe(&t));
        json_decref(t.nearest);
    }
    progress_end(&progress);
    return found;
}

/* ---- telling ---- */

static int same_mistake(const json_t *a, const json_t *b)
{
    const char *says_a = text_of(a, "says"), *says_b = text_of(b, "says");

    return strcmp(text_of(a, "row"), text_of(b, "row")) == 0 &&
           ((!says_a && !says_b) || (says_a && says_b && strcmp(says_a, says_b) == 0));
}

static void print_where(const json_t *row, int64_t last, int count, FILE *stream)
{
    const json_t *layer = json_object_get(row, "layer");
    const int64_t first = json_integer_value(layer);
    const char *name = text_of(row, "row");

    if (!json_is_integer(layer) || first < 0)
        fprintf(stream, "%s: ", name);
    else if (first == last)
        fprintf(stream, "layer %lld %s: ", (long long)first, strcmp(name, "x") ? name : "output");
    else
        fprintf(stream, "layers %lld to %lld %s (%d values): ", (long long)first, (long long)last,
                strcmp(name, "x") ? name : "output", count);
}

static void print_unknown(const json_t *row, FILE *stream)
{
    json_t *near;
    size_t i;

    fprintf(stream, "unknown mistake (distance %.2g, rounding explains %.2g)",
            json_number_value(json_object_get(row, "plain")),
            json_number_value(json_object_get(row, "limit")));
    if (text_of(row, "lacks"))
        fprintf(stream, ": %s", text_of(row, "lacks"));
    json_array_foreach (json_object_get(row, "nearest"), i, near)
        fprintf(stream, "%s%s (%.2g)", i ? "; " : "; nearest: ", text_of(near, "says"),
                json_number_value(json_object_get(near, "distance")));
}

void diagnose_print(const json_t *found, FILE *stream)
{
    const size_t count = json_array_size(found);
    char *told = calloc(count + 1, 1);

    if (count == 0)
        fputs("no mistake: rounding explains every value\n", stream);
    for (size_t i = 0; told && i < count; i++) {
        const json_t *row = json_array_get(found, i);
        int64_t last = json_integer_value(json_object_get(row, "layer"));
        int same = 0;

        if (told[i])
            continue;
        for (size_t k = i; k < count; k++)
            if (same_mistake(row, json_array_get(found, k))) {
                last = json_integer_value(json_object_get(json_array_get(found, k), "layer"));
                told[k] = 1;
                same++;
            }
        print_where(row, last, same, stream);
        if (text_of(row, "says"))
            fputs(text_of(row, "says"), stream);
        else
            print_unknown(row, stream);
        fputc('\n', stream);
    }
    free(told);
}
