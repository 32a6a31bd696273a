/* report_profile.c - see report_profile.h. */
#include "client/report_profile.h"

#include <math.h>
#include <stdio.h>

#include "client/cli.h"

enum { LINES_MOST = 64, BAR = 40 };

/* ---- for machines ---- */

static json_t *real(double v)
{
    if (isnan(v) || isinf(v))
        return json_string(isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
    return json_real(v);
}

static json_t *lines_json(const char *what, const struct profile_line *l, int64_t count)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:I,s:I,s:I,s:I,s:o,s:o}", what, (json_int_t)i,
                                              "elements", (json_int_t)l[i].elements, "differing",
                                              (json_int_t)l[i].differing, "failing",
                                              (json_int_t)l[i].failing, "max_abs",
                                              real(l[i].max_abs), "distance", real(l[i].distance)));
    return list;
}

static json_t *histogram_json(const struct profile *p)
{
    json_t *list = json_array();

    for (int i = 0; i < PROFILE_BINS; i++) {
        uint64_t from, to;

        profile_bin(i, &from, &to);
        if (p->histogram[i])
            json_array_append_new(list,
                                  json_pack("{s:I,s:I,s:I}", "from", (json_int_t)from, "to",
                                            (json_int_t)to, "count", (json_int_t)p->histogram[i]));
    }
    return list;
}

void report_profile_json(json_t *row, const struct profile *p, int which)
{
    const struct profile_growth *g = &p->growth;

    if (g->known)
        json_object_set_new(row, "growth",
                            json_pack("{s:b,s:o,s:o,s:o}", "grows", g->grows, "correlation",
                                      real(g->correlation), "first_quarter", real(g->first),
                                      "last_quarter", real(g->last)));
    if (which & REPORT_POSITIONS && p->positions)
        json_object_set_new(row, "positions",
                            lines_json("position", p->positions, p->position_count));
    if (which & REPORT_HEADS && p->heads)
        json_object_set_new(row, "heads", lines_json("head", p->heads, p->head_count));
    if (which & REPORT_HISTOGRAM)
        json_object_set_new(row, "ulp_histogram", histogram_json(p));
}

/* ---- for people ---- */

static void add_line(struct table *t, int64_t at, const struct profile_line *l, int tolerances)
{
    char text[64], more[64];

    table_row(t, COLOR_NONE);
    table_cell(t, "%lld", (long long)at);
    table_cell(t, "%s of %s",
               number_grouped(tolerances ? l->failing : l->differing, text, sizeof(text)),
               number_grouped(l->elements, more, sizeof(more)));
    table_cell(t, "%s", number_short(l->max_abs, text, sizeof(text)));
    table_cell(t, "%s", number_short(l->distance, text, sizeof(text)));
}

/* Returns how many lines from here on have no difference. */
static int64_t run_of(const struct profile_line *l, int64_t from, int64_t count, int tolerances)
{
    int64_t n = 0;

    while (from + n < count && (tolerances ? l[from + n].failing : l[from + n].differing) == 0)
        n++;
    return n;
}

static int print_lines(const char *what, const struct profile_line *l, int64_t count,
                       int tolerances, struct error *err)
{
    const struct table_column columns[] = {{what, 1, 0},
                                           {tolerances ? "not close" : "differing", 1, 0},
                                           {"max abs", 1, 0},
                                           {"distance", 1, 0}};
    struct table *t = table_create(columns, 4);
    int shown = 0;

    for (int64_t i = 0, run; i < count; i += run ? run : 1) {
        run = run_of(l, i, count, tolerances);
        if (shown++ == LINES_MOST) {
            table_line(t, COLOR_DIM, "  ... and %lld more; --json has them",
                       (long long)(count - i));
            break;
        }
        if (run > 1)
            table_line(t, COLOR_DIM, "  ... %lld to %lld: no difference", (long long)i,
                       (long long)(i + run - 1));
        else
            add_line(t, i, &l[i], tolerances);
    }
    return cli_print_table(t, err);
}

/* "     3-4  1,024  ####" */
static void print_histogram(const struct profile *p)
{
    int64_t most = 1;
    char range[64], text[32];

    for (int i = 0; i < PROFILE_BINS; i++)
        most = p->histogram[i] > most ? p->histogram[i] : most;
    for (int i = 0; i < PROFILE_BINS; i++) {
        uint64_t from, to;

        if (!p->histogram[i])
            continue;
        profile_bin(i, &from, &to);
        snprintf(range, sizeof(range), from == to ? "%llu" : "%llu-%llu", (unsigned long long)from,
                 (unsigned long long)to);
        printf("  %21s  %13s  ", range, number_grouped(p->histogram[i], text, sizeof(text)));
        for (int64_t k = 0; k < 1 + (BAR - 1) * p->histogram[i] / most; k++)
            putchar('#');
        putchar('\n');
    }
    if (p->nan_pairs)
        printf("  %21s  %13s\n", "NaN facing a number",
               number_grouped(p->nan_pairs, text, sizeof(text)));
}

static int print_title(const char *name, const char *what)
{
    putchar('\n');
    cli_put_text(stdout, name);
    return printf(" %s\n", what);
}

int report_profile_print(const char *name, const struct profile *p, int which, int tolerances,
                         struct error *err)
{
    char what[64];

    if (which & REPORT_POSITIONS && p->positions) {
        print_title(name, "by position");
        if (print_lines("position", p->positions, p->position_count, tolerances, err))
            return -1;
    }
    if (which & REPORT_HEADS && p->heads) {
        print_title(name, "by head");
        if (print_lines("head", p->heads, p->head_count, tolerances, err))
            return -1;
    }
    if (which & REPORT_HISTOGRAM) {
        snprintf(what, sizeof(what), "by ULP (%s)", dtype_name(p->ulp_dtype));
        print_title(name, what);
        print_histogram(p);
    }
    return 0;
}
