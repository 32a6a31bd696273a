/* trial.c - see trial.h. */
#include "client/trial.h"

#include <ctype.h>
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/table.h"

enum { NEAREST = 3 };
static const double LOOSE = 0.2, EXACT = 0x1p-20;

const char *trial_text(const json_t *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}

const char *trial_row_name(const struct isolation *x, const char *path, char *prefix, size_t size)
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

int trial_fits(const struct isolation *x, const json_t *h, const char *path)
{
    const char *rows = trial_text(h, "rows"), *op = trial_text(h, "op");
    const char *is = trial_text(json_object_get(x->steps, path), "op");
    char prefix[160];

    return op && is && strcmp(op, is) == 0 &&
           (!rows || fnmatch(rows, trial_row_name(x, path, prefix, sizeof(prefix)), 0) == 0);
}

/* ---- one hypothesis ---- */

/* Adds the names in the layer that a formula reads, as paths. */
static void add_values_read(const struct isolation *x, const json_t *h, const char *path,
                            json_t *paths)
{
    json_t *name;
    char prefix[160];
    size_t i;

    trial_row_name(x, path, prefix, sizeof(prefix));
    json_array_foreach (json_object_get(h, "values"), i, name)
        json_array_append_new(paths, json_sprintf("%s%s", prefix, json_string_value(name)));
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
    const char *at = trial_text(h, "formula");
    struct buffer out = {0};

    for (; *at; at++)
        if (at[0] == 'r' && at[1] == '(' &&
            (at == trial_text(h, "formula") || !isalnum((unsigned char)at[-1])))
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

static void add_formula(const struct trial *t, const json_t *h, const char *path, json_t *formulas,
                        json_t *more)
{
    char *formula = formula_of(t, h);

    json_object_set_new(formulas, path, json_string(formula));
    add_values_read(t->x, h, path, more);
    free(formula);
}

/* Sees what the daemon has computed. */
static void weigh(struct trial *t, const json_t *h, const struct safetensors *file)
{
    const struct isolate_row *r = t->row;
    const struct safetensors_entry *e = file ? safetensors_find(file, r->name) : NULL;
    struct tensor part;
    struct judge j;

    if (!e || tensor_count(&e->tensor) < tensor_count(&r->theirs->tensor))
        return;
    part = isolate_part(&e->tensor, &r->theirs->tensor);
    judge_run(&r->theirs->tensor, &part, NULL, r->unit, r->op, fmax(r->judge.floor, r->unit), &j);
    if (j.wrong || !isfinite(j.distance))
        return;
    insert_nearest(t, h, j.distance);
    if (is_nearer(t, &j)) {
        t->best = h;
        t->best_path = t->path;
        t->judge = j;
    }
}

/* Takes formulas and more. */
static int run(struct trial *t, const json_t *h, json_t *formulas, json_t *more, struct error *err)
{
    json_t *values = json_pack("[s]", t->row->name);
    struct error own = {0};
    struct safetensors *file;

    progress_show(t->progress, t->row->name, t->tried++, t->all);
    file = isolate_ask(t->x, values, "ideal", formulas, more, &own);
    weigh(t, h, file);
    safetensors_close(file);
    json_decref(values);
    json_decref(formulas);
    json_decref(more);
    return own.code && own.code != 400 ? error_set(err, own.code, "%s", own.text) : 0;
}

int trial_run(struct trial *t, const json_t *h, struct error *err)
{
    json_t *formulas = json_object(), *more = json_array();

    add_formula(t, h, t->path, formulas, more);
    return run(t, h, formulas, more, err);
}

/* ---- one mistake in several steps ---- */

static int go_together(const json_t *a, const json_t *b)
{
    const char *with_a = trial_text(a, "with"), *with_b = trial_text(b, "with");

    return a == b || (with_a && with_b && strcmp(with_a, with_b) == 0);
}

/* The first of those that go with h, h among them, that fits the step, or NULL. */
static const json_t *one_that_fits(const struct trial *t, const json_t *h, const char *path)
{
    json_t *other;
    size_t i;

    json_array_foreach ((json_t *)t->hypotheses, i, other)
        if (go_together(other, h) && trial_fits(t->x, other, path))
            return other;
    return NULL;
}

static int is_first(const struct trial *t, const json_t *h)
{
    json_t *other;
    size_t i;

    json_array_foreach ((json_t *)t->hypotheses, i, other)
        if (go_together(other, h))
            return other == h;
    return 0;
}

int trial_run_path(struct trial *t, const json_t *h, const json_t *path, struct error *err)
{
    json_t *formulas = json_object(), *more = json_array(), *step;
    size_t i;

    json_array_foreach ((json_t *)path, i, step) {
        const char *name = json_string_value(step);
        const json_t *own = is_first(t, h) ? one_that_fits(t, h, name) : NULL;

        if (own) {
            if (json_object_size(formulas) == 0)
                t->path = name;
            add_formula(t, own, name, formulas, more);
        }
    }
    if (json_object_size(formulas) > 1)
        return run(t, h, formulas, more, err);
    json_decref(formulas);
    json_decref(more);
    return 0;
}

/* ---- what it tells ---- */

int trial_explains(const struct trial *t)
{
    const struct judge *plain = &t->row->judge;

    if (!t->best)
        return 0;
    if (plain->verdict != JUDGE_BEYOND && json_is_true(json_object_get(t->best, "wide")))
        return t->judge.distance < EXACT;
    if (plain->verdict != JUDGE_BEYOND)
        return 10 * t->judge.off < plain->differing;
    return t->judge.verdict != JUDGE_BEYOND ||
           (json_is_true(json_object_get(t->best, "loose")) && !t->judge.wrong &&
            t->judge.distance < LOOSE * plain->distance);
}
