/* cli_common.c - options, requests and output of the commands.  See cli.h. */
#include "client/cli.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/receive.h"

/* ---- options ---- */

static const struct cli_option *find_option(const struct cli_option *o, const char *name,
                                            size_t length, char letter)
{
    for (; o->name; o++)
        if (letter ? o->letter == letter
                   : strlen(o->name) == length && strncmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

static int add_item(struct cli_list *list, const char *item, struct error *err)
{
    const char **items = realloc(list->items, ((size_t)list->count + 1) * sizeof(*items));

    if (!items)
        return error_set(err, 500, "out of memory");
    list->items = items;
    list->items[list->count++] = item;
    return 0;
}

void cli_list_free(struct cli_list *list)
{
    free(list->items);
}

static int set_option(const struct cli_option *o, const char *value, struct error *err)
{
    char *end;

    switch (o->kind) {
    case CLI_FLAG:
        *(int *)o->to = 1;
        return 0;
    case CLI_TEXT:
        *(const char **)o->to = value;
        return 0;
    case CLI_LIST:
        return add_item(o->to, value, err);
    case CLI_NUMBER:
        errno = 0;
        *(int64_t *)o->to = strtoll(value, &end, 10);
        if (end == value || *end || errno || *(int64_t *)o->to < 0)
            return error_param(err, 400, o->name, "--%s %s: not a number from 0 on", o->name,
                               value);
    }
    return 0;
}

/* Reads the option at argv[*at]; moves *at on if its value is the next word. */
static int parse_one(const struct cli_option *options, int argc, char **argv, int *at,
                     struct error *err)
{
    const char *word = argv[*at], *value = NULL;
    const struct cli_option *o;

    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");

        o = find_option(options, word + 2, length, 0);
        value = word[2 + length] ? word + 3 + length : NULL;
    } else {
        o = find_option(options, NULL, 0, word[1]);
        value = word[2] ? word + 2 : NULL;
    }
    if (!o)
        return error_param(err, 400, word, "no option %s here; --help lists them", word);
    if (o->kind == CLI_FLAG && value)
        return error_param(err, 400, o->name, "--%s takes no value", o->name);
    if (o->kind != CLI_FLAG && !value && ++*at < argc)
        value = argv[*at];
    if (o->kind != CLI_FLAG && !value)
        return error_param(err, 400, o->name, "--%s needs a value", o->name);
    return set_option(o, value, err);
}

int cli_parse(const struct cli_option *options, int argc, char **argv, int *count,
              struct error *err)
{
    int rest = 0;

    *count = 0;
    for (int i = 0; i < argc; i++) {
        if (!rest && strcmp(argv[i], "--") == 0)
            rest = 1;
        else if (rest || argv[i][0] != '-' || argv[i][1] == '\0')
            argv[(*count)++] = argv[i];
        else if (parse_one(options, argc, argv, &i, err))
            return -1;
    }
    return 0;
}

/* ---- asking a daemon ---- */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static int poll_interrupt(void *user)
{
    (void)user;
    return interrupted;
}

/* The first word of a file; the caller's to free. */
static char *read_word(const char *path, struct error *err)
{
    FILE *f = fopen(path, "re");
    char word[1024] = "";

    if (!f || fscanf(f, "%1023s", word) != 1)
        error_set(err, 400, "$SAMEBIT_TOKEN_FILE: %s: %s", path,
                  f ? "no token in it" : strerror(errno));
    if (f)
        fclose(f);
    return *word ? strdup(word) : NULL;
}

/* What the environment says of who asks: a token would be seen among a command's arguments. */
static int set_identity(struct client *c, struct error *err)
{
    const char *token = getenv("SAMEBIT_TOKEN"), *file = getenv("SAMEBIT_TOKEN_FILE");
    const char *authorities = getenv("SAMEBIT_CA_FILE");
    char *word = NULL;
    int rc = 0;

    if ((!token || !*token) && file && *file) {
        token = word = read_word(file, err);
        rc = word ? 0 : -1;
    }
    if (!rc && token && *token)
        rc = client_set_token(c, token, err);
    if (!rc && authorities && *authorities)
        rc = client_set_authorities(c, authorities, err);
    free(word);
    return rc;
}

struct client *cli_client(const char *url, struct error *err)
{
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = SA_RESETHAND};
    const char *set = getenv("SAMEBIT_URL");
    struct client *c;

    if (!url)
        url = set && *set ? set : CLI_DEFAULT_URL;
    c = client_open(url, err);
    if (!c)
        return NULL;
    if (set_identity(c, err)) {
        client_close(c);
        return NULL;
    }
    client_set_poll(c, poll_interrupt, NULL);
    sigaction(SIGINT, &action, NULL); /* a second one ends the program at once */
    sigaction(SIGTERM, &action, NULL);
    return c;
}

