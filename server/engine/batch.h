/* batch.h - the thread that runs the jobs which join others.
 *
 * Whatever is short (decode steps, short prompts) goes through the model together, with one pass
 * over the weights.  A long prompt goes a few steps of the program at a time, between these passes,
 * so that nobody's next token waits for all of somebody's prompt.  Each run has the bits that it
 * would have alone, whoever joins it. */
#ifndef SAMEBIT_BATCH_H
#define SAMEBIT_BATCH_H

#include "server/engine/scheduler.h"

struct batch;

/* Takes JOB_JOINS of the scheduler, which outlives it. */
struct batch *batch_create(struct scheduler *s, struct error *err);
/* After scheduler_stop: waits for the jobs that run. */
void batch_free(struct batch *b);

/* Whether a run may join others: what it gives between two calls is little. */
int batch_takes(const struct run *r);

#endif
