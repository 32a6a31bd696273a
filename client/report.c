/* report.c - the comparison for people.  See report.h. */
#include "client/report.h"

#include <math.h>
#include <string.h>

#include "client/cli.h"

enum { FOLD_FROM = 4 }; /* that many rows in a run with the same verdict become one line */

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

/* "[0, 3, 17]" of a flat index. */
static char *index_text(const struct side_value *v, int64_t flat, char *out, size_t size)
{
    struct tensor index = {.rank = v->rank};

    for (int k = v->rank - 1; k >= 0; k--) {
        index.shape[k] = flat % v->shape[k];
        flat /= v->shape[k];
    }
    return tensor_shape_text(&index, out, size);
}

static char *shape_text(const struct side_value *v, char *out, size_t size)
{
    struct tensor t = {.rank = v->rank};

    memcpy(t.shape, v->shape, sizeof(t.shape));
    return v->rank < 0 ? "?" : tensor_shape_text(&t, out, size);
}

/* ---- the table ---- */

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
    if (verdict == COMPARE_EQUAL)
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

static void add_numbers(struct table *t, const struct compare_row *r)
{
    const struct compare_stats *s = &r->stats;
    char text[64], more[64];

    table_cell(t, "%s of %s", number_grouped(s->differing, text, sizeof(text)),
               number_grouped(s->count, more, sizeof(more)));
    table_cell(t, "%s", number_short(s->max_abs, text, sizeof(text)));
    table_cell(t, "%s", number_short(s->mean_abs, text, sizeof(text)));
    table_cell(t, "%s", number_grouped((int64_t)s->max_ulp, text, sizeof(text)));
    table_cell(t, "%s", cosine_text(s->cosine, text, sizeof(text)));
    table_cell(t, "%s", index_text(r->a, s->first, text, sizeof(text)));
    table_cell(t, "%s", compare_stats_text(&r->a->entry->tensor, s->first, text, sizeof(text)));
    table_cell(t, "%s", compare_stats_text(&r->b->entry->tensor, s->first, text, sizeof(text)));
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
        table_cell(t, "%s", shape_text(r->a, a, sizeof(a)));
        table_cell(t, "%s", shape_text(r->b, b, sizeof(b)));
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
    if (r->has_stats && r->stats.differing)
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

/* ---- around it ---- */

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

static void print_side(const char *name, const struct side *s, int width)
{
    static const char *const keys[] = {"model", "numerics", "attention"};
    const char *weights = side_text(s, "weights"), *text;

    color_print(stdout, COLOR_BOLD, name);
    printf("  %s%*s", s->label, width - text_width(s->label), "");
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if ((text = side_text(s, keys[i])) != NULL) {
            fputs("  ", stdout);
            cli_put_text(stdout, text);
        }
    if (weights) {
        fputs("  weights ", stdout);
        printf("%.12s", weights);
    }
    putchar('\n');
}

static void print_facts_that_differ(const struct side *a, const struct side *b)
{
    static const char *const keys[] = {"model", "weights", "numerics", "attention", "host"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const char *x = side_text(a, keys[i]), *y = side_text(b, keys[i]);

        if ((!x && !y) || (x && y && strcmp(x, y) == 0))
            continue;
        printf("  %-9s  A ", keys[i]);
        cli_put_text(stdout, x ? x : "not stated");
        fputs("\n             B ", stdout);
        cli_put_text(stdout, y ? y : "not stated");
        putchar('\n');
    }
}

static void print_notes(const struct compare *c)
{
    int widened = 0, batch = 0;
    int64_t nan_pairs = 0;

    for (int i = 0; i < c->count; i++) {
        widened += c->rows[i].widened;
        batch += c->rows[i].batch;
        nan_pairs += c->rows[i].has_stats ? c->rows[i].stats.nan_pairs : 0;
    }
    if (widened)
        printf("note: %d value%s of another dtype in A than in B: compared by value, widened to "
               "F32; ULP in the narrower dtype\n",
               widened, plural(widened));
    if (batch)
        printf("note: %d value%s with a batch of one on one side only: compared without it\n",
               batch, plural(batch));
    if (nan_pairs)
        printf("note: a NaN faces a number in %lld element%s\n", (long long)nan_pairs,
               plural(nan_pairs));
    if (c->nan_other)
        printf("note: %lld NaN of other bits, counted as %s\n", (long long)c->nan_other,
               c->nan_bits ? "different" : "equal (--nan-bits counts them as different)");
}

static void print_first(const struct compare *c, const struct side *a, const struct side *b)
{
    const struct compare_row *r = &c->rows[c->first];
    char at[128], x[64], y[64];

    color_print(stdout, COLOR_BAD, "first divergence:");
    printf(" %s", r->name);
    if (r->has_stats && r->stats.first >= 0)
        printf(" at %s: A %s, B %s", index_text(r->a, r->stats.first, at, sizeof(at)),
               compare_stats_text(&r->a->entry->tensor, r->stats.first, x, sizeof(x)),
               compare_stats_text(&r->b->entry->tensor, r->stats.first, y, sizeof(y)));
    else if (r->verdict == COMPARE_SHAPE)
        printf(": shape %s in A, %s in B", shape_text(r->a, x, sizeof(x)),
               shape_text(r->b, y, sizeof(y)));
    else if (r->verdict == COMPARE_DTYPE)
        printf(": %s in A, %s in B cannot be compared", r->a->dtype, r->b->dtype);
    putchar('\n');
    if (c->first == 0 && c->first_token >= 0)
        printf("  the token ids differ%s\n",
               c->first_token < c->prompt_length || c->prompt_length <= 0
                   ? ": not the same prompt"
                   : " from a decode step on");
    print_facts_that_differ(a, b);
}

static void print_summary(const struct compare *c)
{
    int missing = c->totals[COMPARE_ONLY_A] + c->totals[COMPARE_ONLY_B];
    int apart = c->count - c->totals[COMPARE_EQUAL] - missing;
    char values[32], wrong[32], elements[32];

    number_grouped(c->elements, elements, sizeof(elements));
    if (compare_same(c)) {
        color_print(stdout, COLOR_GOOD,
                    c->nan_other ? "equal but for bits of NaN:" : "equal bits:");
        printf(" %s values, %s elements, 0 differing",
               number_grouped(c->count, values, sizeof(values)), elements);
        if (c->nan_other)
            printf(", %s NaN of other bits", number_grouped(c->nan_other, wrong, sizeof(wrong)));
        putchar('\n');
        return;
    }
    if (apart == 0)
        color_print(stdout, COLOR_GOOD, "equal bits in what both have: ");
    printf("%s of %s values differ", number_grouped(apart, wrong, sizeof(wrong)),
           number_grouped(c->paired, values, sizeof(values)));
    printf(", %s of %s elements", number_grouped(c->wrong, wrong, sizeof(wrong)), elements);
    if (c->totals[COMPARE_ONLY_A])
        printf("; %d missing in B", c->totals[COMPARE_ONLY_A]);
    if (c->totals[COMPARE_ONLY_B])
        printf("; %d missing in A", c->totals[COMPARE_ONLY_B]);
    putchar('\n');
}

int report_print(const struct compare *c, const struct side *a, const struct side *b,
                 const struct report_options *options, struct error *err)
{
    struct table *t = table_create(columns, sizeof(columns) / sizeof(columns[0]));
    int width = text_width(a->label);

    if (text_width(b->label) > width)
        width = text_width(b->label);
    print_side("A", a, width);
    print_side("B", b, width);
    putchar('\n');
    add_rows(t, c, options);
    if (cli_print_table(t, err))
        return -1;
    putchar('\n');
    print_notes(c);
    print_summary(c);
    if (c->first >= 0)
        print_first(c, a, b);
    return cli_flush(err);
}
