/* cli_isolate.c - `samebit isolate DUMP URL` and `samebit diagnose DUMP URL`. */
#include "client/cli.h"

#include <stdlib.h>
#include <string.h>

#include "client/diagnose.h"
#include "client/dump.h"
#include "client/isolate.h"
#include "client/page.h"
#include "client/remote.h"
#include "kernels/base/json_file.h"

struct options {
    struct cli_ask ask;
    const char *map, *save_map, *hypotheses, *html;
    int64_t row; /* of a batch */
    int all, json;
    int diagnose;
};

static json_t *asked_of(const struct options *o, struct error *err)
{
    return o->ask.prompt || o->ask.tokens ? cli_request(&o->ask, err) : cli_said(&o->ask, err);
}

/* The dump, or a row of its batch; *rows: how many it has. */
static struct safetensors *open_dump(const char *path, const struct options *o, int64_t *rows,
                                     struct error *err)
{
    struct safetensors *whole = dump_open(path, err), *row;

    *rows = whole ? dump_rows(whole) : 0;
    if (!whole || *rows == 1)
        return whole;
    row = o->row < *rows ? dump_row(whole, o->row, err) : NULL;
    if (!row)
        error_param(err, 400, "row", "--row %lld: the dump has %lld", (long long)o->row,
                    (long long)*rows);
    safetensors_close(whole);
    return row;
}

/* The daemon's, and those of a file. */
static json_t *all_hypotheses(struct client *c, const struct options *o, struct error *err)
{
    json_t *reply = client_get(c, "/v1/hypotheses", err), *own = NULL;
    json_t *all = json_incref(json_object_get(reply, "hypotheses"));

    json_decref(reply);
    if (!all && !err->code)
        error_set(err, 502, "%s: no hypotheses", client_url(c));
    if (all && o->hypotheses) {
        own = json_file_read(NULL, o->hypotheses, JSON_FILE_ANY, err);
        if (own && !json_is_array(own))
            error_set(err, 400, "%s: a list of hypotheses is expected", o->hypotheses);
        else if (own)
            json_array_extend(all, own);
    }
    json_decref(own);
    if (err->code) {
        json_decref(all);
        all = NULL;
    }
    return all;
}

static int tell(const struct isolation *x, const json_t *found, const struct options *o,
                struct error *err)
{
    json_t *out;
    int rc;

    if (o->json) {
        out = json_pack("{s:o,s:O?,s:O?}", "values", isolate_json(x), "understanding",
                        x->hunt->understanding, "diagnosis", found);
        rc = cli_print_json(out, err);
        json_decref(out);
        return rc;
    }
    hunt_print(x->hunt, x->hunt->theirs, stdout);
    if (!o->diagnose || o->all) {
        if (isolate_print(x, o->all, err))
            return -1;
    }
    if (found)
        diagnose_print(found, stdout);
    return cli_flush(err);
}

static int write_page(const struct isolation *x, const json_t *found, const struct options *o,
                      struct error *err)
{
    json_t *page = page_of_isolation(x, found);
    const int rc = page ? page_write(o->html, page, err) : error_set(err, 500, "out of memory");

    json_decref(page);
    return rc;
}

static int judge(struct client *c, const struct hunt *h, const struct options *o, struct error *err)
{
    struct isolation x;
    json_t *hypotheses = NULL, *found = NULL;
    int rc = CLI_TROUBLE;

    if (isolate_open(&x, c, h, o->html != NULL, err))
        goto out;
    if (o->diagnose) {
        hypotheses = all_hypotheses(c, o, err);
        found = hypotheses ? diagnose(&x, hypotheses, err) : NULL;
        if (!found)
            goto out;
    }
    if ((o->html && write_page(&x, found, o, err)) || tell(&x, found, o, err))
        goto out;
    rc = x.totals[JUDGE_BEYOND] || x.misfits || json_array_size(found) ? CLI_DIFFERENT : CLI_OK;
out:
    json_decref(hypotheses);
    json_decref(found);
    isolate_close(&x);
    return rc;
}

