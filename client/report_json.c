/* report_json.c - the comparison for machines.  Numbers that JSON has no spelling for are the
 * strings "NaN", "Infinity" and "-Infinity".  See report.h. */
#include "client/report.h"

#include <math.h>
#include <string.h>

#include "client/arithmetic.h"
#include "client/cli.h"
#include "client/report_profile.h"

static json_t *real(double v)
{
    if (isnan(v) || isinf(v))
        return json_string(isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
    return json_real(v);
}

static json_t *element(const struct side_value *v, int64_t i)
{
    if (v->entry->tensor.dtype == DTYPE_I64)
        return json_integer((json_int_t)compare_stats_integer(&v->entry->tensor, i));
    return real(compare_stats_element(&v->entry->tensor, i));
}

static json_t *shape(const struct side_value *v)
{
    json_t *list = json_array();

    for (int k = 0; k < v->rank; k++)
        json_array_append_new(list, json_integer(v->shape[k]));
    return list;
}

static json_t *first_index(const struct side_value *v, int64_t flat)
{
    json_t *list = json_array();

    for (int k = v->rank - 1; k >= 0; k--) {
        json_array_insert_new(list, 0, json_integer(flat % v->shape[k]));
        flat /= v->shape[k];
    }
    return list;
}

static void add_side(json_t *row, const char *key, const struct side_value *v)
{
    json_t *about;

    if (!v)
        return;
    about = json_pack("{s:s,s:s}", "name", v->name, "dtype", v->dtype);
    if (v->rank >= 0)
        json_object_set_new(about, "shape", shape(v));
    json_object_set_new(row, key, about);
}

static void add_stats(json_t *row, const struct compare_row *r)
{
    const struct compare_stats *s = &r->stats;

    json_object_set_new(row, "elements", json_integer(s->count));
    json_object_set_new(row, "differing", json_integer(s->differing));
    json_object_set_new(row, "max_abs", real(s->max_abs));
    json_object_set_new(row, "mean_abs", real(s->mean_abs));
    json_object_set_new(row, "max_ulp", json_integer((json_int_t)s->max_ulp));
    json_object_set_new(row, "ulp_dtype", json_string(dtype_name(s->ulp_dtype)));
    json_object_set_new(row, "cosine", real(s->cosine));
    json_object_set_new(row, "nan_pairs", json_integer(s->nan_pairs));
    json_object_set_new(row, "nan_of_other_bits", json_integer(s->nan_other));
    if (s->first < 0)
        return;
    json_object_set_new(row, "first",
                        json_pack("{s:o,s:o,s:o}", "index", first_index(r->a, s->first), "a",
                                  element(r->a, s->first), "b", element(r->b, s->first)));
}

/* first_failing where some are not close; the tolerances, which the dtypes may decide. */
static void add_tolerances(json_t *row, const struct compare_row *r, const struct preset *p)
{
    double rtol, atol;

    preset_tolerances(p, r->a->entry->tensor.dtype, r->b->entry->tensor.dtype, &rtol, &atol);
    json_object_set_new(row, "rtol", json_real(rtol));
    json_object_set_new(row, "atol", json_real(atol));
    json_object_set_new(row, "failing", json_integer(r->failing));
    if (r->first_failing >= 0)
        json_object_set_new(row, "first_failing", first_index(r->a, r->first_failing));
}

/* tolerances: NULL where bits decide. */
static json_t *row_json(const struct compare_row *r, const struct preset *tolerances, int profiles)
{
    static const char *const words[COMPARE_VERDICTS] = {
        [COMPARE_OPEN] = "open",           [COMPARE_EQUAL] = "equal",
        [COMPARE_CLOSE] = "close",         [COMPARE_DIFFERS] = "differs",
        [COMPARE_SHAPE] = "shape",         [COMPARE_DTYPE] = "dtype",
        [COMPARE_ONLY_A] = "missing_in_b", [COMPARE_ONLY_B] = "missing_in_a",
    };
    json_t *row = json_pack("{s:s,s:s}", "value", r->name, "verdict", words[r->verdict]);

    add_side(row, "a", r->a);
    add_side(row, "b", r->b);
    if (r->has_stats)
        add_stats(row, r);
    if (tolerances && r->has_stats)
        add_tolerances(row, r, tolerances);
    if (r->profile)
        report_profile_json(row, r->profile, profiles);
    return row;
}

static json_t *side_json(const struct side *s)
{
    json_t *about = json_pack("{s:s}", "from", s->label), *value;
    const char *key;

    json_object_foreach (s->metadata, key, value)
        if ((json_is_string(value) || strcmp(key, "torch_threads") == 0) &&
            strcmp(key, "aliases") != 0 && strcmp(key, "prompt_tokens") != 0)
            json_object_set(about, key, value);
    return about;
}

int report_json(const struct compare *c, const struct side *a, const struct side *b,
                const json_t *understanding, const struct report_options *options,
                struct error *err)
{
    json_t *out = json_object(), *rows = json_array();
    const struct preset *tolerances = c->preset.kind == PRESET_BITS ? NULL : &c->preset;
    json_t *arithmetic = arithmetic_json(a, b);
    int64_t limit = options->all ? 0 : options->limit;
    int rc;

    json_object_set_new(out, "same", json_boolean(compare_same(c)));
    json_object_set_new(out, "a", side_json(a));
    json_object_set_new(out, "b", side_json(b));
    if (arithmetic)
        json_object_set_new(out, "another_arithmetic", arithmetic);
    json_object_set_new(out, "first_divergence",
                        c->first < 0 ? json_null() : json_string(c->rows[c->first].name));
    json_object_set_new(out, "values", json_integer(c->count));
    json_object_set_new(out, "values_equal", json_integer(c->totals[COMPARE_EQUAL]));
    json_object_set_new(out, "preset", json_string(preset_name(&c->preset)));
    if (tolerances) {
        json_object_set_new(out, "values_close", json_integer(c->totals[COMPARE_CLOSE]));
        json_object_set_new(out, "elements_failing", json_integer(c->failing));
    }
    json_object_set_new(out, "elements", json_integer(c->elements));
    json_object_set_new(out, "elements_differing", json_integer(c->wrong));
    json_object_set_new(out, "nan_of_other_bits", json_integer(c->nan_other));
    for (int i = 0; i < c->count; i++)
        if (!(options->only_different && c->rows[i].verdict == COMPARE_EQUAL) &&
            !(limit && (int64_t)json_array_size(rows) >= limit))
            json_array_append_new(rows, row_json(&c->rows[i], tolerances, options->profiles));
    json_object_set_new(out, "rows", rows);
    if (understanding)
        json_object_set(out, "understanding", (json_t *)understanding);
    rc = cli_print_json(out, err);
    json_decref(out);
    return rc;
}
