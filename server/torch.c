/* torch.c - see torch.h. */
#include "server/torch.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/buffer.h"
#include "kernels/base/clock.h"
#include "kernels/base/json_memory.h"

extern char **environ;

enum { SECONDS = 120, HEAD_MOST = 4096 };
#define PATIENCE ((int64_t)5 * CLOCK_SECOND)

/* ---- the process ---- */

static int spawn(const char *python, const char *script, int to, pid_t *pid)
{
    char names[PROBES][PROBE_TEXT], *argv[PROBES + 3];
    posix_spawn_file_actions_t actions;
    int rc;

    argv[0] = (char *)(uintptr_t)python;
    argv[1] = (char *)(uintptr_t)script;
    for (int i = 0; i < PROBES; i++) {
        probe_name(i, names[i]);
        argv[i + 2] = names[i];
    }
    argv[PROBES + 2] = NULL;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
    posix_spawn_file_actions_adddup2(&actions, to, STDOUT_FILENO);
    rc = posix_spawnp(pid, python, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* Reads to the end, or to `most` bytes.  Returns 0, or -1 when time is up (until, by clock_ns). */
static int read_all(int from, size_t most, int64_t until, struct buffer *out)
{
    struct pollfd ready = {.fd = from, .events = POLLIN};
    char part[16384];

    while (out->size <= most) {
        const int64_t left = until - clock_ns();
        ssize_t n;

        if (left <= 0)
            return -1;
        if (poll(&ready, 1, (int)(left / (CLOCK_SECOND / 1000)) + 1) <= 0)
            continue;
        n = read(from, part, sizeof(part));
        if (n == 0 || (n < 0 && errno != EINTR))
            return 0;
        if (n > 0)
            buffer_append(out, part, (size_t)n);
    }
    return 0;
}

static int no_answer(const char *python, struct error *err)
{
    return error_set(err, 400, "--python %.200s: it does not answer as a Python with torch would",
                     python);
}

/* Its status once it has ended; one that goes on after `until` is ended. */
static int status_of(pid_t pid, int64_t until)
{
    const struct timespec pause = {0, CLOCK_SECOND / 100};
    int status = 0;
    pid_t ended;

    while ((ended = waitpid(pid, &status, WNOHANG)) == 0 && clock_ns() < until)
        nanosleep(&pause, NULL);
    if (ended == pid)
        return status;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static int check_status(const char *python, int status, struct error *err)
{
    if (WIFSIGNALED(status))
        return error_set(
            err, 400, "--python %.200s: ended by signal %d (%s)%s", python, WTERMSIG(status),
            strsignal(WTERMSIG(status)),
            WTERMSIG(status) == SIGILL
                ? ", as PyTorch does where it is told of instructions that this CPU lacks"
                : "");
    if (WEXITSTATUS(status))
        return error_set(err, 400, "--python %.200s: ended with status %d", python,
                         WEXITSTATUS(status));
    return 0;
}

static int run(const char *python, const char *script, size_t most, struct buffer *out,
               struct error *err)
{
    const int64_t until = clock_ns() + (int64_t)SECONDS * CLOCK_SECOND;
    int ends[2], rc, in_time, status;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC))
        return error_set(err, 500, "no pipe");
    rc = spawn(python, script, ends[1], &pid);
    close(ends[1]);
    if (rc) {
        close(ends[0]);
        return error_set(err, 400, "--python %.200s: %s", python, strerror(rc));
    }
    in_time = read_all(ends[0], most, until, out) == 0;
    /* who has said all, and closed its output, has a while to end */
    status = status_of(pid, out->size > most                ? 0
                            : until < clock_ns() + PATIENCE ? until
                                                            : clock_ns() + PATIENCE);
    close(ends[0]); /* after its end: one that still writes would say that nobody reads */
    if (!in_time)
        return error_set(err, 400, "--python %.200s: no answer in %d s", python, SECONDS);
    return out->size > most ? no_answer(python, err) : check_status(python, status, err);
}

/* ---- its answer ---- */

static int read_head(const char *python, const json_t *head, struct torch *out, struct error *err)
{
    const char *trouble = json_string_value(json_object_get(head, "error"));
    const char *version = json_string_value(json_object_get(head, "torch"));
    const char *capability = json_string_value(json_object_get(head, "capability"));
    const json_int_t threads = json_integer_value(json_object_get(head, "threads"));

    if (trouble)
        return error_set(err, 400, "--python %.200s: %.200s", python, trouble);
    if (!version || !capability || threads < 1 || threads > INT32_MAX)
        return no_answer(python, err);
    snprintf(out->version, sizeof(out->version), "%.60s", version);
    snprintf(out->capability, sizeof(out->capability), "%.30s", capability);
    out->threads = (int)threads;
    return 0;
}

static int read_results(const char *python, const char *at, size_t size, struct torch *out,
                        struct error *err)
{
    for (int i = 0; i < PROBES; i++) {
        const size_t bytes = (size_t)probe_count(i) * sizeof(bf16);

        if (size < bytes)
            return no_answer(python, err);
        out->result[i] = malloc(bytes);
        if (!out->result[i])
            return error_set(err, 500, "out of memory");
        memcpy(out->result[i], at, bytes);
        at += bytes;
        size -= bytes;
    }
    return size ? no_answer(python, err) : 0;
}

static int read_answer(const char *python, const struct buffer *b, struct torch *out,
                       struct error *err)
{
    const char *line =
        b->size ? memchr(b->data, '\n', b->size < HEAD_MOST ? b->size : HEAD_MOST) : NULL;
    json_t *head = line ? json_memory_read(b->data, (size_t)(line - b->data), 0, NULL) : NULL;
    int rc;

    if (!head)
        return no_answer(python, err);
    rc = read_head(python, head, out, err);
    json_decref(head);
    if (rc)
        return -1;
    return read_results(python, line + 1, b->size - (size_t)(line + 1 - b->data), out, err);
}

int torch_ask(const char *python, const char *script, struct torch *out, struct error *err)
{
    struct buffer answer = {0};
    size_t most = HEAD_MOST;
    int rc;

    *out = (struct torch){0};
    for (int i = 0; i < PROBES; i++)
        most += (size_t)probe_count(i) * sizeof(bf16);
    rc = run(python, script, most, &answer, err);
    if (!rc && answer.failed)
        rc = error_set(err, 500, "out of memory");
    if (!rc)
        rc = read_answer(python, &answer, out, err);
    buffer_clear(&answer);
    return rc;
}

void torch_clear(struct torch *t)
{
    for (int i = 0; i < PROBES; i++)
        free(t->result[i]);
    *t = (struct torch){0};
}
