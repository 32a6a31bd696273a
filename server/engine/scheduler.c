/* scheduler.c - see scheduler.h. */
#include "server/engine/scheduler.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"

/* Readers stall without telling anybody, so whoever waits for a place looks again this often. */
static const int64_t look_again = CLOCK_SECOND / 20;

struct scheduler {
    pthread_mutex_t lock;
    pthread_cond_t change; /* of anything below */
    struct scheduler_limits limits;
    struct job *queue; /* in the order in which they came */
    int size, count;
    struct job *started; /* RUNNING and SENDING */
    int finishing;       /* jobs whose finish is being called */
    int draining, stopping;
    int64_t usual; /* ns from take to finish, the last jobs counting most; 0: none has finished */
};

struct scheduler *scheduler_create(const struct scheduler_limits *limits, struct error *err)
{
    struct scheduler *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;

    if (!s) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->change, &attr);
    pthread_condattr_destroy(&attr);
    if (!scheduler_change(s, limits, err))
        return s;
    scheduler_free(s);
    return NULL;
}

/* Jobs that the queue may hold, those that are about to start among them. */
static int queue_size(const struct scheduler_limits *limits)
{
    int size = limits->waiting;

    for (int kind = 0; kind < JOB_KINDS; kind++)
        size += limits->places[kind];
    return size;
}

int scheduler_change(struct scheduler *s, const struct scheduler_limits *limits, struct error *err)
{
    const int wanted = queue_size(limits);
    struct job *queue;

    pthread_mutex_lock(&s->lock);
    /* It never shrinks: more jobs may be in it. */
    queue = wanted > s->size || !s->queue ? realloc(s->queue, ((size_t)wanted + 1) * sizeof(*queue))
                                          : s->queue;
    if (queue) {
        s->queue = queue;
        s->size = wanted > s->size ? wanted : s->size;
        s->limits = *limits;
        pthread_cond_broadcast(&s->change);
    }
    pthread_mutex_unlock(&s->lock);
    return queue ? 0 : error_set(err, 500, "out of memory");
}

void scheduler_stop(struct scheduler *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = 1;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
}

static void end_queued(struct job *job)
{
    struct error stopping = {0};

    error_set(&stopping, 503, "the daemon is stopping");
    job->over(job->user, &stopping);
    job->finish(job->user);
}

void scheduler_free(struct scheduler *s)
{
    scheduler_stop(s);
    if (!s)
        return;
    for (int i = 0; i < s->count; i++)
        end_queued(&s->queue[i]);
    pthread_cond_destroy(&s->change);
    pthread_mutex_destroy(&s->lock);
    free(s->queue);
    free(s);
}

/* ---- with the lock held ---- */

static int is_stalled(const struct job *job)
{
    return job->stalled && job->stalled(job->user);
}

/* The places that are free, by kind: fewer than none where stalled jobs have gone on.  Jobs that were
 * queued before scheduler_change left their kind no place still start, one at a time. */
static void count_places(const struct scheduler *s, int places[JOB_KINDS])
{
    memcpy(places, s->limits.places, sizeof(s->limits.places));
    for (int i = 0; i < s->count; i++)
        if (places[s->queue[i].kind] == 0)
            places[s->queue[i].kind] = 1;
    for (const struct job *job = s->started; job; job = job->next)
        if (!job->sending && !is_stalled(job))
            places[job->kind]--;
}

/* Returns how many jobs would be queued without a place, were there one more of a kind. */
static int waiting_with(const struct scheduler *s, enum job_kind more)
{
    int places[JOB_KINDS], count[JOB_KINDS] = {0}, all = 0;

    count_places(s, places);
    count[more] = 1;
    for (int i = 0; i < s->count; i++)
        count[s->queue[i].kind]++;
    for (int kind = 0; kind < JOB_KINDS; kind++) {
        const int free = places[kind] > 0 ? places[kind] : 0;

        all += count[kind] > free ? count[kind] - free : 0;
    }
    return all;
}

/* Returns whether the queue may hold so many bytes more. */
static int may_hold(const struct scheduler *s, uint64_t more)
{
    uint64_t held = 0;

    for (int i = 0; i < s->count; i++)
        held += s->queue[i].held;
    return !s->count || (held <= s->limits.memory / 4 && more <= s->limits.memory / 4 - held);
}

static uint64_t memory_of(const struct job *job)
{
    return job->sending ? job->rest : job->memory;
}

