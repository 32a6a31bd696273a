/* cli_text.c - `samebit generate`, `samebit logits` and `samebit tokens`. */
#include "client/cli.h"

#include <stdlib.h>
#include <string.h>

#include "client/receive.h"

static int one_argument(int argc, int count, char **argv, const char **out, struct error *err)
{
    (void)argc;
    if (count > 1)
        return error_set(err, 400, "one text is taken; quote it");
    *out = count ? argv[0] : NULL;
    return 0;
}

/* ---- generate ---- */

struct writing {
    int json;
};

static int take_line(void *user, const json_t *line, struct error *err)
{
    struct writing *w = user;
    const char *text = json_string_value(json_object_get(line, "text"));

    if (w->json) {
        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (!json_is_true(json_object_get(line, "done")) && text) {
        cli_put_text(stdout, text);
    } else if (!text && json_is_integer(json_object_get(line, "token"))) { /* no tokenizer there */
        printf("%lld ", json_integer_value(json_object_get(line, "token")));
    }
    return cli_flush(err);
}

static int generate(const struct cli_ask *ask, const char *url, int64_t most, int no_stop, int json,
                    struct error *err)
{
    json_t *request = cli_request(ask, err);
    struct client *c = request ? cli_client(url, err) : NULL;
    struct writing writing = {.json = json};
    const char *prompt = json_string_value(json_object_get(request, "prompt"));
    int rc = -1;

    if (!c)
        goto out;
    json_object_set_new(request, "max_tokens", json_integer(most));
    json_object_set_new(request, "stop_at_eos", json_boolean(!no_stop));
    if (prompt && !json && color_on(stdout)) {
        fputs("\033[1m", stdout);
        cli_put_text(stdout, prompt);
        fputs("\033[0m", stdout);
    } else if (prompt && !json) {
        cli_put_text(stdout, prompt);
    }
    fflush(stdout);
    rc = client_generate(c, request, take_line, &writing, err);
    if (!json && (prompt || rc == 0))
        putchar('\n');
    if (rc == 0)
        rc = cli_flush(err);
out:
    client_close(c);
    json_decref(request);
    return rc;
}

static int generate_run(int argc, char **argv, struct error *err)
{
    struct cli_ask ask = {.steps = -1};
    const char *url = NULL;
    int64_t most = 32;
    int no_stop = 0, json = 0, count, rc;
    const struct cli_option options[] = {
        {"url", 0, CLI_TEXT, &url},
        {"tokens", 0, CLI_TEXT, &ask.tokens},
        {"number", 'n', CLI_NUMBER, &most},
        {"no-stop", 0, CLI_FLAG, &no_stop},
        {"attention", 0, CLI_TEXT, &ask.attention},
        {"torch-threads", 0, CLI_NUMBER, &ask.torch_threads},
        {"json", 0, CLI_FLAG, &json},
        {NULL, 0, CLI_FLAG, NULL},
    };

    rc = cli_parse(options, argc, argv, &count, err) ||
         one_argument(argc, count, argv, &ask.prompt, err) ||
         generate(&ask, url, most, no_stop, json, err);
    return rc ? CLI_TROUBLE : CLI_OK;
}

const struct cli_command cli_generate = {
    "generate",
    "PROMPT",
    "continues a text",
    "  PROMPT              the text; - reads standard input\n"
    "  --tokens 1,2,3      ids in place of a text\n"
    "  -n, --number N      at most so many tokens (32)\n"
    "  --no-stop           goes on where the model says that it has finished\n"
    "  --attention NAME    eager or sdpa; else the daemon's default\n"
    "  --torch-threads N   torch.get_num_threads() of the PyTorch whose bits are wanted (of "
    "numerics\n"
    "                      whose bits depend on it)\n"
    "  --json              the lines as the daemon sends them\n",
    generate_run,
    0};

/* ---- logits ---- */

/* Adds a number from the daemon's JSON, where NaN and infinities are strings.  decimals 0: all. */
static void number_cell(struct table *t, const json_t *value, int decimals)
{
    char text[64];

    if (decimals)
        snprintf(text, sizeof(text), "%.*f", decimals, json_number_value(value));
    else
        snprintf(text, sizeof(text), "%.9g", json_number_value(value));
    table_cell(t, "%s", json_is_string(value) ? json_string_value(value) : text);
}

static int print_top(const json_t *reply, struct error *err)
{
    static const struct table_column columns[] = {
        {"id", 1, 0}, {"token", 0, 0}, {"logit", 1, 0}, {"logprob", 1, 0}};
    json_t *rows = json_object_get(reply, "top_k"), *row, *item;
    struct table *t = table_create(columns, 4);
    size_t i, k;

    json_array_foreach (rows, i, row)
        json_array_foreach (row, k, item) {
            const char *token = json_string_value(json_object_get(item, "token"));

            table_row(t, COLOR_NONE);
            table_cell(t, "%lld", (long long)json_integer_value(json_object_get(item, "id")));
            table_cell(t, "'%s'", token ? token : "");
            number_cell(t, json_object_get(item, "logit"), 0);
            number_cell(t, json_object_get(item, "logprob"), 6);
        }
    return cli_print_table(t, err);
}

static int logits_top(struct client *c, json_t *request, int64_t top_k, int json, struct error *err)
{
    json_t *reply;
    int rc = -1;

    json_object_set_new(request, "top_k", json_integer(top_k));
    reply = client_logits(c, request, err);
    if (reply && !json_is_array(json_object_get(reply, "top_k")))
        error_set(err, 502, "%s/v1/logits: the reply has no `top_k`", client_url(c));
    else if (reply)
        rc = json ? cli_print_json(reply, err) : print_top(reply, err);
    json_decref(reply);
    return rc;
}

static int logits_full(struct client *c, const json_t *request, const char *output,
                       struct error *err)
{
    struct receive *r = receive_open(output, NULL, NULL, err);
    char size[32];
    int rc = -1;

    if (!r)
        return -1;
    if (client_logits_stream(c, request, receive_write, r, err) == 0)
        rc = receive_finish(r, err);
    if (rc == 0 && strcmp(output, "-") != 0) {
        printf("%s: %s\n", output, number_bytes(receive_bytes(r), size, sizeof(size)));
        rc = cli_flush(err);
    }
    receive_close(r);
    return rc;
}

struct logits_options {
    struct cli_ask ask;
    const char *url, *output;
    int64_t top_k;
    int json, full;
};

static int logits(const struct logits_options *o, struct error *err)
{
    json_t *request = NULL;
    struct client *c = NULL;
    int rc = -1;

    if (o->full != !!o->output)
        error_set(err, 400,
                  o->full ? "--full needs a file: -o logits.safetensors" : "-o is for --full");
    else
        request = cli_request(&o->ask, err);
    c = request ? cli_client(o->url, err) : NULL;
    if (c)
        rc = o->full ? logits_full(c, request, o->output, err)
                     : logits_top(c, request, o->top_k, o->json, err);
    client_close(c);
    json_decref(request);
    return rc;
}

static int logits_run(int argc, char **argv, struct error *err)
{
    struct logits_options o = {.ask.steps = -1, .top_k = 5};
    int count, rc;
    const struct cli_option options[] = {
        {"url", 0, CLI_TEXT, &o.url},
        {"tokens", 0, CLI_TEXT, &o.ask.tokens},
        {"positions", 0, CLI_TEXT, &o.ask.positions},
        {"attention", 0, CLI_TEXT, &o.ask.attention},
        {"padding", 0, CLI_NUMBER, &o.ask.padding},
        {"batch", 0, CLI_NUMBER, &o.ask.batch},
        {"torch-threads", 0, CLI_NUMBER, &o.ask.torch_threads},
        {"chunks", 0, CLI_TEXT, &o.ask.chunks},
        {"top-k", 'k', CLI_NUMBER, &o.top_k},
        {"full", 0, CLI_FLAG, &o.full},
        {"output", 'o', CLI_TEXT, &o.output},
        {"json", 0, CLI_FLAG, &o.json},
        {NULL, 0, CLI_FLAG, NULL},
    };

    rc = cli_parse(options, argc, argv, &count, err) ||
         one_argument(argc, count, argv, &o.ask.prompt, err) || logits(&o, err);
    return rc ? CLI_TROUBLE : CLI_OK;
}

const struct cli_command cli_logits = {
    "logits",
    "PROMPT",
    "the likeliest next tokens, or all logits",
    "  PROMPT              the text; - reads standard input\n"
    "  --tokens 1,2,3      ids in place of a text\n"
    "  -k, --top-k K       so many (5)\n"
    "  --positions WHICH   last (as if not given), all, or 0,5\n"
    "  --attention NAME    eager or sdpa; else the daemon's default\n"
    "  --padding N         so many first tokens are left padding\n"
    "  --batch N           it is one of so many rows of PyTorch's call\n"
    "  --torch-threads N   torch.get_num_threads() of the PyTorch whose bits are wanted (of "
    "numerics\n"
    "                      whose bits depend on it)\n"
    "  --chunks 3,5        feeds the prompt in calls of these lengths\n"
    "  --full -o FILE      all logits to a safetensors file\n"
    "  --json              for machines\n",
    logits_run,
    0};

/* ---- tokens ---- */

static int print_tokens(const json_t *ids, const json_t *pieces, struct error *err)
{
    static const struct table_column columns[] = {{"index", 1, 0}, {"id", 1, 0}, {"piece", 0, 0}};
    struct table *t = table_create(columns, 3);
    json_t *id;
    size_t i;

    json_array_foreach (ids, i, id) {
        const char *piece = json_string_value(json_array_get(pieces, i));

        table_row(t, COLOR_NONE);
        table_cell(t, "%zu", i);
        table_cell(t, "%lld", (long long)json_integer_value(id));
        table_cell(t, "%s", piece ? piece : "");
    }
    return cli_print_table(t, err);
}

static int encode(struct client *c, const struct cli_ask *ask, int json, struct error *err)
{
    json_t *request = cli_request(ask, err), *ids = NULL, *pieces = NULL, *both;
    const char *text = json_string_value(json_object_get(request, "prompt"));
    int rc = -1;

    if (text)
        ids = client_tokenize(c, text, &pieces, err);
    if (ids && json) {
        both = json_pack("{s:O,s:O*}", "tokens", ids, "pieces", pieces);
        rc = cli_print_json(both, err);
        json_decref(both);
    } else if (ids) {
        rc = print_tokens(ids, pieces, err);
    }
    json_decref(pieces);
    json_decref(ids);
    json_decref(request);
    return rc;
}

static int decode(struct client *c, const char *list, struct error *err)
{
    json_t *ids = cli_numbers("decode", list, err);
    char *text = ids ? client_detokenize(c, ids, err) : NULL;
    int rc = -1;

    if (text) {
        cli_put_text(stdout, text);
        putchar('\n');
        rc = cli_flush(err);
    }
    free(text);
    json_decref(ids);
    return rc;
}

static int tokens_run(int argc, char **argv, struct error *err)
{
    struct cli_ask ask = {.steps = -1};
    const char *url = NULL, *list = NULL;
    struct client *c = NULL;
    int json = 0, count, rc;
    const struct cli_option options[] = {
        {"url", 0, CLI_TEXT, &url},
        {"decode", 'd', CLI_TEXT, &list},
        {"json", 0, CLI_FLAG, &json},
        {NULL, 0, CLI_FLAG, NULL},
    };

    rc = cli_parse(options, argc, argv, &count, err) ||
         one_argument(argc, count, argv, &ask.prompt, err);
    if (rc == 0 && !ask.prompt == !list)
        rc = error_set(err, 400, "a text, or --decode with ids");
    c = rc ? NULL : cli_client(url, err);
    if (c)
        rc = list ? decode(c, list, err) : encode(c, &ask, json, err);
    rc = c ? rc : -1;
    client_close(c);
    return rc ? CLI_TROUBLE : CLI_OK;
}

const struct cli_command cli_tokens = {"tokens",
                                       "TEXT",
                                       "the ids of a text, and back",
                                       "  TEXT                the text; - reads standard input\n"
                                       "  -d, --decode 1,2,3  the text of these ids\n"
                                       "  --json              for machines\n",
                                       tokens_run,
                                       0};
