/* cli_numerics.c - `samebit numerics`: samebitd says what PyTorch computes on this machine. */
#include "client/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The samebitd beside this program; else "samebitd", to be looked for in PATH. */
static void find_daemon(char *path, size_t size)
{
    static const char name[] = "samebitd";
    const ssize_t n = readlink("/proc/self/exe", path, size - sizeof(name));
    char *slash;

    if (n > 0) {
        path[n] = '\0';
        slash = strrchr(path, '/');
        memcpy(slash ? slash + 1 : path, name, sizeof(name));
        if (access(path, X_OK) == 0)
            return;
    }
    memcpy(path, name, sizeof(name));
}

static int numerics_run(int argc, char **argv, struct error *err)
{
    const char *python = NULL;
    char daemon[4096];
    int count;
    const struct cli_option options[] = {
        {"python", 0, CLI_TEXT, &python},
        {NULL, 0, CLI_FLAG, NULL},
    };

    if (cli_parse(options, argc, argv, &count, err))
        return CLI_TROUBLE;
    if (count) {
        error_set(err, 400, "takes no '%s'", argv[0]);
        return CLI_TROUBLE;
    }
    find_daemon(daemon, sizeof(daemon));
    signal(SIGPIPE, SIG_DFL);
    execlp(daemon, daemon, "--which-numerics", python ? "--python" : NULL, python, NULL);
    error_set(err, 500, "%s, which knows, is neither beside samebit nor in PATH (%s)", daemon,
              strerror(errno));
    return CLI_TROUBLE;
}

const struct cli_command cli_numerics = {
    "numerics",
    "",
    "what PyTorch computes on this machine, and why",
    "  --python PATH       a Python that has torch: asks it too, and says whether they agree\n"
    "                      (exit status 1: they do not)\n",
    numerics_run,
    1};
