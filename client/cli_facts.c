/* cli_facts.c - `samebit values`, `samebit model` and `samebit health`. */
#include "client/cli.h"

#include <string.h>

/* ---- values ---- */

static void join(const json_t *list, char *out, size_t size)
{
    size_t at = 0, k;
    json_t *item;

    out[0] = '\0';
    json_array_foreach (list, k, item)
        if (json_is_string(item) && at < size)
            at += (size_t)snprintf(out + at, size - at, "%s%s", k ? ", " : "",
                                   json_string_value(item));
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static int print_values(const json_t *values, struct error *err)
{
    static const struct table_column columns[] = {{"value", 0, 0},   {"op", 0, 0},
                                                  {"shape", 0, 0},   {"dtype", 0, 1},
                                                  {"aliases", 0, 2}, {"source", 0, 3}};
    struct table *t = table_create(columns, 6);
    char shape[128], aliases[256];
    json_t *v;
    size_t i;

    json_array_foreach (values, i, v) {
        join(json_object_get(v, "aliases"), aliases, sizeof(aliases));
        table_row(t, COLOR_NONE);
        table_cell(t, "%s", text_of(v, "name"));
        table_cell(t, "%s", text_of(v, "op"));
        table_cell(t, "%s", cli_shape(json_object_get(v, "shape"), shape, sizeof(shape)));
        table_cell(t, "%s", text_of(v, "dtype"));
        table_cell(t, "%s", aliases);
        table_cell_color(t, COLOR_DIM);
        table_cell(t, "%s", text_of(v, "source"));
        table_cell_color(t, COLOR_DIM);
    }
    return cli_print_table(t, err);
}

static int values_run(int argc, char **argv, struct error *err)
{
    const char *url = NULL, *attention = NULL;
    struct client *c = NULL;
    json_t *values = NULL;
    int64_t layer = -1;
    int json = 0, count, rc;
    const struct cli_option options[] = {
        {"url", 0, CLI_TEXT, &url},       {"attention", 0, CLI_TEXT, &attention},
        {"layer", 0, CLI_NUMBER, &layer}, {"json", 0, CLI_FLAG, &json},
        {NULL, 0, CLI_FLAG, NULL},
    };

    rc = cli_parse(options, argc, argv, &count, err);
    if (rc == 0 && count > 1)
        rc = error_set(err, 400,
                       "one pattern is taken; quote it, so that the shell leaves it alone");
    c = rc ? NULL : cli_client(url, err);
    values = c ? client_values(c, attention, count ? argv[0] : NULL, layer, err) : NULL;
    rc = -1;
    if (values && json_array_size(values) == 0)
        error_set(
            err, 404,
            "no value is called %s; `samebit values` lists all (--attention NAME those of another "
            "attention)",
            count ? argv[0] : "*");
    else if (values)
        rc = json ? cli_print_json(values, err) : print_values(values, err);
    json_decref(values);
    client_close(c);
    return rc ? CLI_TROUBLE : CLI_OK;
}

const struct cli_command cli_values = {
    "values",
    "[GLOB]",
    "the values that can be asked for",
    "  GLOB                names or aliases, e.g. 'model.layers.*.mlp.*'\n"
    "  --layer N           of one layer\n"
    "  --attention NAME    eager or sdpa; else the daemon's default\n"
    "  --json              for machines\n",
    values_run,
    0};

/* ---- model and health ---- */

static int print_facts(const json_t *facts, struct error *err)
{
    char list[256];
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)facts, key, value) {
        if (json_is_object(value))
            continue;
        printf("%-14s ", key);
        join(value, list, sizeof(list));
        if (json_is_array(value))
            cli_put_text(stdout, list);
        else if (json_is_string(value))
            cli_put_text(stdout, json_string_value(value));
        else
            json_dumpf(value, stdout, JSON_ENCODE_ANY);
        putchar('\n');
    }
    return cli_flush(err);
}

static int facts_run(int argc, char **argv, json_t *(*ask)(struct client *c, struct error *err),
                     struct error *err)
{
    const char *url = NULL;
    struct client *c = NULL;
    json_t *facts = NULL;
    int json = 0, count, rc = -1;
    const struct cli_option options[] = {
        {"url", 0, CLI_TEXT, &url},
        {"json", 0, CLI_FLAG, &json},
        {NULL, 0, CLI_FLAG, NULL},
    };

    if (cli_parse(options, argc, argv, &count, err) == 0 &&
        (count == 0 || !error_set(err, 400, "takes no '%s'", argv[0])))
        c = cli_client(url, err);
    facts = c ? ask(c, err) : NULL;
    if (facts)
        rc = json ? cli_print_json(facts, err) : print_facts(facts, err);
    json_decref(facts);
    client_close(c);
    return rc ? CLI_TROUBLE : CLI_OK;
}

static int model_run(int argc, char **argv, struct error *err)
{
    return facts_run(argc, argv, client_model, err);
}

static int health_run(int argc, char **argv, struct error *err)
{
    return facts_run(argc, argv, client_health, err);
}

const struct cli_command cli_model = {
    "model",
    "",
    "what the daemon serves",
    "  --json              everything, with config.json and limits\n",
    model_run,
    0};

const struct cli_command cli_health = {"health",
                                       "",
                                       "whether the daemon is ready (status 0) or not (2)",
                                       "  --json              for machines\n",
                                       health_run,
                                       0};
