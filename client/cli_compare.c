/* cli_compare.c - `samebit compare A B`: files, daemons, or one of each. */
#include "client/cli.h"

#include <stdlib.h>
#include <string.h>

#include "client/dump.h"
#include "client/hunt.h"
#include "client/remote.h"
#include "client/report.h"

enum { DEFAULT_LIMIT = 60 };

struct options {
    struct cli_ask ask;
    struct report_options report;
    struct compare_options compare;
    int64_t limit; /* -1: not given */
    int64_t row;   /* of a batch; -1: every one */
    const char *map, *save_map;
    int json;
};

/* What is opened: for each of A and B a file, or a client. */
struct sides {
    struct client *client[2];
    struct safetensors *file[2];
    struct side *side[2];
    json_t *request; /* as asked of the daemons */
    json_t *map;
    struct hunt hunt;          /* where one is a file: how it was understood */
    const struct side *theirs; /* the dump's, one of side; or NULL */
};

/* Both are daemons: digests of both. */
static int open_daemons(struct sides *s, const struct options *o, struct error *err)
{
    s->request = cli_request(&o->ask, err);
    if (!s->request)
        return -1;
    if (!json_object_get(s->request, "values"))
        json_object_set_new(s->request, "values", json_pack("[s]", "*"));
    for (int i = 0; i < 2; i++) {
        s->side[i] = remote_digests(s->client[i], s->request, err);
        if (!s->side[i])
            return -1;
    }
    return 0;
}

/* Returns whether an option is given that needs a prompt. */
static int about_prompt(const struct cli_ask *ask)
{
    return ask->positions || ask->steps >= 0 || ask->padding || ask->batch || ask->chunks;
}

/* Returns which of two files is somebody's dump: one that samebit has not written. */
static int dump_of(const struct sides *s)
{
    if (s->file[0] && s->file[1])
        return json_object_get(s->file[0]->metadata, "numerics") ? 1 : 0;
    return s->file[0] ? 0 : 1;
}

static void take_hunt(struct sides *s, int dump)
{
    s->theirs = s->side[dump] = s->hunt.theirs;
    s->side[1 - dump] = s->hunt.ours;
    s->hunt.theirs = s->hunt.ours = NULL;
}

/* Returns the part of a dump that is row `row` of its batch, or the dump itself. */
static struct safetensors *row_of(struct sides *s, int dump, int64_t row, struct error *err)
{
    struct safetensors *file = s->file[dump];

    if (dump_rows(file) > 1)
        return dump_row(file, row, err);
    s->file[dump] = NULL;
    return file;
}

/* One side is a file: asks the daemon for the values that it holds. */
static int open_mixed(struct sides *s, char **from, const struct options *o, int64_t row,
                      struct error *err)
{
    const int dump = dump_of(s);
    const int64_t rows = dump_rows(s->file[dump]);
    struct safetensors *file;
    json_t *asked = NULL;
    int rc = -1;

    if (o->ask.prompt || o->ask.tokens)
        asked = cli_request(&o->ask, err);
    else if (about_prompt(&o->ask) && !safetensors_find(s->file[dump], "tokens"))
        error_set(err, 400,
                  "--steps, --positions, --padding, --batch and --chunks go with --prompt or "
                  "--tokens, or with a file that holds its tokens");
    else
        asked = cli_said(&o->ask, err);
    if (!asked)
        goto out;
    json_object_del(asked, "values"); /* they say what is compared, in our names */
    if (rows > 1 && !json_object_get(asked, "batch"))
        json_object_set_new(asked, "batch", json_integer(rows));
    file = row_of(s, dump, row, err);
    if (file)
        rc = hunt_open(&s->hunt, s->client[1 - dump], from[dump], file, asked, s->map, err);
    take_hunt(s, dump);
out:
    json_decref(asked);
    return rc;
}

static int open_files(struct sides *s, char **from, struct error *err)
{
    const int dump = dump_of(s), rc = hunt_files(&s->hunt, from[dump], s->file[dump],
                                                 from[1 - dump], s->file[1 - dump], s->map, err);

    s->file[0] = s->file[1] = NULL;
    take_hunt(s, dump);
    return rc;
}

static int open_sides(struct sides *s, char **from, const struct options *o, struct error *err)
{
    for (int i = 0; i < 2; i++) {
        if (remote_is_url(from[i]))
            s->client[i] = cli_client(from[i], err);
        else
            s->file[i] = dump_open(from[i], err);
        if (!s->client[i] && !s->file[i])
            return -1;
    }
    if (o->map && !(s->map = hunt_read_map(o->map, s->file[dump_of(s)], err)))
        return -1;
    if (!s->client[0] && !s->client[1] &&
        (o->ask.prompt || o->ask.tokens || o->ask.attention || about_prompt(&o->ask)))
        return error_set(
            err, 400,
            "two files are compared as they are: --prompt, --tokens, --steps, "
            "--positions, --attention, --padding, --batch and --chunks are for daemons");
    return 0;
}

