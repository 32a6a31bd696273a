/* report_table.c - a row of the table for each value.  See report_table.h. */
#include "client/report_table.h"

#include <math.h>
#include <string.h>

#include "client/cli.h"

/* That many rows in a run with the same verdict become one line. */
enum { FOLD_FROM = 4 };

enum { VALUE, VERDICT, DIFFERING, MAX_ABS, MEAN_ABS, MAX_ULP, COSINE, FIRST, SIDE_A, SIDE_B };

static const struct table_column columns[] = {
    [VALUE] = {"value", 0, 0},
    [VERDICT] = {"verdict", 0, 0},
    [DIFFERING] = {"differing", 1, 0},
    [MAX_ABS] = {"max abs", 1, 1},
    [MEAN_ABS] = {"mean abs", 1, 5},
    [MAX_ULP] = {"max ULP", 1, 2},
    [COSINE] = {"cosine", 1, 4},
    [FIRST] = {"first at", 0, 3},
    [SIDE_A] = {"A", 1, 3},
    [SIDE_B] = {"B", 1, 3},
};

char *report_index_text(const struct side_value *v, int64_t flat, char *out, size_t size)
{
    struct tensor index = {.rank = v->rank};

    for (int k = v->rank - 1; k >= 0; k--) {
        index.shape[k] = flat % v->shape[k];
        flat /= v->shape[k];
    }
    return tensor_shape_text(&index, out, size);
}

char *report_shape_text(const struct side_value *v, char *out, size_t size)
{
    struct tensor t = {.rank = v->rank};

    memcpy(t.shape, v->shape, sizeof(t.shape));
    return v->rank < 0 ? "?" : tensor_shape_text(&t, out, size);
}

/* Returns how many elements of an equal row are equal only because both are NaN. */
static int64_t forgiven(const struct compare_row *r)
{
    return r->verdict == COMPARE_EQUAL && r->has_stats ? r->stats.nan_other : 0;
}

static const char *verdict_text(const struct compare_row *r)
{
    return forgiven(r) ? "equal but NaN" : compare_verdict_name(r->verdict);
}

static enum color verdict_color(enum compare_verdict verdict)
{
    if (verdict == COMPARE_EQUAL || verdict == COMPARE_CLOSE)
        return COLOR_GOOD;
    return verdict == COMPARE_ONLY_A || verdict == COMPARE_ONLY_B ? COLOR_WARN : COLOR_BAD;
}

/* Writes a cosine; near 1, as its distance from 1. */
static char *cosine_text(double c, char *out, size_t size)
{
    if (c == 1 || isnan(c))
        snprintf(out, size, "%s", isnan(c) ? "nan" : "1");
    else if (c > 0.99999)
        snprintf(out, size, "1-%.1e", 1 - c);
    else
        snprintf(out, size, "%.7f", c);
    return out;
}

int64_t report_shown_first(const struct compare_row *r)
{
    return r->failing ? r->first_failing : r->stats.first;
}

static void add_numbers(struct table *t, const struct compare_row *r)
{
    const struct compare_stats *s = &r->stats;
    const int64_t first = report_shown_first(r);
    const int64_t shown = r->verdict == COMPARE_CLOSE ? 0 : r->failing ? r->failing : s->differing;
    char text[64], more[64];

    table_cell(t, "%s of %s", number_grouped(shown, text, sizeof(text)),
               number_grouped(s->count, more, sizeof(more)));
    table_cell(t, "%s", number_short(s->max_abs, text, sizeof(text)));
    table_cell(t, "%s", number_short(s->mean_abs, text, sizeof(text)));
    table_cell(t, "%s", number_grouped((int64_t)s->max_ulp, text, sizeof(text)));
    table_cell(t, "%s", cosine_text(s->cosine, text, sizeof(text)));
    table_cell(t, "%s", report_index_text(r->a, first, text, sizeof(text)));
    table_cell(t, "%s", compare_stats_text(&r->a->entry->tensor, first, text, sizeof(text)));
    table_cell(t, "%s", compare_stats_text(&r->b->entry->tensor, first, text, sizeof(text)));
}

/* Adds the cells of a row without numbers: how many elements are equal, or why it was not compared. */
static void add_words(struct table *t, const struct compare_row *r)
{
    char a[64], b[64];

    if (r->verdict == COMPARE_EQUAL && r->a->rank >= 0) {
        int64_t n = 1;

        for (int k = 0; k < r->a->rank; k++)
            n *= r->a->shape[k];
        table_cell(t, "0 of %s", number_grouped(n, a, sizeof(a)));
        table_cell(t, "0");
        table_cell(t, "0");
        table_cell(t, "0");
        table_cell(t, "1");
        return;
    }
    for (int k = DIFFERING; k < SIDE_A; k++)
        table_cell(t, "%s", "");
    if (r->verdict == COMPARE_SHAPE) {
        table_cell(t, "%s", report_shape_text(r->a, a, sizeof(a)));
        table_cell(t, "%s", report_shape_text(r->b, b, sizeof(b)));
    } else if (r->verdict == COMPARE_DTYPE || r->verdict == COMPARE_DIFFERS) {
        table_cell(t, "%s", r->a->dtype);
        table_cell(t, "%s", r->b->dtype);
    }
}

static void add_row(struct table *t, const struct compare_row *r)
{
    table_row(t, COLOR_NONE);
    table_cell(t, "%s", r->name);
    table_cell(t, "%s", verdict_text(r));
    table_cell_color(t, verdict_color(r->verdict));
    if (r->has_stats && (r->stats.differing || r->failing))
        add_numbers(t, r);
    else
        add_words(t, r);
}

/* Returns how many rows from here on have the same verdict and no numbers: equal bits, or missing. */
static int run_of(const struct compare *c, int from)
{
    enum compare_verdict verdict = c->rows[from].verdict;
    int n = 0;

    if ((verdict != COMPARE_EQUAL && verdict != COMPARE_ONLY_A && verdict != COMPARE_ONLY_B) ||
        forgiven(&c->rows[from]))
        return 1;
    while (from + n < c->count && c->rows[from + n].verdict == verdict &&
           !forgiven(&c->rows[from + n]))
        n++;
    return n;
}

static void add_rows(struct table *t, const struct compare *c, const struct report_options *o)
{
    int64_t shown = 0, left = 0, limit = o->all ? 0 : o->limit;

    for (int i = 0, run; i < c->count; i += run) {
        run = o->all ? 1 : run_of(c, i);
        if (o->only_different && c->rows[i].verdict == COMPARE_EQUAL)
            continue;
        if (run < FOLD_FROM)
            run = 1;
        if (limit && shown >= limit) {
            left += run;
            continue;
        }
        shown++;
        if (run > 1)
            table_line(t, COLOR_DIM, "  ... %d values %s: %s to %s", run,
                       c->rows[i].verdict == COMPARE_EQUAL
                           ? "with equal bits"
                           : compare_verdict_name(c->rows[i].verdict),
                       c->rows[i].name, c->rows[i + run - 1].name);
        else
            add_row(t, &c->rows[i]);
    }
    if (left)
        table_line(t, COLOR_DIM, "  ... and %lld more; --all shows every one", (long long)left);
}

int report_table(const struct compare *c, const struct report_options *options, struct error *err)
{
    struct table_column shown[sizeof(columns) / sizeof(columns[0])];
    struct table *t;

    memcpy(shown, columns, sizeof(columns));
    if (c->preset.kind != PRESET_BITS)
        shown[DIFFERING].title = "not close";
    t = table_create(shown, sizeof(columns) / sizeof(columns[0]));
    add_rows(t, c, options);
    return cli_print_table(t, err);
}
