/* cli_compare.c - `samebit compare A B`: files, daemons, or one of each. */
#include "client/cli_sides.h"

#include <stdlib.h>
#include <string.h>

#include "client/dump.h"
#include "client/page.h"
#include "client/remote.h"
#include "client/report.h"
#include "client/report_profile.h"

enum { DEFAULT_LIMIT = 60 };

struct options {
    struct cli_ask ask;
    struct cli_sides_options sides;
    struct report_options report;
    struct compare_options compare;
    int64_t limit; /* -1: not given */
    int64_t row;   /* of a batch; -1: every one */
    const char *save_map, *html;
    const char *preset, *rtol, *atol;
    struct cli_list by;
    int equal_nan, histogram, json;
};

/* ---- comparing ---- */

static int show(void *user, const char *name, uint64_t done, uint64_t all)
{
    progress_show(user, name, done, all);
    return 0;
}

/* Returns whether two daemons have the same ids for the prompt.  If not, comparing values is useless. */
static int same_prompt(const struct compare *c)
{
    const struct compare_row *r = c->rows;
    struct compare_stats stats;

    if (c->count == 0 || strcmp(r->name, "tokens") != 0 || !r->a || !r->b)
        return 1;
    if (r->verdict == COMPARE_SHAPE)
        return 0;
    if (r->verdict != COMPARE_OPEN)
        return 1;
    compare_stats_run(&r->a->entry->tensor, &r->b->entry->tensor, 0, &stats);
    return stats.first < 0 || (c->prompt_length > 0 && stats.first >= c->prompt_length);
}

static int fetch_open(const struct cli_sides *s, struct compare *c, struct error *err)
{
    for (int i = 0; i < 2; i++)
        if (remote_complete(s->client[i], s->side[i], c, i == 0, s->request, err))
            return -1;
    return 0;
}

static int only_tokens(const struct compare *c)
{
    return c->paired == 1 && c->rows[0].a && c->rows[0].b && strcmp(c->rows[0].name, "tokens") == 0;
}

static int compare_sides(const struct cli_sides *s, const struct options *o, struct compare **out,
                         struct error *err)
{
    struct progress progress;
    struct compare *c = compare_create(s->side[0], s->side[1], &o->compare, err);
    int rc;

    *out = c;
    if (!c)
        return -1;
    if (c->paired == 0 || only_tokens(c)) {
        error_set(err, 400,
                  o->compare.glob_count ? "no value that both sides have fits --values"
                  : c->paired           ? "%s and %s have no value in common but the tokens"
                                        : "%s and %s have no value in common",
                  s->side[0]->label, s->side[1]->label);
        if (!o->compare.glob_count)
            hunt_explain(&s->hunt, s->theirs, err);
        return -1;
    }
    if (s->client[0] && s->client[1]) {
        if (!same_prompt(c))
            c->count = 1;
        else if (fetch_open(s, c, err))
            return -1;
    }
    progress_start(&progress);
    rc = compare_run(c, show, &progress, err);
    progress_end(&progress);
    return rc || compare_profile(c, &s->hunt.model, err) ? -1 : 0;
}

static int write_page(const struct cli_sides *s, const struct compare *c, const struct options *o,
                      struct error *err)
{
    json_t *page = page_of_compare(c, s->side[0], s->side[1], &s->hunt, s->theirs);
    const int rc = page ? page_write(o->html, page, err) : error_set(err, 500, "out of memory");

    json_decref(page);
    return rc;
}

/* One comparison, told; CLI_OK, CLI_DIFFERENT or CLI_TROUBLE. */
static int run_row(struct cli_sides *s, char **from, const struct options *o, int64_t row,
                   struct error *err)
{
    struct compare *c = NULL;
    int rc = CLI_TROUBLE;

    if (cli_sides_open_row(s, from, &o->sides, row, err) || compare_sides(s, o, &c, err))
        goto out;
    if (o->save_map && hunt_save_map(&s->hunt, o->save_map, err))
        goto out;
    if (o->html && write_page(s, c, o, err))
        goto out;
    if (o->json ? report_json(c, s->side[0], s->side[1], s->hunt.understanding, &o->report, err)
                : report_print(c, s->side[0], s->side[1], &o->report, err))
        goto out;
    if (!o->json)
        hunt_print(&s->hunt, s->theirs, stdout);
    rc = compare_same(c) ? CLI_OK : CLI_DIFFERENT;
out:
    compare_free(c);
    cli_sides_close_row(s);
    return rc;
}

