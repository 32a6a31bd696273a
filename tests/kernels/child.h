/* child.h - what ends a process, and what it says then.  After cmocka.h; C++. */
#ifndef SAMEBIT_TESTS_CHILD_H
#define SAMEBIT_TESTS_CHILD_H

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs `body` in a child process; its stderr goes to `said`. */
static inline void in_child(void (*body)(void), char *said, size_t size, int *status)
{
    int ends[2];
    pid_t child;
    size_t have = 0;
    ssize_t got;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        body();
        _exit(0);
    }
    close(ends[1]);
    while (have < size - 1 && (got = read(ends[0], said + have, size - 1 - have)) > 0)
        have += (size_t)got;
    said[have] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(child, status, 0), child);
}

static inline void assert_ends(void (*body)(void), const char *words)
{
    char said[4096];
    int status;

    in_child(body, said, sizeof(said), &status);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        fail_msg("went through; \"%s\" expected", words);
    if (!strstr(said, words))
        fail_msg("said \"%s\", expected \"%s\"", said, words);
}

static inline void assert_goes_through(void (*body)(void))
{
    char said[4096];
    int status;

    in_child(body, said, sizeof(said), &status);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("ended: \"%s\"", said);
}

#endif
