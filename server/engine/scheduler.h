/* scheduler.h - which run may start: a bounded queue, places, and a bound on memory.
 *
 * HTTP threads parse and submit jobs; they never touch a tensor.  The threads of drivers.h take
 * jobs, run them and give them back.  The life of a job:
 *
 *     submit --> QUEUED --take--> RUNNING --over()--> SENDING --finish()--> gone
 *                   |                                                        ^
 *                   +---- the scheduler stops: over(503), finish() ----------+
 *
 *   QUEUED   until its kind has a place, and the memory of all jobs that have started stays within
 *            the bound.  A job that takes more than the bound starts when no other has memory.
 *            Jobs start in the order in which they came, but pass those that wait for a place of the
 *            other kind.
 *   RUNNING  calls of the model are made, values go to the sink.  A job whose reader keeps it
 *            waiting gives its place to others meanwhile; its memory it keeps.
 *   SENDING  the run has ended; the reader has not taken all of its values.  The job has no place
 *            any more, and of its memory only what the values take. */
#ifndef SAMEBIT_SCHEDULER_H
#define SAMEBIT_SCHEDULER_H

#include <stdint.h>

#include "kernels/base/error.h"
#include "server/engine/run.h"

struct scheduler;

/* ALONE: the run has a thread for itself, so its sink may wait for the reader.
 * SHARED: its calls go through the model with those of others (see run_shares); its sink must not
 * wait, and is asked between two calls whether it is ready for more. */
enum job_kind { JOB_ALONE, JOB_SHARED, JOB_KINDS };

struct scheduler_limits {
    int places[JOB_KINDS]; /* jobs of a kind that run at once, those aside whose readers stall */
    int waiting;           /* jobs that may be queued beyond the free places */
    uint64_t memory;       /* bytes of all jobs that have started and not finished; those that are
                              queued may have a quarter as much beside it */
};

struct job {
    enum job_kind kind;
    struct run *run;
    struct run_sink sink;
    uint64_t held;   /* bytes while it is QUEUED */
    uint64_t memory; /* bytes while it runs, `held` among them */
    uint64_t rest;   /* bytes while it is SENDING */
    /* Told once how the run ended; code 0: it is complete, 503: it never started.  It may append
     * what comes after the values; `sink.ready` then says whether all of it has left. */
    void (*over)(void *user, const struct error *error);
    /* Called last, when the job no longer counts: what lets a client know that its job is over
     * belongs here, so that its next request never meets its last one. */
    void (*finish)(void *user);
    /* Returns whether the reader has kept the run waiting for a while.  Called by any thread at any
     * time before finish; it must not block.  May be NULL. */
    int (*stalled)(void *user);
    void *user;
    /* the scheduler's */
    int64_t started;
    int sending;
    struct job *next;
};

struct scheduler *scheduler_create(const struct scheduler_limits *limits, struct error *err);
/* Other limits from now on; jobs that were accepted go on, and start as these allow.  -1: no memory, and
 * they stay as they were. */
int scheduler_change(struct scheduler *s, const struct scheduler_limits *limits, struct error *err);
/* Refuses new jobs from now on; those that were accepted go on.  Returns when all of them have
 * finished or are stalled, or at `until` (clock_ns()): 0, or how many are left. */
int scheduler_drain(struct scheduler *s, int64_t until);
/* Refuses new jobs, starts no queued one; scheduler_take returns -1 from then on. */
void scheduler_stop(struct scheduler *s);
/* Stops, and ends the queued jobs with 503.  Every job that was taken has been finished. */
void scheduler_free(struct scheduler *s);

/* Queues a copy of *job.  Errors: 503 when the queue is full, by jobs or by bytes, or the scheduler
 * stops; then none of the job's functions is called. */
int scheduler_submit(struct scheduler *s, const struct job *job, struct error *err);
/* Seconds after which a client that was refused may ask again: when a place should be free. */
int scheduler_retry_seconds(struct scheduler *s);

/* ---- for those who run the jobs ---- */

/* Takes the next job of a kind that may start; waits for one until the time `until` (clock_ns();
 * 0: does not wait).  *out stays where it is until scheduler_finish.  1: taken; 0: none; -1: the
 * scheduler stops. */
int scheduler_take(struct scheduler *s, enum job_kind kind, int64_t until, struct job *out);
/* The job's run has ended: it is SENDING. */
void scheduler_send(struct scheduler *s, struct job *job);
/* The job no longer counts; calls finish. */
void scheduler_finish(struct scheduler *s, struct job *job);

#endif
