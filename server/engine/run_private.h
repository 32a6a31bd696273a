/* run_private.h - what run.c and run_names.c (creating a run) and execution.c (running it) share. */
#ifndef SAMEBIT_RUN_PRIVATE_H
#define SAMEBIT_RUN_PRIVATE_H

#include "server/engine/run.h"

/* A replacement, resolved. */
struct run_put {
    int call, step;
    struct tensor value;
};

struct run_state {
    enum run_positions which;
    int64_t *positions; /* LIST: ascending */
    int64_t position_count;
    struct run_put *puts;
    int64_t put_count;
    struct isolate *isolate; /* NULL: the replacements replace */
    struct op_scope *scope;  /* [calls] */
    int32_t *entry_step;     /* [entry_count] in program.steps */
    int64_t *first_entry; /* [calls + 1]: call c has entries [first_entry[c], first_entry[c + 1]) */
    uint64_t *slot_bytes; /* [program.slots] */
};

/* Shape of a step's value in a call, all rows; a by_rows step's too. */
struct tensor run_value(const struct run *r, int step, int64_t call);
/* How many rows of a call are given out of `extent` rows. */
int64_t run_rows(const struct run *r, int64_t call, int64_t extent);

/* How many names there are.  Errors: 400. */
int run_check_names(const struct run_request *request, struct error *err);
/* Entries, their calls and aliases; the calls are known.  Errors: 400, naming the value. */
int run_name_values(struct run *r, const struct run_request *request,
                    const struct run_limits *limits, struct error *err);
/* Replacements.  Errors: 400, naming the value. */
int run_name_replacements(struct run *r, const struct run_request *request, struct error *err);

#endif
