/* drivers.c - see drivers.h. */
#include "server/engine/drivers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/base/clock.h"
#include "server/engine/execution.h"

enum {
    SHORT_TOKENS = 32, /* a call of so many tokens is short */
    PASS_TOKENS = 128, /* of all the calls that go through the model together */
    IDLE_DRIVERS = 4   /* that are kept for the next ALONE jobs */
};

static const int64_t long_slice =
    CLOCK_SECOND / 20; /* of a long call, at most, before the others */
static const int64_t nap_least = CLOCK_SECOND / 2000; /* when every job waits for its reader */
static const int64_t nap_most = CLOCK_SECOND / 50;

/* A job that was taken. */
struct seat {
    struct job job;
    struct execution *run; /* NULL once it has ended: the job is SENDING */
    struct seat *next;
};

struct driver {
    struct drivers *drivers;
    enum job_kind kind;
    pthread_t thread;
    int ended; /* under the lock of drivers: it can be joined */
    struct driver *next;

    struct seat *seats;        /* whose turn is next comes first */
    struct call_set short_set; /* of a pass */
    int64_t pass;              /* ns that the last pass took */
    int64_t nap;               /* ns to wait for new jobs when no seat can go on */
    struct seat *slow;         /* whose long call is under way, or NULL */
    struct call_set slow_set;
    int slow_step; /* the next step of it */
};

struct drivers {
    struct scheduler *scheduler;
    pthread_mutex_t lock; /* of the list and the count */
    struct driver *first;
    int idle; /* ALONE: drivers without a job */
};

int drivers_share(const struct run *r)
{
    return program_joins(r->program) && run_call_bytes(r) <= DRIVERS_CALL_BYTES;
}

/* ---- seats ---- */

static void seat_over(struct driver *d, struct seat *seat, const struct error *error)
{
    execution_close(seat->run);
    seat->run = NULL;
    seat->job.over(seat->job.user, error);
    scheduler_send(d->drivers->scheduler, &seat->job);
}

static void seat_append(struct driver *d, struct seat *seat)
{
    struct seat **at = &d->seats;

    while (*at)
        at = &(*at)->next;
    *at = seat;
    seat->next = NULL;
}

static void seat_to_the_end(struct driver *d, struct seat *seat)
{
    struct seat **at = &d->seats;

    while (*at != seat)
        at = &(*at)->next;
    *at = seat->next;
    seat_append(d, seat);
}

static int seat_ready(const struct seat *seat)
{
    const struct run_sink *sink = &seat->job.sink;

    return !sink->ready || sink->ready(sink->user);
}

/* Finishes the jobs that are SENDING and whose readers have everything. */
static void finish_seats(struct driver *d)
{
    struct seat **at = &d->seats;

    while (*at) {
        struct seat *seat = *at;

        if (seat->run || !seat_ready(seat)) {
            at = &seat->next;
            continue;
        }
        *at = seat->next;
        scheduler_finish(d->drivers->scheduler, &seat->job);
        free(seat);
    }
}

static void seat_open(struct driver *d, struct seat *seat)
{
    const struct job *job = &seat->job;
    struct error err = {0};

    seat_append(d, seat);
    if (!job->sink.poll || job->sink.poll(job->sink.user, &err) == 0)
        seat->run = execution_open(job->run, &job->sink, &err);
    if (!seat->run || execution_start(seat->run, &err))
        seat_over(d, seat, &err);
}

/* Takes one job, waiting for it until the time `until`; as scheduler_take. */
static int take_job(struct driver *d, int64_t until)
{
    static const struct timespec nap = {.tv_nsec = CLOCK_SECOND / 50};
    struct seat *seat = calloc(1, sizeof(*seat)), none;
    struct scheduler *s = d->drivers->scheduler;
    /* Without a seat it does not wait: when a job comes there may be memory again. */
    const int rc = scheduler_take(s, d->kind, seat ? until : 0, seat ? &seat->job : &none.job);
    struct error err = {0};

    if (rc > 0 && seat) {
        seat_open(d, seat);
        return rc;
    }
    free(seat);
    if (rc > 0) {
        error_set(&err, 503, "out of memory");
        none.job.over(none.job.user, &err);
        scheduler_finish(s, &none.job);
    } else if (!rc && !seat && until) {
        nanosleep(&nap, NULL);
    }
    return rc;
}

