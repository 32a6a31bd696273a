/* cli.c - the program `samebit`: finds the command and reports what went wrong. */
#include "client/cli.h"
#include "kernels/base/json_memory.h"

#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_command *const commands[] = {
    &cli_generate, &cli_logits, &cli_values, &cli_trace,  &cli_compare,  &cli_isolate,
    &cli_diagnose, &cli_tokens, &cli_model,  &cli_health, &cli_numerics,
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_overview(FILE *stream)
{
    color_print(stream, COLOR_BOLD, "samebit");
    fputs(" - asks a daemon that computes with PyTorch's bits, and compares what comes out\n\n",
          stream);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(stream, "  samebit %-9s %-17s %s\n", commands[i]->name, commands[i]->arguments,
                commands[i]->summary);
    fputs("\n"
          "Every command has --help, and --url of the daemon (else $SAMEBIT_URL, "
          "else\n" CLI_DEFAULT_URL
          ");\n$SAMEBIT_TOKEN or $SAMEBIT_TOKEN_FILE says who asks, $SAMEBIT_CA_FILE who vouches "
          "for https. Exit status: 0 well, 1 compared and different, 2 trouble.\n",
          stream);
}

static void print_help(const struct cli_command *c)
{
    printf("samebit %s %s\n  %s\n\n%s", c->name, c->arguments, c->summary, c->help);
    if (!c->no_url)
        printf("  --url URL           the daemon; else $SAMEBIT_URL, else " CLI_DEFAULT_URL "\n");
    printf("  --help              this\n");
}

static int wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
    return 0;
}

static int run_command(const struct cli_command *c, int argc, char **argv)
{
    struct error err = {0};
    int rc;

    if (wants_help(argc, argv)) {
        print_help(c);
        return fflush(stdout) ? CLI_TROUBLE : CLI_OK;
    }
    rc = c->run(argc, argv, &err);
    if (rc == CLI_TROUBLE && !cli_reader_gone()) {
        fflush(stdout);
        color_print(stderr, COLOR_BAD, "samebit:");
        fprintf(stderr, " %s\n", err.code ? err.text : "failed");
    }
    return rc;
}

/* JSON brings UTF-8: it is shown as it is if the terminal's locale is UTF-8, else escaped. */
static void set_locale(void)
{
    if (!setlocale(LC_CTYPE, "") || strcmp(setlocale(LC_CTYPE, NULL), "C") == 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

int main(int argc, char **argv)
{
    json_memory_watch(malloc);
    set_locale();
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_overview(stderr);
        return CLI_TROUBLE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_overview(stdout);
        return fflush(stdout) ? CLI_TROUBLE : CLI_OK;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i]->name) == 0)
            return run_command(commands[i], argc - 2, argv + 2);
    fprintf(stderr, "samebit: no command '%s'; samebit --help lists them\n", argv[1]);
    return CLI_TROUBLE;
}
