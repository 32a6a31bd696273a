/* drivers.h - the threads that take jobs from the scheduler and drive their runs through the model.
 *
 * Every driver has the same loop; what differs is how many jobs it has at a time.
 *
 *   SHARED  one driver has all of these jobs.  Short calls (decode steps, short prompts) go through
 *           the model together, with one pass over the weights.  A long prompt goes a few steps of
 *           the program at a time, between these passes, so that no run's next token waits for the
 *           whole of another's prompt.
 *   ALONE   each job has a driver of its own, which waits with it when its reader is slow.  Drivers
 *           are started as jobs come: as many as jobs run, and stalled jobs beside them.
 *
 * Either way each run has the bits that it has alone on an idle machine. */
#ifndef SAMEBIT_DRIVERS_H
#define SAMEBIT_DRIVERS_H

#include "server/engine/scheduler.h"

enum { DRIVERS_CALL_BYTES = 1 << 20 }; /* that a call of a SHARED run may give */

struct drivers;

/* Takes the scheduler's jobs until it stops.  The scheduler is borrowed and outlives the drivers.
 * Errors: 500 without memory or threads. */
struct drivers *drivers_start(struct scheduler *s, struct error *err);
/* After scheduler_stop: waits until the jobs that were taken have finished. */
void drivers_free(struct drivers *d);

/* Returns whether a run may be SHARED: the values of one of its calls are few enough to be kept
 * until the reader takes them. */
int drivers_share(const struct run *r);

#endif