/* Takes the jobs that may start, ALONE one at a time.  A driver without seats waits for a job, one
 * whose seats all wait for their readers naps.  -1: the scheduler stops, and the driver has no
 * seats. */
static int take_jobs(struct driver *d)
{
    const struct timespec nap = {.tv_nsec = d->nap};
    int64_t until = !d->seats ? INT64_MAX : d->nap ? clock_ns() + d->nap : 0;
    int rc = 1;

    if (d->kind == JOB_ALONE && d->seats) {
        if (d->nap)
            nanosleep(&nap, NULL);
        return 0;
    }
    while (rc > 0 && (d->kind == JOB_SHARED || !d->seats)) {
        rc = take_job(d, until);
        until = d->seats ? 0 : until;
    }
    return rc < 0 && !d->seats ? -1 : 0;
}

/* ---- calls ---- */

static struct model_call *call_begin(struct driver *d, struct seat *seat)
{
    struct error err = {0};
    struct model_call *call = execution_begin(seat->run, &err);

    if (!call)
        seat_over(d, seat, &err);
    return call;
}

static void call_end(struct driver *d, struct seat *seat)
{
    struct error err = {0};

    if (execution_end(seat->run, &err))
        seat_over(d, seat, &err);
}

/* Begins the short calls whose turn it is, all of one program.  Returns how many. */
static int gather(struct driver *d, struct seat *of[GROUP_PARTS])
{
    const struct program *program = NULL;
    int64_t tokens = 0;
    int count = 0;

    for (struct seat *seat = d->seats; seat && count < GROUP_PARTS; seat = seat->next) {
        int64_t more;

        if (!seat->run || seat == d->slow)
            continue;
        more = execution_tokens(seat->run);
        if (more > SHORT_TOKENS || tokens + more > PASS_TOKENS ||
            (program && program != execution_program(seat->run)) || !seat_ready(seat))
            continue;
        d->short_set.at[count] = call_begin(d, seat);
        if (!d->short_set.at[count])
            continue;
        program = execution_program(seat->run);
        tokens += more;
        of[count++] = seat;
    }
    d->short_set.count = count;
    return count;
}

/* Short calls go through the model.  Returns whether there were any. */
static int pass_short(struct driver *d)
{
    struct seat *of[GROUP_PARTS];
    const int count = gather(d, of);
    const int64_t start = clock_ns();
    const struct program *p;

    if (!count)
        return 0;
    p = execution_program(of[0]->run);
    program_run(p, 0, p->count, &d->short_set);
    for (int k = 0; k < count; k++) {
        call_end(d, of[k]);
        seat_to_the_end(d, of[k]);
    }
    d->pass = clock_ns() - start;
    return 1;
}

static void choose_slow(struct driver *d)
{
    for (struct seat *seat = d->seats; seat && !d->slow; seat = seat->next)
        if (seat->run && execution_tokens(seat->run) > SHORT_TOKENS && seat_ready(seat)) {
            d->slow_set.at[0] = call_begin(d, seat);
            d->slow_set.count = 1;
            d->slow_step = 0;
            d->slow = d->slow_set.at[0] ? seat : NULL;
        }
}

/* Some steps of a long call: for about as long as the pass took, where there was one.  Returns
 * whether there is a long call. */
static int pass_long(struct driver *d, int passed)
{
    const int64_t until = clock_ns() + (passed && d->pass < long_slice ? d->pass : long_slice);
    const struct program *p;
    const struct model_call *call;

    if (!d->slow)
        choose_slow(d);
    if (!d->slow)
        return 0;
    p = execution_program(d->slow->run);
    call = d->slow_set.at[0];
    do {
        const int grouped = p->steps[d->slow_step].grouped; /* steps that may run as one */
        const int next = d->slow_step + (grouped > 1 ? grouped : 1);

        program_run(p, d->slow_step, next, &d->slow_set);
        d->slow_step = next;
    } while (d->slow_step < p->count && !call->error.code && clock_ns() < until);
    if (d->slow_step == p->count || call->error.code) {
        struct seat *seat = d->slow;

        d->slow = NULL;
        call_end(d, seat);
    }
    return 1;
}

