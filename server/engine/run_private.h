/* run_private.h - what run.c and run_names.c (creating a run) and execution.c (running it) share. */
#ifndef SAMEBIT_RUN_PRIVATE_H
#define SAMEBIT_RUN_PRIVATE_H

#include "server/engine/run.h"

/* A replacement whose name has been found. */
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
    struct torch_host torch; /* whose bits; what all scopes point to */
    struct op_scope *scope;  /* [calls] */
    int32_t *entry_step;     /* [entry_count] in program.steps */
    int64_t *first_entry; /* [calls + 1]: call c has entries [first_entry[c], first_entry[c + 1]) */
    uint64_t *slot_bytes; /* [program.slots] */
};

/* The value of a step in a call, without data: dtype, and shape with all rows. */
struct tensor run_value(const struct run *r, int step, int64_t call);
/* Returns how many of the `extent` rows of a value come out in a call. */
int64_t run_rows(const struct run *r, int64_t call, int64_t extent);

/* Errors: 400 where there are more names or replacements than there may be. */
int run_check_names(const struct run_request *request, struct error *err);
/* Finds the values that the request names, and sets entries and aliases; scope is set already.
 * Errors: 400, naming the value. */
int run_name_values(struct run *r, const struct run_request *request,
                    const struct run_limits *limits, struct error *err);
/* Finds the values that the request replaces, and sets puts.  Errors: 400, naming the value. */
int run_name_replacements(struct run *r, const struct run_request *request, struct error *err);

#endif
