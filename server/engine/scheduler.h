/* scheduler.h - jobs in, worker threads, and a bounded queue between: the server's only lock
 * between requests.  HTTP threads parse and submit; they never touch a tensor. */
#ifndef SAMEBIT_SCHEDULER_H
#define SAMEBIT_SCHEDULER_H

#include "server/base/error.h"

struct scheduler;

/* workers: runs at once.  waiting: jobs that may wait for a worker. */
struct scheduler *scheduler_create(int workers, int waiting, struct error *err);
/* Refuses new jobs, runs no waiting one (their drop is called), waits for the running ones. */
void scheduler_free(struct scheduler *s);

struct job {
    void (*run)(void *user);
    /* Called after run, when the worker already counts as free: what lets a client know that its
     * job is over belongs here, so that the next request of a client never meets its last one. */
    void (*finish)(void *user);
    void (*drop)(void *user); /* called instead of run when the scheduler stops first */
    void *user;
};
/* Errors: 503 when the queue is full or the scheduler stops. */
int scheduler_submit(struct scheduler *s, const struct job *job, struct error *err);

#endif