/* One round: a pass, some of a long call, and jobs that finish.  Where nothing can go on the next
 * look comes after a nap, which grows up to nap_most. */
static void go_round(struct driver *d)
{
    const int passed = pass_short(d), some = pass_long(d, passed) || passed;

    finish_seats(d);
    d->nap = some ? 0 : d->nap ? 2 * d->nap : nap_least;
    if (d->nap > nap_most)
        d->nap = nap_most;
}

/* ---- threads ---- */

static void *drive(void *user);

/* The functions below are called with the lock held. */
static int driver_start(struct drivers *all, enum job_kind kind)
{
    struct driver *d = calloc(1, sizeof(*d));

    if (!d)
        return -1;
    d->drivers = all;
    d->kind = kind;
    if (pthread_create(&d->thread, NULL, drive, d)) {
        free(d);
        return -1;
    }
    d->next = all->first;
    all->first = d;
    all->idle += kind == JOB_ALONE;
    return 0;
}

static void join_ended(struct drivers *all)
{
    struct driver **at = &all->first;

    while (*at) {
        struct driver *d = *at;

        if (!d->ended) {
            at = &d->next;
            continue;
        }
        *at = d->next;
        pthread_join(d->thread, NULL);
        free(d);
    }
}

/* The driver has a job.  Another one is there for the next job, unless there are no more threads:
 * then that job waits for a driver. */
static void leave_idle(struct drivers *all)
{
    pthread_mutex_lock(&all->lock);
    join_ended(all);
    if (--all->idle == 0)
        driver_start(all, JOB_ALONE);
    pthread_mutex_unlock(&all->lock);
}

/* The driver has no job any more.  Returns whether it ends, since enough others are idle. */
static int become_idle(struct driver *d)
{
    struct drivers *all = d->drivers;

    pthread_mutex_lock(&all->lock);
    d->ended = all->idle >= IDLE_DRIVERS;
    all->idle += !d->ended;
    pthread_mutex_unlock(&all->lock);
    return d->ended;
}

static void *drive(void *user)
{
    struct driver *d = user;

    int busy = 0;

    while (take_jobs(d) == 0) {
        if (d->kind == JOB_ALONE && !busy && d->seats)
            leave_idle(d->drivers);
        busy = d->seats != NULL;
        if (busy)
            go_round(d);
        if (d->kind == JOB_ALONE && busy && !d->seats) {
            busy = 0;
            if (become_idle(d))
                break;
        }
    }
    return NULL;
}

struct drivers *drivers_start(struct scheduler *s, struct error *err)
{
    struct drivers *all = calloc(1, sizeof(*all));
    int failed = 0;

    if (!all) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    all->scheduler = s;
    pthread_mutex_init(&all->lock, NULL);
    pthread_mutex_lock(&all->lock);
    for (int kind = 0; kind < JOB_KINDS; kind++)
        failed |= driver_start(all, (enum job_kind)kind);
    pthread_mutex_unlock(&all->lock);
    if (!failed)
        return all;
    error_set(err, 500, "no memory or no threads for runs");
    scheduler_stop(s);
    drivers_free(all);
    return NULL;
}

void drivers_free(struct drivers *all)
{
    struct driver *d;

    if (!all)
        return;
    do { /* one that is waited for may start another */
        pthread_mutex_lock(&all->lock);
        d = all->first;
        all->first = d ? d->next : NULL;
        pthread_mutex_unlock(&all->lock);
        if (d)
            pthread_join(d->thread, NULL);
        free(d);
    } while (d);
    pthread_mutex_destroy(&all->lock);
    free(all);
}
