/* execution.h - a run under way: its memory, and one call of the model after the other.
 *
 * Whoever drives it (drivers.c) begins a call, runs it through the program, with those of other runs
 * or without, and ends it.  One thread at a time. */
#ifndef SAMEBIT_EXECUTION_H
#define SAMEBIT_EXECUTION_H

#include "server/engine/run.h"

struct execution;

/* Takes the memory of the run.  r and what the sink points to are borrowed.  Errors: 503. */
struct execution *execution_open(struct run *r, const struct run_sink *sink, struct error *err);
void execution_close(struct execution *x);

/* To be called before the first call: skips the calls that an earlier run has made alike, and gives
 * the sink the tokens that they chose.  Returns as execution_end. */
int execution_start(struct execution *x, struct error *err);

const struct program *execution_program(const struct execution *x);
/* Tokens of the call that comes next; there must be one. */
int64_t execution_tokens(const struct execution *x);
/* The next call of the model; valid until execution_end.  NULL: failed. */
struct model_call *execution_begin(struct execution *x, struct error *err);
/* To be called when the call has gone through all steps, or is over (model_call.error): gives the sink
 * the rest of its values and the token that was chosen.  0: another call comes; 1: the run is
 * complete; -1: it failed, err says why. */
int execution_end(struct execution *x, struct error *err);

#endif