/* Returns the rows of the file's batch, 1 if neither side is a file. */
static int64_t rows_of(const struct cli_sides *s)
{
    if ((s->client[0] != NULL) == (s->client[1] != NULL))
        return 1;
    return dump_rows(s->file[cli_sides_dump(s)]);
}

static int run(char **from, const struct options *o, struct error *err)
{
    struct cli_sides s = {0};
    int rc = CLI_TROUBLE;
    int64_t rows, first = o->row < 0 ? 0 : o->row;

    if (cli_sides_open(&s, from, &o->sides, err))
        goto out;
    rows = rows_of(&s);
    if (first >= rows) {
        error_param(err, 400, "row", "--row %lld: the dump has %lld", (long long)first,
                    (long long)rows);
        goto out;
    }
    if (rows > 1 && o->row < 0 && o->html) {
        error_param(err, 400, "html", "--html of a batch of %lld takes --row", (long long)rows);
        goto out;
    }
    rc = CLI_OK;
    for (int64_t row = first; row < (o->row < 0 ? rows : first + 1); row++) {
        int one;

        if (rows > 1 && !o->json)
            printf("%srow %lld of a batch of %lld\n", row > first ? "\n" : "", (long long)row,
                   (long long)rows);
        one = run_row(&s, from, o, row, err);
        rc = one > rc ? one : rc;
        if (one == CLI_TROUBLE)
            break;
    }
out:
    cli_sides_close(&s);
    return rc;
}

/* Splits --values a,b into patterns.  They point into *text, the caller's to free. */
static int split_globs(const struct cli_list *list, struct cli_list *out, char **text,
                       struct error *err)
{
    struct buffer all = {0};
    char *rest;

    buffer_text(&all, "");
    for (int i = 0; i < list->count; i++)
        buffer_format(&all, "%s,", list->items[i]);
    *text = all.data;
    out->items = calloc(all.size + 1, sizeof(*out->items));
    if (all.failed || !out->items)
        return error_set(err, 500, "out of memory");
    for (char *item = strtok_r(*text, ",", &rest); item; item = strtok_r(NULL, ",", &rest))
        out->items[out->count++] = item;
    return 0;
}

/* --by position, --by head, --by position,head; --histogram. */
static int read_profiles(struct options *o, struct error *err)
{
    o->report.profiles = o->histogram ? REPORT_HISTOGRAM : 0;
    for (int i = 0; i < o->by.count; i++)
        for (const char *at = o->by.items[i]; *at;) {
            const size_t n = strcspn(at, ",");

            if (n == 8 && strncmp(at, "position", n) == 0)
                o->report.profiles |= REPORT_POSITIONS;
            else if (n == 4 && strncmp(at, "head", n) == 0)
                o->report.profiles |= REPORT_HEADS;
            else
                return error_param(err, 400, "by", "--by %s: position or head", o->by.items[i]);
            at += n + (at[n] == ',');
        }
    return 0;
}