static int run(char **from, const struct options *o, struct error *err)
{
    const int dump = remote_is_url(from[0]) ? 1 : 0;
    struct client *c = cli_client(from[1 - dump], err);
    json_t *asked = NULL, *map = NULL;
    struct safetensors *file = NULL;
    struct hunt h = {0};
    int64_t rows;
    int rc = CLI_TROUBLE;

    if (!c)
        goto out;
    file = open_dump(from[dump], o, &rows, err);
    if (file && o->map && !(map = hunt_read_map(o->map, file, err)))
        goto out;
    asked = file ? asked_of(o, err) : NULL;
    if (!asked)
        goto out;
    if (rows > 1 && !json_object_get(asked, "batch"))
        json_object_set_new(asked, "batch", json_integer(rows));
    rc = hunt_open(&h, c, from[dump], file, asked, map, err) ? CLI_TROUBLE : CLI_OK;
    file = NULL;
    if (rc == CLI_OK && o->save_map && hunt_save_map(&h, o->save_map, err))
        rc = CLI_TROUBLE;
    if (rc == CLI_OK)
        rc = judge(c, &h, o, err);
out:
    safetensors_close(file);
    hunt_close(&h);
    json_decref(asked);
    json_decref(map);
    client_close(c);
    return rc;
}

static int command(int argc, char **argv, int with_diagnosis, struct error *err)
{
    struct options o = {.ask.steps = -1, .diagnose = with_diagnosis};
    const struct cli_option options[] = {
        {"prompt", 'p', CLI_TEXT, &o.ask.prompt},
        {"tokens", 0, CLI_TEXT, &o.ask.tokens},
        {"steps", 0, CLI_NUMBER, &o.ask.steps},
        {"attention", 0, CLI_TEXT, &o.ask.attention},
        {"padding", 0, CLI_NUMBER, &o.ask.padding},
        {"batch", 0, CLI_NUMBER, &o.ask.batch},
        {"torch-threads", 0, CLI_NUMBER, &o.ask.torch_threads},
        {"chunks", 0, CLI_TEXT, &o.ask.chunks},
        {"map", 0, CLI_TEXT, &o.map},
        {"save-map", 0, CLI_TEXT, &o.save_map},
        {"row", 0, CLI_NUMBER, &o.row},
        {"all", 0, CLI_FLAG, &o.all},
        {"html", 0, CLI_TEXT, &o.html},
        {"json", 0, CLI_FLAG, &o.json},
        {with_diagnosis ? "hypotheses" : NULL, 0, CLI_TEXT, &o.hypotheses},
        {NULL, 0, CLI_FLAG, NULL},
    };
    int count, rc = CLI_TROUBLE;

    if (cli_parse(options, argc, argv, &count, err) == 0) {
        if (count != 2 || remote_is_url(argv[0]) == remote_is_url(argv[1]))
            error_set(err, 400, "a dump and the address of a daemon are expected");
        else
            rc = run(argv, &o, err);
    }
    cli_ask_clear(&o.ask);
    return rc;
}

static int isolate_run(int argc, char **argv, struct error *err)
{
    return command(argc, argv, 0, err);
}

static int diagnose_run(int argc, char **argv, struct error *err)
{
    return command(argc, argv, 1, err);
}

#define HELP                                                                                       \
    "  DUMP                values of another program (as `samebit compare` takes them)\n"          \
    "  URL                 a daemon that serves the same checkpoint\n"                             \
    "  -p, --prompt TEXT   what it was asked, where the dump has no tokens\n"                      \
    "  --tokens 1,2,3      ids in place of a text\n"                                               \
    "  --attention NAME, --padding N, --batch N, --chunks 3,5, --torch-threads N   as of "         \
    "`samebit\n"                                                                                   \
    "                      trace`\n"                                                               \
    "  --map FILE, --save-map FILE, --row N                     as of `samebit compare`\n"         \
    "  --all               every value, also those that rounding explains\n"                       \
    "  --html FILE         a page to look at, in one file: layers by operations\n"                 \
    "  --json              for machines\n"

const struct cli_command cli_isolate = {"isolate",
                                        "DUMP URL",
                                        "which operations are at fault by themselves",
                                        HELP "\n  Each step is computed on the dump's own inputs. "
                                             "Exit status 0 where rounding explains all,\n"
                                             "  1 where it does not, 2 in trouble.\n",
                                        isolate_run,
                                        1};

const struct cli_command cli_diagnose = {
    "diagnose",
    "DUMP URL",
    "what was done wrong, in a sentence",
    HELP
    "  --hypotheses FILE   JSON: more mistakes to try (GET /v1/hypotheses lists those that are)\n"
    "\n  Exit status 0 where rounding explains all, 1 where it does not, 2 in trouble.\n",
    diagnose_run,
    1};