/* As Python prints a list, or without its brackets; spaces may stand anywhere. */
json_t *cli_numbers(const char *what, const char *text, struct error *err)
{
    json_t *list = json_array();
    const char *at = text + strspn(text, " \t\n");
    const int bracket = *at == '[';

    for (at += bracket; list;) {
        char *end;
        long long id;

        errno = 0;
        id = strtoll(at, &end, 10);
        if (end == at || errno)
            break;
        json_array_append_new(list, json_integer(id));
        at = end + strspn(end, " \t\n");
        if (*at == ',') {
            at++;
            continue;
        }
        if (bracket && *at++ != ']')
            break;
        if (at[strspn(at, " \t\n")])
            break;
        return list;
    }
    if (list)
        error_param(err, 400, what, "--%s %s: not a list of numbers like 1,2,3", what, text);
    else
        error_set(err, 500, "out of memory");
    json_decref(list);
    return NULL;
}

static json_t *text_or_input(const char *text, struct error *err)
{
    struct buffer b = {0};
    char piece[4096];
    size_t n;
    json_t *out;

    if (strcmp(text, "-") == 0)
        while ((n = fread(piece, 1, sizeof(piece), stdin)) > 0)
            buffer_append(&b, piece, n);
    else
        buffer_text(&b, text);
    out = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.size);
    if (!out)
        error_set(err, 400, "the prompt is not valid UTF-8");
    buffer_clear(&b);
    return out;
}

/* Splits "a,b" of every item. */
static void add_names(json_t *names, const struct cli_list *list, int split)
{
    for (int i = 0; i < list->count; i++)
        for (const char *at = list->items[i]; *at;) {
            size_t n = split ? strcspn(at, ",") : strlen(at);

            if (n)
                json_array_append_new(names, json_stringn(at, n));
            at += n + (at[n] == ',');
        }
}

static int add_positions(json_t *request, const char *positions, struct error *err)
{
    json_t *value;

    if (!positions)
        return 0;
    value = strcmp(positions, "all") == 0 || strcmp(positions, "last") == 0
                ? json_string(positions)
                : cli_numbers("positions", positions, err);
    return value ? json_object_set_new(request, "positions", value) : -1;
}

static int add_chunks(json_t *request, const char *chunks, struct error *err)
{
    json_t *lengths = chunks ? cli_numbers("chunks", chunks, err) : NULL;

    if (!chunks)
        return 0;
    return lengths ? json_object_set_new(request, "chunks", lengths) : -1;
}

json_t *cli_said(const struct cli_ask *ask, struct error *err)
{
    json_t *request = json_object(), *names = json_array();

    add_names(names, &ask->values, 1);
    add_names(names, &ask->value, 0);
    if (json_array_size(names))
        json_object_set(request, "values", names);
    json_decref(names);
    if (ask->steps >= 0)
        json_object_set_new(request, "steps", json_integer(ask->steps));
    if (ask->attention)
        json_object_set_new(request, "attention", json_string(ask->attention));
    if (ask->padding)
        json_object_set_new(request, "padding", json_integer(ask->padding));
    if (ask->batch)
        json_object_set_new(request, "batch", json_integer(ask->batch));
    if (ask->torch_threads)
        json_object_set_new(request, "torch_threads", json_integer(ask->torch_threads));
    if (!add_chunks(request, ask->chunks, err) && !add_positions(request, ask->positions, err))
        return request;
    error_set(err, 500, "out of memory");
    json_decref(request);
    return NULL;
}