static int compare_command(int argc, char **argv, struct error *err)
{
    struct options o = {.ask.steps = -1, .sides.ask = &o.ask, .limit = -1, .row = -1};
    struct cli_list globs = {0};
    char *text = NULL;
    int count, rc = CLI_TROUBLE;
    const struct cli_option options[] = {
        {"prompt", 'p', CLI_TEXT, &o.ask.prompt},
        {"tokens", 0, CLI_TEXT, &o.ask.tokens},
        {"steps", 0, CLI_NUMBER, &o.ask.steps},
        {"positions", 0, CLI_TEXT, &o.ask.positions},
        {"attention", 0, CLI_TEXT, &o.ask.attention},
        {"padding", 0, CLI_NUMBER, &o.ask.padding},
        {"batch", 0, CLI_NUMBER, &o.ask.batch},
        {"torch-threads", 0, CLI_NUMBER, &o.ask.torch_threads},
        {"chunks", 0, CLI_TEXT, &o.ask.chunks},
        {"values", 0, CLI_LIST, &o.ask.values},
        {"value", 'v', CLI_LIST, &o.ask.values},
        {"common", 0, CLI_FLAG, &o.compare.common},
        {"nan-bits", 0, CLI_FLAG, &o.compare.nan_bits},
        {"all", 0, CLI_FLAG, &o.report.all},
        {"only-different", 0, CLI_FLAG, &o.report.only_different},
        {"limit", 0, CLI_NUMBER, &o.limit},
        {"map", 0, CLI_TEXT, &o.sides.map},
        {"save-map", 0, CLI_TEXT, &o.save_map},
        {"row", 0, CLI_NUMBER, &o.row},
        {"preset", 0, CLI_TEXT, &o.preset},
        {"rtol", 0, CLI_TEXT, &o.rtol},
        {"atol", 0, CLI_TEXT, &o.atol},
        {"equal-nan", 0, CLI_FLAG, &o.equal_nan},
        {"by", 0, CLI_LIST, &o.by},
        {"histogram", 0, CLI_FLAG, &o.histogram},
        {"html", 0, CLI_TEXT, &o.html},
        {"json", 0, CLI_FLAG, &o.json},
        {NULL, 0, CLI_FLAG, NULL},
    };

    if (cli_parse(options, argc, argv, &count, err))
        goto out;
    if (count != 2) {
        error_set(err, 400, "two are compared: files or addresses of daemons");
        goto out;
    }
    if (preset_parse(o.preset, o.rtol, o.atol, &o.compare.preset, err))
        goto out;
    o.compare.preset.equal_nan = o.equal_nan;
    if (read_profiles(&o, err))
        goto out;
    if (split_globs(&o.ask.values, &globs, &text, err))
        goto out;
    o.report.limit = o.limit >= 0 ? o.limit : o.json ? 0 : DEFAULT_LIMIT;
    /* Daemons resolve aliases themselves, and answer with paths. */
    if (!(remote_is_url(argv[0]) && remote_is_url(argv[1]))) {
        o.compare.globs = globs.items;
        o.compare.glob_count = globs.count;
    }
    rc = run(argv, &o, err);
out:
    cli_list_free(&o.by);
    free(globs.items);
    free(text);
    cli_ask_clear(&o.ask);
    return rc;
}

const struct cli_command cli_compare = {
    "compare",
    "A B",
    "which values differ, by how much, and which first",
    "  A, B                files (safetensors, .npz, .npy or a folder of these), or http://\n"
    "                      addresses of daemons\n"
    "  --values A,B        only these (names or globs)\n"
    "  --common            only what both sides have\n"
    "  --nan-bits          two NaNs are equal only with the same bits\n"
    "  --preset NAME       bits, or close as assert_close (torch.testing) or allclose (numpy)\n"
    "                      has it, A being what is held against B\n"
    "  --rtol X --atol X   tolerances in place of the preset's own\n"
    "  --equal-nan         under a preset of tolerances a NaN is close to a NaN\n"
    "  --by position|head  of values that differ, a table of positions, of heads\n"
    "  --histogram         of values that differ, how many ULP apart\n"
    "  --only-different    leaves out the equal ones\n"
    "  --limit N           so many rows (60; 0: all)\n"
    "  --all               every row, also long runs of equal ones\n"
    "  --html FILE         a page to look at, in one file: layers by operations\n"
    "  --json              for machines\n"
    " of a dump in names and layouts of its own:\n"
    "  --map FILE          JSON: {\"its name, or a regular expression\": \"ours\"}\n"
    "  --save-map FILE     writes what was understood, to be edited and given again\n"
    "  --row N             of a batch, only this row\n"
    " of daemons:\n"
    "  -p, --prompt TEXT   what both are asked (a file brings its own ids)\n"
    "  --tokens 1,2,3      ids in place of a text\n"
    "  --steps N           decode steps after the prompt\n"
    "  --positions WHICH   all, last, or 0,5: rows of the prompt\n"
    "  --attention NAME    eager or sdpa; else the file's, or each daemon's default\n"
    "  --padding N         so many first tokens are left padding\n"
    "  --batch N           it is one of so many rows of PyTorch's call\n"
    "  --torch-threads N   torch.get_num_threads() of the PyTorch whose bits are wanted (of "
    "numerics\n"
    "                      whose bits depend on it)\n"
    "  --chunks 3,5        feeds the prompt in calls of these lengths\n\n"
    "  Equal means equal bits: -0 and +0 differ; any NaN is equal to any, but for --nan-bits.\n"
    "  Max ULP counts representable steps, of two signs through zero.\n"
    "  Exit status 0 equal, 1 different, 2 trouble.\n",
    compare_command,
    1};
