/* scheduler.c - see scheduler.h. */
#include "server/engine/scheduler.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"

struct scheduler {
    pthread_mutex_t lock;
    pthread_cond_t wake[JOB_KINDS];
    struct scheduler_limits limits;
    struct job *queue; /* in the order in which they came */
    int size, count;
    int free[JOB_KINDS]; /* places */
    int running, stopping;
    uint64_t memory;
    int64_t usual; /* ns that a job takes, the last ones counting most; 0: none has ended */
    pthread_t *threads;
    int thread_count;
};

static void *work(void *user)
{
    struct scheduler *s = user;
    struct job job;

    while (scheduler_take(s, JOB_ALONE, 1, &job) > 0) {
        job.run(job.user);
        scheduler_finish(s, &job);
    }
    return NULL;
}

static int start_workers(struct scheduler *s, struct error *err)
{
    while (s->thread_count < s->limits.places[JOB_ALONE]) {
        if (pthread_create(&s->threads[s->thread_count], NULL, work, s) != 0)
            return error_set(err, 500, "no thread for worker %d", s->thread_count);
        s->thread_count++;
    }
    return 0;
}

struct scheduler *scheduler_create(const struct scheduler_limits *limits, struct error *err)
{
    struct scheduler *s = calloc(1, sizeof(*s));

    if (!s) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    s->limits = *limits;
    s->size = limits->waiting;
    for (int kind = 0; kind < JOB_KINDS; kind++) {
        pthread_cond_init(&s->wake[kind], NULL);
        s->free[kind] = limits->places[kind];
        s->size += limits->places[kind];
    }
    s->queue = calloc((size_t)s->size, sizeof(*s->queue));
    s->threads = calloc((size_t)limits->places[JOB_ALONE] + 1, sizeof(*s->threads));
    if (!s->queue || !s->threads)
        error_set(err, 500, "out of memory");
    else if (start_workers(s, err) == 0)
        return s;
    scheduler_free(s);
    return NULL;
}

void scheduler_stop(struct scheduler *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = 1;
    for (int kind = 0; kind < JOB_KINDS; kind++)
        pthread_cond_broadcast(&s->wake[kind]);
    pthread_mutex_unlock(&s->lock);
}

void scheduler_free(struct scheduler *s)
{
    scheduler_stop(s);
    if (!s)
        return;
    for (int i = 0; i < s->thread_count; i++)
        pthread_join(s->threads[i], NULL);
    for (int i = 0; i < s->count; i++)
        s->queue[i].drop(s->queue[i].user);
    for (int kind = 0; kind < JOB_KINDS; kind++)
        pthread_cond_destroy(&s->wake[kind]);
    pthread_mutex_destroy(&s->lock);
    free(s->queue);
    free(s->threads);
    free(s);
}

/* ---- with the lock held ---- */

/* Jobs for which there is no place now, with one more of a kind. */
static int waiting_with(const struct scheduler *s, enum job_kind more)
{
    int count[JOB_KINDS] = {0}, all = 0;

    count[more] = 1;
    for (int i = 0; i < s->count; i++)
        count[s->queue[i].kind]++;
    for (int kind = 0; kind < JOB_KINDS; kind++)
        all += count[kind] > s->free[kind] ? count[kind] - s->free[kind] : 0;
    return all;
}

static int fits(const struct scheduler *s, const struct job *job)
{
    return !s->running ||
           (s->memory <= s->limits.memory && job->memory <= s->limits.memory - s->memory);
}

/* The first job of the kind that may start, or -1.  One that waits for memory lets none pass. */
static int find(const struct scheduler *s, enum job_kind kind)
{
    for (int i = 0; i < s->count; i++) {
        const struct job *job = &s->queue[i];

        if (!s->free[job->kind])
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
    s->free[out->kind]--;
    s->running++;
    s->memory += out->memory;
    out->started = clock_ns();
}

/* Whoever can start something now. */
static void rouse(struct scheduler *s)
{
    for (int kind = 0; kind < JOB_KINDS; kind++)
        if (find(s, kind) >= 0)
            pthread_cond_signal(&s->wake[kind]);
}

/* ---- */

int scheduler_submit(struct scheduler *s, const struct job *job, struct error *err)
{
    const char *why = NULL;

    pthread_mutex_lock(&s->lock);
    if (s->stopping)
        why = "the server is stopping";
    else if (waiting_with(s, job->kind) > s->limits.waiting || s->count == s->size)
        why = "all workers are busy and the queue is full";
    else
        s->queue[s->count++] = *job;
    rouse(s);
    pthread_mutex_unlock(&s->lock);
    return why ? error_set(err, 503, "%s", why) : 0;
}

int scheduler_retry_seconds(struct scheduler *s)
{
    int64_t ns;

    pthread_mutex_lock(&s->lock);
    ns = s->usual * (s->count + 1) / (s->running ? s->running : 1);
    pthread_mutex_unlock(&s->lock);
    ns = (ns + CLOCK_SECOND - 1) / CLOCK_SECOND;
    return ns < 1 ? 1 : ns > 3600 ? 3600 : (int)ns;
}

int scheduler_take(struct scheduler *s, enum job_kind kind, int wait, struct job *out)
{
    int at;

    pthread_mutex_lock(&s->lock);
    while (at = find(s, kind), wait && at < 0 && !s->stopping)
        pthread_cond_wait(&s->wake[kind], &s->lock);
    if (s->stopping)
        at = -1;
    else if (at >= 0)
        start(s, at, out);
    at = s->stopping ? -1 : at >= 0;
    rouse(s);
    pthread_mutex_unlock(&s->lock);
    return at;
}

void scheduler_finish(struct scheduler *s, const struct job *job)
{
    const int64_t took = clock_ns() - job->started;

    pthread_mutex_lock(&s->lock);
    s->free[job->kind]++;
    s->running--;
    s->memory -= job->memory;
    s->usual = s->usual ? s->usual + (took - s->usual) / 8 : took;
    rouse(s);
    pthread_mutex_unlock(&s->lock);
    job->finish(job->user);
}
