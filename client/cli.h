/* cli.h - what the commands of the terminal program share. */
#ifndef SAMEBIT_CLI_H
#define SAMEBIT_CLI_H

#include <jansson.h>

#include "client/client.h"
#include "client/table.h"

/* Exit statuses.  Only compare gives DIFFERENT. */
enum { CLI_OK = 0, CLI_DIFFERENT = 1, CLI_TROUBLE = 2 };

#define CLI_DEFAULT_URL "http://127.0.0.1:8642"

/* ---- options ---- */

enum cli_kind {
    CLI_FLAG,   /* int */
    CLI_TEXT,   /* const char * */
    CLI_NUMBER, /* int64_t, not negative */
    CLI_LIST,   /* struct cli_list; may be given often */
};

struct cli_list {
    const char **items;
    int count;
};

struct cli_option {
    const char *name; /* "steps"; NULL ends a table */
    char letter;      /* 'n', or 0 */
    enum cli_kind kind;
    void *to;
};

struct cli_command {
    const char *name, *arguments, *summary;
    const char *help; /* the options, a line each */
    int (*run)(int argc, char **argv, struct error *err);
    int no_url; /* 1: takes no --url */
};

/* Splits argv into options (put where the table says) and the others, left in argv[0..*count).
 * Options may stand anywhere; after `--` everything is an argument. */
int cli_parse(const struct cli_option *options, int argc, char **argv, int *count,
              struct error *err);
void cli_list_free(struct cli_list *list);

/* ---- asking a daemon ---- */

/* Opens url; NULL stands for $SAMEBIT_URL or the default.  Ctrl-C ends its calls. */
struct client *cli_client(const char *url, struct error *err);

/* What is asked: the options that several commands have. */
struct cli_ask {
    const char *prompt; /* "-" reads standard input */
    const char *tokens; /* "1,2,3" */
    const char *positions, *attention;
    const char *chunks;            /* "3,5" */
    int64_t padding, batch;        /* 0: none */
    int64_t torch_threads;         /* 0: not given */
    int64_t steps;                 /* -1: not given */
    struct cli_list values, value; /* --values a,b   -v a */
};
/* {"prompt" | "tokens", and what else was given}.  The caller decrefs. */
json_t *cli_request(const struct cli_ask *ask, struct error *err);
/* The same where the prompt is known otherwise: {} and what else was given. */
json_t *cli_said(const struct cli_ask *ask, struct error *err);
/* "1,2,3" or "[1, 2, 3]" as an array of integers; what: the option, for the error. */
json_t *cli_numbers(const char *what, const char *text, struct error *err);
void cli_ask_clear(struct cli_ask *ask);

/* Receives a trace into path (see receive.h), with a progress bar.  If file is not NULL, it is set to
 * the opened file. */
int cli_receive_trace(struct client *c, const json_t *request, const struct client_replace *replace,
                      int replace_count, const char *path, struct safetensors **file,
                      uint64_t *bytes, struct error *err);

/* Receives an isolation into an unnamed file, without a word. */
int cli_receive_isolate(struct client *c, const json_t *request, const struct client_replace *given,
                        int given_count, struct safetensors **file, struct error *err);

/* ---- output ---- */

/* Prints JSON with a newline.  -1 when standard output takes no more. */
int cli_print_json(const json_t *value, struct error *err);
/* Returns whether standard output is a pipe that nobody reads any more, as after `| head`. */
int cli_reader_gone(void);
/* Flushes standard output. */
int cli_flush(struct error *err);
/* Prints and frees the table. */
int cli_print_table(struct table *t, struct error *err);
/* Writes a text with control characters escaped, newlines and tabs as they are. */
void cli_put_text(FILE *stream, const char *text);
/* "[2, 3]" or "[14, T, L]" from a JSON array or string; returns out. */
char *cli_shape(const json_t *shape, char *out, size_t size);

extern const struct cli_command cli_generate, cli_logits, cli_values, cli_trace, cli_tokens,
    cli_compare, cli_isolate, cli_diagnose, cli_model, cli_health, cli_numerics;

#endif
