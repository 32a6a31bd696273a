/* page_compare.c - the page of `samebit compare`.  See page.h. */
#include <math.h>
#include <stdlib.h>

#include "client/page.h"
#include "client/report_table.h"
#include "client/table.h"

static const char *const facts[] = {"model", "numerics", "attention"};

static json_t *side_line(const char *name, const struct side *s)
{
    json_t *line = json_sprintf("%s %s", name, s->label), *more;

    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        const char *text = side_text(s, facts[i]);

        more = text && line ? json_sprintf("%s, %s", json_string_value(line), text) : NULL;
        if (more) {
            json_decref(line);
            line = more;
        }
    }
    return line ? line : json_string(name);
}

/* Under a preset what it says; else what assert_close says of values whose bits differ, so that rounding
 * does not look like a mistake. */
static const char *level(const struct compare *c, const struct compare_row *r)
{
    const struct preset usual = {.kind = PRESET_ASSERT_CLOSE, .rtol = -1, .atol = -1};
    int64_t first;

    if (r->verdict == COMPARE_EQUAL)
        return "equal";
    if (r->verdict == COMPARE_CLOSE)
        return "rounding";
    if (r->verdict == COMPARE_ONLY_A || r->verdict == COMPARE_ONLY_B)
        return "missing";
    if (c->preset.kind == PRESET_BITS && r->has_stats && r->profile &&
        preset_failing(&usual, &r->a->entry->tensor, &r->b->entry->tensor, &first, NULL) == 0)
        return "rounding";
    return "beyond";
}

static void add_stats(json_t *value, const struct compare *c, const struct compare_row *r)
{
    const struct compare_stats *s = &r->stats;
    char text[128], a[64], b[64];

    snprintf(text, sizeof(text), "%s of %s", number_grouped(s->differing, a, sizeof(a)),
             number_grouped(s->count, b, sizeof(b)));
    page_text(value, "differing bits", text);
    if (c->preset.kind != PRESET_BITS)
        page_number(value, "not close", (double)r->failing);
    page_number(value, "max abs", s->max_abs);
    page_number(value, "mean abs", s->mean_abs);
    page_number(value, "max ULP", (double)s->max_ulp);
    page_number(value, "cosine", s->cosine);
    if (report_shown_first(r) >= 0)
        page_text(value, "first at",
                  report_index_text(r->a, report_shown_first(r), text, sizeof(text)));
    if (!r->profile)
        return;
    page_number(value, "distance", r->profile->distance);
    page_profile(value, r->profile);
    if (r->profile->worst >= 0)
        page_worst(value, report_index_text(r->a, r->profile->worst, text, sizeof(text)),
                   compare_stats_text(&r->a->entry->tensor, r->profile->worst, a, sizeof(a)),
                   compare_stats_text(&r->b->entry->tensor, r->profile->worst, b, sizeof(b)));
}

static json_t *value_of(const struct compare *c, const struct compare_row *r)
{
    const char *is = level(c, r);
    const int close = c->preset.kind == PRESET_BITS && *is == 'r';
    json_t *value =
        page_value(r->name, is,
                   close ? "bits differ, close by assert_close" : compare_verdict_name(r->verdict));
    char text[128];

    page_text(value, "verdict", json_string_value(json_object_get(value, "word")));
    if (r->a) {
        page_text(value, "A", r->a->dtype);
        page_text(value, "shape of A", report_shape_text(r->a, text, sizeof(text)));
    }
    if (r->b) {
        page_text(value, "B", r->b->dtype);
        page_text(value, "shape of B", report_shape_text(r->b, text, sizeof(text)));
    }
    if (r->has_stats)
        add_stats(value, c, r);
    return value;
}

static json_t *findings_of(const struct compare *c)
{
    json_t *list = json_array();

    if (c->first >= 0)
        json_array_append_new(list, json_sprintf("first divergence: %s", c->rows[c->first].name));
    for (int i = 0; i < c->count; i++) {
        const struct profile *p = c->rows[i].profile;

        if (!p || !p->growth.grows)
            continue;
        json_array_append_new(
            list,
            json_sprintf("the error of %s grows with the position: %.2g in the first quarter, "
                         "%.2g in the last (rank correlation %.2f)",
                         c->rows[i].name, p->growth.first, p->growth.last, p->growth.correlation));
        break; /* what follows from the first one grows too */
    }
    return list;
}

static json_t *summary_of(const struct compare *c, int close)
{
    char wrong[32], all[32];

    return json_sprintf(
        "%d of %d values have equal bits; %s of %s elements %s", c->totals[COMPARE_EQUAL], c->count,
        number_grouped(close ? c->failing : c->wrong, wrong, sizeof(wrong)),
        number_grouped(c->elements, all, sizeof(all)), close ? "are not close" : "differ");
}

json_t *page_of_compare(const struct compare *c, const struct side *a, const struct side *b,
                        const struct hunt *hunt, const struct side *theirs)
{
    json_t *values = json_array();
    const int close = c->preset.kind != PRESET_BITS;
    char *text = NULL;
    size_t size;
    FILE *notes = open_memstream(&text, &size);

    if (notes) {
        hunt_print(hunt, theirs, notes);
        fclose(notes);
    }
    for (int i = 0; i < c->count; i++)
        json_array_append_new(values, value_of(c, &c->rows[i]));
    return json_pack("{s:s,s:[o,o],s:o,s:b,s:[s,s],s:o,s:[[s,s],[s,s],[s,s],[s,s]],s:o,s:o}",
                     "command", "compare", "sides", side_line("A", a), side_line("B", b), "summary",
                     summary_of(c, close), "same", compare_same(c), "names", "A", "B", "findings",
                     findings_of(c), "legend", "equal", "equal bits", "rounding",
                     close ? "bits differ, close under the preset"
                           : "bits differ, close by torch.testing.assert_close",
                     "beyond", "differs, redder by distance", "missing", "on one side only",
                     "notes", page_lines_take(text), "values", values);
}
