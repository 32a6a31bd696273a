/* run_execute.c - runs a request alone, on the caller's thread. */
#include <stdlib.h>

#include "server/engine/execution.h"

static int run_calls(struct execution *x, struct gang *gang, struct error *err)
{
    const struct program *p = execution_program(x);
    int rc = execution_start(x, err);

    while (rc == 0) {
        gang->part[0] = execution_begin(x, err);
        gang->count = 1;
        if (!gang->part[0])
            return -1;
        program_run(p, 0, p->count, gang);
        rc = execution_end(x, err);
    }
    return rc < 0 ? -1 : 0;
}

int run_execute(struct run *r, const struct run_sink *sink, struct error *err)
{
    struct gang *gang = calloc(1, sizeof(*gang));
    struct execution *x;
    int rc;

    if (!gang)
        return error_set(err, 503, "out of memory");
    x = execution_open(r, sink, err);
    rc = x ? run_calls(x, gang, err) : -1;
    execution_close(x);
    free(gang);
    return rc;
}
