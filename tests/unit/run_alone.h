/* run_alone.h - a run on the caller's thread, call by call: what every other way to run must equal. */
#ifndef SAMEBIT_TEST_RUN_ALONE_H
#define SAMEBIT_TEST_RUN_ALONE_H

#include <stdlib.h>

#include "server/engine/execution.h"

/* As scheduler.h tells of an ALONE job.  0, or -1 with err. */
static inline int run_alone(struct run *r, const struct run_sink *sink, struct error *err)
{
    struct call_set *set = calloc(1, sizeof(*set));
    struct execution *x = set ? execution_open(r, sink, err) : NULL;
    int rc = x ? execution_start(x, err) : -1;

    if (!set)
        error_set(err, 503, "out of memory");
    while (rc == 0) {
        set->at[0] = execution_begin(x, err);
        set->count = 1;
        if (set->at[0])
            program_run(r->program, 0, r->program->count, set);
        rc = set->at[0] ? execution_end(x, err) : -1;
    }
    execution_close(x);
    free(set);
    return rc < 0 ? -1 : 0;
}

#endif
