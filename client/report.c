/* report.c - the comparison for people: what stands around the table.  See report.h. */
#include "client/report.h"

#include <string.h>

#include "client/arithmetic.h"
#include "client/cli.h"
#include "client/report_profile.h"
#include "client/report_table.h"

enum { PROFILES = 3 }; /* of so many values positions and heads are shown */

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

static void print_threads(const struct side *s)
{
    json_t *threads = side_fact(s, "torch_threads");

    if (json_is_integer(threads))
        printf("  torch's threads %lld", (long long)json_integer_value(threads));
    json_decref(threads);
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
    print_threads(s);
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
    if (r->has_stats && report_shown_first(r) >= 0)
        printf(" at %s: A %s, B %s", report_index_text(r->a, report_shown_first(r), at, sizeof(at)),
               compare_stats_text(&r->a->entry->tensor, report_shown_first(r), x, sizeof(x)),
               compare_stats_text(&r->b->entry->tensor, report_shown_first(r), y, sizeof(y)));
    else if (r->verdict == COMPARE_SHAPE)
        printf(": shape %s in A, %s in B", report_shape_text(r->a, x, sizeof(x)),
               report_shape_text(r->b, y, sizeof(y)));
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

/* "not close by assert_close: 2 of 40 values, ..." */
static void print_close(const struct compare *c, int apart)
{
    char text[32], more[32];

    color_print(stdout, apart ? COLOR_BAD : COLOR_GOOD, apart ? "not close" : "close");
    printf(" by %s: %s of %s values", preset_name(&c->preset),
           number_grouped(apart ? apart : c->paired, text, sizeof(text)),
           number_grouped(c->paired, more, sizeof(more)));
    printf(", %s of %s elements are not", number_grouped(c->failing, text, sizeof(text)),
           number_grouped(c->elements, more, sizeof(more)));
    printf("; %d values of equal bits", c->totals[COMPARE_EQUAL]);
    if (c->totals[COMPARE_ONLY_A])
        printf("; %d missing in B", c->totals[COMPARE_ONLY_A]);
    if (c->totals[COMPARE_ONLY_B])
        printf("; %d missing in A", c->totals[COMPARE_ONLY_B]);
    putchar('\n');
}

static void print_summary(const struct compare *c)
{
    int missing = c->totals[COMPARE_ONLY_A] + c->totals[COMPARE_ONLY_B];
    int apart = c->count - c->totals[COMPARE_EQUAL] - c->totals[COMPARE_CLOSE] - missing;
    char values[32], wrong[32], elements[32];

    number_grouped(c->elements, elements, sizeof(elements));
    if (c->preset.kind != PRESET_BITS) {
        print_close(c, apart);
        return;
    }
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

/* "error grows with position: 12 values, first model.layers.0.self_attn.q_rope, from 0.002 to 0.31 ..." */
static void print_growth(const struct compare *c)
{
    const struct compare_row *first = NULL;
    const struct profile_growth *g;
    int count = 0;

    for (int i = 0; i < c->count; i++)
        if (c->rows[i].profile && c->rows[i].profile->growth.grows) {
            first = first ? first : &c->rows[i];
            count++;
        }
    if (!first)
        return;
    g = &first->profile->growth;
    color_print(stdout, COLOR_BAD, "error grows with position:");
    printf(" %d value%s, first %s: from %.2g (first quarter) to %.2g (last), rank correlation "
           "%.2f\n",
           count, plural(count), first->name, g->first, g->last, g->correlation);
}

static int print_profiles(const struct compare *c, const struct report_options *o,
                          struct error *err)
{
    int shown = 0, left = 0;

    for (int i = 0; i < c->count; i++) {
        const struct compare_row *r = &c->rows[i];

        if (!r->profile || r->verdict == COMPARE_CLOSE)
            continue;
        if (!o->all && shown++ >= PROFILES) {
            left++;
            continue;
        }
        if (report_profile_print(r->name, r->profile, o->profiles, c->preset.kind != PRESET_BITS,
                                 err))
            return -1;
    }
    if (left)
        printf("\n... and of %d more values that differ; --all shows them, --values chooses\n",
               left);
    return 0;
}

int report_print(const struct compare *c, const struct side *a, const struct side *b,
                 const struct report_options *options, struct error *err)
{
    int width = text_width(a->label);

    if (text_width(b->label) > width)
        width = text_width(b->label);
    print_side("A", a, width);
    print_side("B", b, width);
    putchar('\n');
    arithmetic_print(c, a, b);
    if (report_table(c, options, err))
        return -1;
    putchar('\n');
    print_notes(c);
    print_summary(c);
    if (c->first >= 0)
        print_first(c, a, b);
    print_growth(c);
    if (options->profiles && print_profiles(c, options, err))
        return -1;
    return cli_flush(err);
}