json_t *cli_request(const struct cli_ask *ask, struct error *err)
{
    json_t *request, *fed;

    if (ask->prompt && ask->tokens)
        error_param(err, 400, "tokens", "both a prompt and --tokens are given");
    else if (!ask->prompt && !ask->tokens)
        error_param(err, 400, "prompt", "neither a prompt nor --tokens is given");
    if (err->code)
        return NULL;
    fed = ask->prompt ? text_or_input(ask->prompt, err) : cli_numbers("tokens", ask->tokens, err);
    request = fed ? cli_said(ask, err) : NULL;
    if (request && json_object_set(request, ask->prompt ? "prompt" : "tokens", fed)) {
        json_decref(request);
        request = NULL;
        error_set(err, 500, "out of memory");
    }
    json_decref(fed);
    return request;
}

void cli_ask_clear(struct cli_ask *ask)
{
    cli_list_free(&ask->values);
    cli_list_free(&ask->value);
}

static void show(void *user, const char *name, uint64_t done, uint64_t all)
{
    progress_show(user, name, done, all);
}

int cli_receive_trace(struct client *c, const json_t *request, const struct client_replace *replace,
                      int replace_count, const char *path, struct safetensors **file,
                      uint64_t *bytes, struct error *err)
{
    struct progress progress;
    struct receive *r;
    int rc = -1;

    progress_start(&progress);
    r = receive_open(path, show, &progress, err);
    if (!r)
        return -1;
    rc = client_trace(c, request, replace, replace_count, receive_write, r, err);
    progress_end(&progress);
    if (rc == 0)
        rc = receive_finish(r, err);
    if (rc == 0 && file) {
        *file = receive_file(r, client_url(c), err);
        rc = *file ? 0 : -1;
    }
    if (bytes)
        *bytes = receive_bytes(r);
    receive_close(r);
    return rc;
}

int cli_receive_isolate(struct client *c, const json_t *request, const struct client_replace *given,
                        int given_count, struct safetensors **file, struct error *err)
{
    struct receive *r = receive_open(NULL, NULL, NULL, err);
    int rc = -1;

    if (r && client_isolate(c, request, given, given_count, receive_write, r, err) == 0 &&
        receive_finish(r, err) == 0) {
        *file = receive_file(r, client_url(c), err);
        rc = *file ? 0 : -1;
    }
    receive_close(r);
    return rc;
}

/* ---- output ---- */

int cli_reader_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};

    return ferror(stdout) && poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

int cli_flush(struct error *err)
{
    if (fflush(stdout) || ferror(stdout))
        return error_set(err, 500, "cannot write to standard output: %s", strerror(errno));
    return 0;
}

int cli_print_json(const json_t *value, struct error *err)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    putchar('\n');
    return cli_flush(err);
}

int cli_print_table(struct table *t, struct error *err)
{
    int rc = table_print(t, stdout);

    table_free(t);
    if (rc && !ferror(stdout))
        return error_set(err, 500, "out of memory for the table");
    return cli_flush(err);
}

void cli_put_text(FILE *stream, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        /* A model may write anything: escape sequences must not reach the terminal. */
        if ((c < 32 && c != '\n' && c != '\t') || c == 127)
            fprintf(stream, "\\x%02x", c);
        else
            fputc(c, stream);
    }
}

char *cli_shape(const json_t *shape, char *out, size_t size)
{
    size_t at, k;
    json_t *extent;

    if (json_is_string(shape)) {
        snprintf(out, size, "%s", json_string_value(shape));
        return out;
    }
    at = (size_t)snprintf(out, size, "[");
    json_array_foreach (shape, k, extent) {
        if (at + 1 >= size)
            break;
        if (json_is_string(extent))
            at += (size_t)snprintf(out + at, size - at, "%s%s", k ? ", " : "",
                                   json_string_value(extent));
        else
            at += (size_t)snprintf(out + at, size - at, "%s%lld", k ? ", " : "",
                                   (long long)json_integer_value(extent));
    }
    if (at + 1 < size)
        snprintf(out + at, size - at, "]");
    return out;
}
