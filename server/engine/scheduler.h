/* scheduler.h - jobs in, threads that do them, and a bounded queue between: the server's only lock
 * between requests.  HTTP threads parse and submit; they never touch a tensor.
 *
 * A job runs alone, on a worker of its own, or joins others in the batch (batch.h).  It starts when
 * its kind has a place and the memory that all running jobs take stays within the bound; one that
 * takes more than that starts when nothing else runs.  Jobs start in the order in which they came,
 * but pass those that wait for a place of the other kind. */
#ifndef SAMEBIT_SCHEDULER_H
#define SAMEBIT_SCHEDULER_H

#include <stdint.h>

#include "kernels/base/error.h"
#include "server/engine/run.h"

struct scheduler;

enum job_kind { JOB_ALONE, JOB_JOINS, JOB_KINDS };

struct scheduler_limits {
    int places[JOB_KINDS]; /* jobs of a kind that run at once; ALONE: as many workers are started */
    int waiting;           /* jobs that may wait for a place */
    uint64_t memory;       /* bytes of all running jobs */
};

struct job {
    enum job_kind kind;
    uint64_t memory;
    /* ALONE: does the work, on the worker's thread. */
    void (*run)(void *user);
    /* JOINS: what the batch drives, and where it is to be given; the run's `ready` is asked between
     * its calls.  over is told how it ended (code 0: complete) and may still write; until `ready`
     * says that all of it has left the job keeps its place. */
    struct run *joins;
    struct run_sink sink;
    void (*over)(void *user, const struct error *error);
    /* Called last, when the job's place already counts as free: what lets a client know that its
     * job is over belongs here, so that the next request of a client never meets its last one. */
    void (*finish)(void *user);
    void (*drop)(void *user); /* called instead of all these when the scheduler stops first */
    void *user;
    int64_t started; /* private */
};

struct scheduler *scheduler_create(const struct scheduler_limits *limits, struct error *err);
/* Refuses new jobs, starts no waiting one; scheduler_take returns -1 from then on. */
void scheduler_stop(struct scheduler *s);
/* Stops, waits for the running jobs and drops the others.  Whoever takes JOINS has ended. */
void scheduler_free(struct scheduler *s);

/* Errors: 503 when the queue is full or the scheduler stops. */
int scheduler_submit(struct scheduler *s, const struct job *job, struct error *err);
/* Seconds after which one that was refused may ask again: about when a place will be free. */
int scheduler_retry_seconds(struct scheduler *s);

/* ---- for those who do the work ---- */

/* The next job of a kind that may start.  wait: until there is one.  1: taken; 0: none now; -1: the
 * scheduler stops. */
int scheduler_take(struct scheduler *s, enum job_kind kind, int wait, struct job *out);
/* Its place and memory are free again; calls finish. */
void scheduler_finish(struct scheduler *s, const struct job *job);

#endif
