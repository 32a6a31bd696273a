/* run_execute.c - runs a request alone, on the caller's thread. */
#include <stdlib.h>

#include "server/engine/execution.h"

static int run_calls(struct execution *x, struct call_set *set, struct error *err)
{
    const struct program *p = execution_program(x);
    int rc = execution_start(x, err);

    while (rc == 0) {
        set->at[0] = execution_begin(x, err);
        set->count = 1;
        if (!set->at[0])
            return -1;
        program_run(p, 0, p->count, set);
        rc = execution_end(x, err);
    }
    return rc < 0 ? -1 : 0;
}

int run_execute(struct run *r, const struct run_sink *sink, struct error *err)
{
    struct call_set *set = calloc(1, sizeof(*set));
    struct execution *x;
    int rc;

    if (!set)
        return error_set(err, 503, "out of memory");
    x = execution_open(r, sink, err);
    rc = x ? run_calls(x, set, err) : -1;
    execution_close(x);
    free(set);
    return rc;
}
