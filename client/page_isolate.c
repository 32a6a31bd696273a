/* page_isolate.c - the page of `samebit isolate` and `samebit diagnose`.  See page.h. */
#include <stdlib.h>
#include <string.h>

#include "client/diagnose.h"
#include "client/page.h"
#include "client/table.h"

static const char *const levels[JUDGE_VERDICTS] = {"equal", "rounding", "beyond"};

/* "[0, 3, 17]" */
static char *index_text(const struct tensor *t, int64_t flat, char *out, size_t size)
{
    struct tensor index = {.rank = t->rank};

    for (int k = t->rank - 1; k >= 0; k--) {
        index.shape[k] = flat % t->shape[k];
        flat /= t->shape[k];
    }
    return tensor_shape_text(&index, out, size);
}

/* What was found of a value or of the step that it names. */
static json_t *says_of(const json_t *found, const char *name)
{
    json_t *says = json_array(), *row;
    size_t i;

    json_array_foreach ((json_t *)found, i, row) {
        const char *value = json_string_value(json_object_get(row, "value"));
        const char *text = json_string_value(json_object_get(row, "says"));

        if (value && strcmp(value, name) == 0)
            json_array_append_new(says, json_string(text ? text : "unknown mistake"));
    }
    return says;
}

static json_t *value_of(const struct isolate_row *r, const json_t *found)
{
    const struct judge *j = &r->judge;
    json_t *value = page_value(r->name, levels[j->verdict], judge_name(j->verdict));
    json_t *says = says_of(found, r->name);
    char text[128], a[64], b[64];

    if (json_array_size(says))
        json_object_set(value, "says", says);
    json_decref(says);
    page_text(value, "verdict", judge_name(j->verdict));
    page_text(value, "op", r->op);
    page_text(value, "inputs",
              r->direct ? "the dump's own" : "computed forward from what the dump holds");
    page_number(value, "distance from ideal", j->distance);
    page_number(value, "noise floor", j->floor);
    page_number(value, "limit", j->limit);
    page_number(value, "bias", j->bias);
    snprintf(text, sizeof(text), "%s of %s", number_grouped(j->differing, a, sizeof(a)),
             number_grouped(j->count, b, sizeof(b)));
    page_text(value, "differing from PyTorch", text);
    if (j->wrong)
        page_number(value, "NaN or masked where it should not be", (double)j->wrong);
    if (!r->profile)
        return value;
    page_profile(value, r->profile);
    snprintf(a, sizeof(a), "%.9g", r->worst[0]);
    snprintf(b, sizeof(b), "%.9g", r->worst[1]);
    if (r->profile->worst >= 0)
        page_worst(value, index_text(&r->theirs->tensor, r->profile->worst, text, sizeof(text)), a,
                   b);
    return value;
}

/* What print writes, in lines. */
static json_t *notes_of(const struct hunt *h)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (f) {
        hunt_print(h, h->theirs, f);
        fclose(f);
    }
    return page_lines_take(text);
}

static json_t *findings_of(const json_t *found)
{
    char *text = NULL;
    size_t size;
    FILE *f = found ? open_memstream(&text, &size) : NULL;

    if (f) {
        diagnose_print(found, f);
        fclose(f);
    }
    return page_lines_take(text);
}

json_t *page_of_isolation(const struct isolation *x, const json_t *found)
{
    const struct side *ours = x->hunt->ours;
    const char *numerics = side_text(ours, "numerics"), *attention = side_text(ours, "attention");
    json_t *values = json_array();

    for (int i = 0; i < x->count; i++)
        json_array_append_new(values, value_of(&x->rows[i], found));
    return json_pack(
        "{s:s,s:[s,o],s:o,s:b,s:[s,s],s:o,s:[[s,s],[s,s],[s,s]],s:o,s:o}", "command",
        found ? "diagnose" : "isolate", "sides", x->hunt->theirs->label,
        json_sprintf("%s, %s, %s", ours->label, numerics ? numerics : "",
                     attention ? attention : ""),
        "summary",
        json_sprintf(
            "Each step on the dump's own inputs: %d equal to PyTorch's bits, %d rounding, %d "
            "beyond rounding",
            x->totals[JUDGE_EQUAL], x->totals[JUDGE_ROUNDING], x->totals[JUDGE_BEYOND]),
        "same", x->totals[JUDGE_BEYOND] == 0, "names", "dump", "PyTorch", "findings",
        findings_of(found), "legend", "equal", "PyTorch's bits", "rounding",
        "what rounding explains", "beyond", "beyond rounding, redder by distance", "notes",
        notes_of(x->hunt), "values", values);
}