/* Returns whether there is memory for the job.  One that is larger than the bound waits until the
 * others run no more. */
static int fits(const struct scheduler *s, const struct job *job)
{
    uint64_t used = 0;
    int running = 0;

    for (const struct job *other = s->started; other; other = other->next) {
        used += memory_of(other);
        running |= !other->sending;
    }
    return !running || (used <= s->limits.memory && job->memory <= s->limits.memory - used);
}

/* The first job of the kind that may start, or -1.  One that waits for memory lets none pass. */
static int find(const struct scheduler *s, enum job_kind kind)
{
    int places[JOB_KINDS];

    if (!s->count)
        return -1;
    count_places(s, places);
    for (int i = 0; i < s->count; i++) {
        const struct job *job = &s->queue[i];

        if (places[job->kind] <= 0)
            continue;
        if (!fits(s, job))
            return -1;
        if (job->kind == kind)
            return i;
    }
    return -1;
}

static void start(struct scheduler *s, int at, struct job *out)
{
    *out = s->queue[at];
    s->count--;
    memmove(&s->queue[at], &s->queue[at + 1], sizeof(*s->queue) * (size_t)(s->count - at));
    out->started = clock_ns();
    out->next = s->started;
    s->started = out;
}

static void wait_until(struct scheduler *s, int64_t until)
{
    const struct timespec t = {.tv_sec = until / CLOCK_SECOND, .tv_nsec = until % CLOCK_SECOND};

    pthread_cond_timedwait(&s->change, &s->lock, &t);
}

/* Waits for a change until the time `until`; less long where jobs are there that may stall. */
static void wait_change(struct scheduler *s, int64_t until)
{
    const int64_t again = clock_ns() + look_again;

    wait_until(s, s->started && again < until ? again : until);
}

/* ---- */

int scheduler_submit(struct scheduler *s, const struct job *job, struct error *err)
{
    const char *why = NULL;

    pthread_mutex_lock(&s->lock);
    if (s->stopping || s->draining)
        why = "the daemon is stopping";
    else if (waiting_with(s, job->kind) > s->limits.waiting || s->count == s->size)
        why = "all workers are busy and the queue is full";
    else if (!may_hold(s, job->held))
        why = "the runs that are queued hold as much memory as they may";
    else
        s->queue[s->count++] = *job;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
    return why ? error_set(err, 503, "%s", why) : 0;
}

int scheduler_retry_seconds(struct scheduler *s)
{
    int running = 0;
    int64_t ns;

    pthread_mutex_lock(&s->lock);
    for (const struct job *job = s->started; job; job = job->next)
        running += !job->sending;
    ns = s->usual * (s->count + 1) / (running ? running : 1);
    pthread_mutex_unlock(&s->lock);
    ns = (ns + CLOCK_SECOND - 1) / CLOCK_SECOND;
    return ns < 1 ? 1 : ns > 3600 ? 3600 : (int)ns;
}

int scheduler_take(struct scheduler *s, enum job_kind kind, int64_t until, struct job *out)
{
    int at, rc;

    pthread_mutex_lock(&s->lock);
    while (at = find(s, kind), at < 0 && !s->stopping && until && clock_ns() < until)
        wait_change(s, until);
    rc = s->stopping ? -1 : at >= 0;
    if (rc > 0)
        start(s, at, out);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

void scheduler_send(struct scheduler *s, struct job *job)
{
    pthread_mutex_lock(&s->lock);
    job->sending = 1;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
}

void scheduler_finish(struct scheduler *s, struct job *job)
{
    const int64_t took = clock_ns() - job->started;
    struct job **at = &s->started;

    pthread_mutex_lock(&s->lock);
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    s->usual = s->usual ? s->usual + (took - s->usual) / 8 : took;
    s->finishing++;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
    job->finish(job->user);
    pthread_mutex_lock(&s->lock);
    s->finishing--;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
}

static int left(const struct scheduler *s)
{
    int jobs = s->count + s->finishing;

    for (const struct job *job = s->started; job; job = job->next)
        jobs += !is_stalled(job);
    return jobs;
}

int scheduler_drain(struct scheduler *s, int64_t until)
{
    int jobs;

    pthread_mutex_lock(&s->lock);
    s->draining = 1;
    while (jobs = left(s), jobs && !s->stopping && clock_ns() < until)
        wait_change(s, until);
    pthread_mutex_unlock(&s->lock);
    return jobs;
}