static int open_row(struct sides *s, char **from, const struct options *o, int64_t row,
                    struct error *err)
{
    if (s->client[0] && s->client[1])
        return open_daemons(s, o, err);
    return s->file[0] && s->file[1] ? open_files(s, from, err) : open_mixed(s, from, o, row, err);
}

static void close_row(struct sides *s)
{
    hunt_close(&s->hunt);
    s->theirs = NULL;
    for (int i = 0; i < 2; i++) {
        side_free(s->side[i]);
        s->side[i] = NULL;
    }
}

static void close_sides(struct sides *s)
{
    for (int i = 0; i < 2; i++) {
        safetensors_close(s->file[i]);
        client_close(s->client[i]);
    }
    json_decref(s->request);
    json_decref(s->map);
}

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

static int fetch_open(const struct sides *s, struct compare *c, struct error *err)
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

static int compare_sides(const struct sides *s, const struct options *o, struct compare **out,
                         struct error *err)
{
    struct progress progress;
    struct compare *c = compare_create(s->side[0], s->side[1], &o->compare, err);
    int rc;

    *out = c;
    if (!c)
        return -1;
    if (c->paired == 0 || only_tokens(c))
        return error_set(err, 400,
                         o->compare.glob_count ? "no value that both sides have fits --values"
                         : c->paired           ? "%s and %s have no value in common but the tokens"
                                               : "%s and %s have no value in common",
                         s->side[0]->label, s->side[1]->label);
    if (s->client[0] && s->client[1]) {
        if (!same_prompt(c))
            c->count = 1;
        else if (fetch_open(s, c, err))
            return -1;
    }
    progress_start(&progress);
    rc = compare_run(c, show, &progress, err);
    progress_end(&progress);
    return rc;
}

/* One comparison, told; CLI_OK, CLI_DIFFERENT or CLI_TROUBLE. */
static int run_row(struct sides *s, char **from, const struct options *o, int64_t row,
                   struct error *err)
{
    struct compare *c = NULL;
    int rc = CLI_TROUBLE;

    if (open_row(s, from, o, row, err) || compare_sides(s, o, &c, err))
        goto out;
    if (o->save_map && hunt_save_map(&s->hunt, o->save_map, err))
        goto out;
    if (o->json ? report_json(c, s->side[0], s->side[1], s->hunt.understanding, &o->report, err)
                : report_print(c, s->side[0], s->side[1], &o->report, err))
        goto out;
    if (!o->json)
        hunt_print(&s->hunt, s->theirs, stdout);
    rc = compare_same(c) ? CLI_OK : CLI_DIFFERENT;
out:
    compare_free(c);
    close_row(s);
    return rc;
}

/* Returns the rows of the file's batch, 1 if neither side is a file. */
static int64_t rows_of(const struct sides *s)
{
    if ((s->client[0] != NULL) == (s->client[1] != NULL))
        return 1;
    return dump_rows(s->file[dump_of(s)]);
}

static int run(char **from, const struct options *o, struct error *err)
{
    struct sides s = {0};
    int rc = CLI_TROUBLE;
    int64_t rows, first = o->row < 0 ? 0 : o->row;

    if (open_sides(&s, from, o, err))
        goto out;
    rows = rows_of(&s);
    if (first >= rows) {
        error_param(err, 400, "row", "--row %lld: the dump has %lld", (long long)first,
                    (long long)rows);
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
    close_sides(&s);
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

static int compare_command(int argc, char **argv, struct error *err)
{
    struct options o = {.ask.steps = -1, .limit = -1, .row = -1};
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
        {"chunks", 0, CLI_TEXT, &o.ask.chunks},
        {"values", 0, CLI_LIST, &o.ask.values},
        {"value", 'v', CLI_LIST, &o.ask.values},
        {"common", 0, CLI_FLAG, &o.compare.common},
        {"nan-bits", 0, CLI_FLAG, &o.compare.nan_bits},
        {"all", 0, CLI_FLAG, &o.report.all},
        {"only-different", 0, CLI_FLAG, &o.report.only_different},
        {"limit", 0, CLI_NUMBER, &o.limit},
        {"map", 0, CLI_TEXT, &o.map},
        {"save-map", 0, CLI_TEXT, &o.save_map},
        {"row", 0, CLI_NUMBER, &o.row},
        {"json", 0, CLI_FLAG, &o.json},
        {NULL, 0, CLI_FLAG, NULL},
    };

    if (cli_parse(options, argc, argv, &count, err))
        goto out;
    if (count != 2) {
        error_set(err, 400, "two are compared: files or addresses of daemons");
        goto out;
    }
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
    "  --only-different    leaves out the equal ones\n"
    "  --limit N           so many rows (60; 0: all)\n"
    "  --all               every row, also long runs of equal ones\n"
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
    "  --chunks 3,5        feeds the prompt in calls of these lengths\n\n"
    "  Equal means equal bits: -0 and +0 differ; any NaN is equal to any, but for --nan-bits.\n"
    "  Max ULP counts representable steps, of two signs through zero.\n"
    "  Exit status 0 equal, 1 different, 2 trouble.\n",
    compare_command,
    1};
