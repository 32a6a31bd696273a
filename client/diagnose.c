/* diagnose.c - see diagnose.h. */
#include "client/diagnose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/table.h"
#include "client/trial.h"

enum { VALUES_MOST = 64, ODD = 25, KNOWN_AS_UNKNOWN = 2, WEIGHTS = 3 };

/* Whether a step reads what a bf16 program keeps in float32: PyTorch would have rounded it. */
static int reads_wide(const struct isolation *x, const struct isolate_row *r)
{
    const json_t *inputs =
        json_object_get(json_object_get(x->steps, side_base_name(r->name)), "inputs");
    json_t *input;
    size_t k;

    for (int i = 0; i < x->count; i++)
        json_array_foreach ((json_t *)inputs, k, input)
            if (x->rows[i].wide &&
                strcmp(side_base_name(x->rows[i].name), json_string_value(input)) == 0)
                return 1;
    return 0;
}

/* Whether a value that rounding explains is rounded in another way than PyTorch's: in a bf16 program
 * that shows in the bits, or in what is not rounded at all. */
static int is_odd(const struct isolation *x, const struct isolate_row *r)
{
    return r->judge.verdict == JUDGE_ROUNDING && r->unit == judge_bf16 && r->direct &&
           ODD * r->judge.differing > r->judge.count && (r->wide || !reads_wide(x, r));
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
    const char *path = trial_explains(t) ? t->best_path : t->path;
    char prefix[160];
    const json_t *step = json_object_get(t->x->steps, path);
    json_t *row = json_pack("{s:s,s:s,s:O?,s:s,s:f,s:f,s:O}", "value", r->name, "step", path,
                            "layer", json_object_get(step, "layer"), "row",
                            trial_row_name(t->x, path, prefix, sizeof(prefix)), "plain",
                            isfinite(r->judge.distance) ? r->judge.distance : -1.0, "limit",
                            r->judge.limit, "nearest", t->nearest);
    char says[160];
    json_t *lack;

    if (trial_explains(t)) {
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
        if (strcmp(trial_text(h, "name"), name) == 0)
            return h;
    return NULL;
}

/* What explained the same row of another layer is tried first, and alone where it explains this. */
static int try_known(struct trial *t, const json_t *hypotheses, const json_t *found,
                     struct error *err)
{
    char prefix[160];
    const char *row = trial_row_name(t->x, t->path, prefix, sizeof(prefix));
    json_t *before;
    size_t i;

    json_array_foreach ((json_t *)found, i, before) {
        const char *name = trial_text(before, "hypothesis");
        const json_t *h = name ? named(hypotheses, name) : NULL;

        if (h && strcmp(trial_text(before, "row"), row) == 0 && trial_fits(t->x, h, t->path)) {
            if (trial_run(t, h, err))
                return -1;
            if (trial_explains(t))
                return 0;
        }
    }
    return 0;
}

/* Returns how many hypotheses fit the steps of a path. */
static uint64_t count_fits(const struct isolation *x, const json_t *hypotheses, const json_t *path)
{
    json_t *step, *h;
    uint64_t count = 0;
    size_t i, k;

    json_array_foreach ((json_t *)path, i, step)
        json_array_foreach ((json_t *)hypotheses, k, h)
            count += (uint64_t)trial_fits(x, h, json_string_value(step));
    return count;
}

/* Tries nothing where the steps before the value are too many. */
static int is_hopeless(const struct trial *t)
{
    json_t *lack = lacking(t->x, t->row);

    json_decref(lack);
    return lack != NULL;
}

/* Whether none explained the same row of other layers: then what was found there stands for it. */
static int is_known_as_unknown(const struct trial *t, const json_t *found)
{
    char prefix[160];
    const char *row = trial_row_name(t->x, side_base_name(t->row->name), prefix, sizeof(prefix));
    json_t *before;
    size_t i;
    int count = 0;

    json_array_foreach ((json_t *)found, i, before) {
        if (strcmp(trial_text(before, "row"), row) != 0 || trial_text(before, "hypothesis"))
            continue;
        if (++count == KNOWN_AS_UNKNOWN) {
            json_array_extend(t->nearest, json_object_get(before, "nearest"));
            return 1;
        }
    }
    return 0;
}

/* What may be tried of this value: a bf16 program that keeps it in float32 has that mistake or none. */
static int may_be(const struct trial *t, const json_t *h)
{
    const int wide = json_is_true(json_object_get(h, "wide"));

    return t->row->judge.verdict == JUDGE_BEYOND ? !wide : wide == t->row->wide;
}

/* Step by step, from the value on: a step nearer to it explains before those that are farther. */
static int try_steps(struct trial *t, const json_t *hypotheses, const json_t *path,
                     struct error *err)
{
    json_t *step, *h;
    size_t i, k;

    json_array_foreach ((json_t *)path, i, step) {
        t->path = json_string_value(step);
        json_array_foreach ((json_t *)hypotheses, k, h)
            if (trial_fits(t->x, h, t->path) && may_be(t, h) && trial_run(t, h, err))
                return -1;
        if (trial_explains(t))
            return 0;
    }
    json_array_foreach ((json_t *)hypotheses, k, h)
        if (may_be(t, h) && trial_run_path(t, h, path, err))
            return -1;
    return 0;
}

static int try_all(struct trial *t, const json_t *hypotheses, const json_t *found,
                   struct error *err)
{
    json_t *path = isolate_path(t->x, side_base_name(t->row->name)), *step;
    size_t i;
    int rc = 0;

    if (is_hopeless(t))
        goto out;
    t->all = count_fits(t->x, hypotheses, path);
    json_array_foreach (path, i, step) {
        t->path = json_string_value(step);
        rc = try_known(t, hypotheses, found, err);
        if (rc || trial_explains(t))
            goto out;
    }
    if (!is_known_as_unknown(t, found))
        rc = try_steps(t, hypotheses, path, err);
out:
    if (t->best_path)
        t->best_path = trial_text(json_object_get(t->x->steps, t->best_path), "name");
    if (!rc)
        t->path = trial_text(json_object_get(t->x->steps, side_base_name(t->row->name)), "name");
    json_decref(path);
    return rc;
}

/* ---- several values together ---- */

static int has_weight(const char *op)
{
    return !strcmp(op, "linear") || !strcmp(op, "rms_norm") || !strcmp(op, "embedding");
}

static const char *op_of(const struct isolation *x, const json_t *row)
{
    return trial_text(json_object_get(x->steps, trial_text(row, "step")), "op");
}

/* Where several products of a layer are at fault, all unknown, and every other step is right, it is the
 * weights. */
static void see_other_weights(const struct isolation *x, json_t *found)
{
    json_t *row, *products = json_object();
    size_t i;
    int only = 1;

    json_array_foreach (found, i, row) {
        const char *op = op_of(x, row);

        only &= op && !trial_text(row, "hypothesis") && !trial_text(row, "lacks") && has_weight(op);
        if (op && strcmp(op, "linear") == 0)
            json_object_set_new(products, trial_text(row, "row"), json_true());
    }
    only &= json_object_size(products) >= WEIGHTS;
    json_decref(products);
    json_array_foreach (found, i, row)
        if (only) {
            json_object_set_new(row, "hypothesis", json_string("other_weights"));
            json_object_set_new(row, "says",
                                json_string("the weight is none of this checkpoint's: only steps "
                                            "that have weights differ (another checkpoint, or "
                                            "another quantization)"));
        }
}

json_t *diagnose(const struct isolation *x, const json_t *hypotheses, struct error *err)
{
    json_t *found = json_array();
    struct progress progress;
    int tried = 0;

    progress_start(&progress);
    for (int i = 0; i < x->count && tried < VALUES_MOST; i++) {
        struct trial t = {
            .x = x, .row = &x->rows[i], .hypotheses = hypotheses, .progress = &progress};
        const int odd = is_odd(x, &x->rows[i]);

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
        if (!odd || trial_explains(&t))
            json_array_append_new(found, describe(&t));
        json_decref(t.nearest);
    }
    progress_end(&progress);
    if (found)
        see_other_weights(x, found);
    return found;
}

/* ---- telling ---- */

static int same_mistake(const json_t *a, const json_t *b)
{
    const char *says_a = trial_text(a, "says"), *says_b = trial_text(b, "says");

    return strcmp(trial_text(a, "row"), trial_text(b, "row")) == 0 &&
           ((!says_a && !says_b) || (says_a && says_b && strcmp(says_a, says_b) == 0));
}

static void print_where(const json_t *row, int64_t last, int count, FILE *stream)
{
    const json_t *layer = json_object_get(row, "layer");
    const int64_t first = json_integer_value(layer);
    const char *name = trial_text(row, "row");

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
    if (trial_text(row, "lacks"))
        fprintf(stream, ": %s", trial_text(row, "lacks"));
    json_array_foreach (json_object_get(row, "nearest"), i, near)
        fprintf(stream, "%s%s (%.2g)", i ? "; " : "; nearest: ", trial_text(near, "says"),
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
        if (trial_text(row, "says"))
            fputs(trial_text(row, "says"), stream);
        else
            print_unknown(row, stream);
        fputc('\n', stream);
    }
    free(told);
}
