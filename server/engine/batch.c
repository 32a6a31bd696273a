/* batch.c - see batch.h. */
#include "server/engine/batch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/base/clock.h"
#include "server/engine/execution.h"

enum {
    SHORT_TOKENS = 32,     /* of a call that goes through the model with others, whole */
    TOGETHER_TOKENS = 128, /* of all calls of a pass */
    CALL_BYTES = 1 << 20,  /* that a run may give between two looks at its reader */
    LONG_NS = 50000000,    /* of a long call between two looks at the queue, at most */
    NAP_NS = 500000,       /* to wait for readers, when all wait for theirs */
};

/* The place of a job. */
struct seat {
    struct job job;
    struct execution *run; /* NULL once it is over */
    struct seat *next;     /* of all, in the order of their turns */
};

struct batch {
    struct scheduler *scheduler;
    pthread_t thread;
    struct seat *seats;     /* whose turn is next comes first */
    struct call_set shorts; /* calls that run together */
    /* a long call under way */
    struct seat *slow;
    struct call_set long_call;
    int slow_step;
    int64_t pass; /* ns that the last pass of short calls took */
};

int batch_takes(const struct run *r)
{
    return program_joins(r->program) && run_call_bytes(r) <= CALL_BYTES;
}

/* ---- seats ---- */

static void seat_over(struct seat *seat, const struct error *error)
{
    execution_close(seat->run);
    seat->run = NULL;
    seat->job.over(seat->job.user, error);
}

static void seat_append(struct batch *b, struct seat *seat)
{
    struct seat **at = &b->seats;

    while (*at)
        at = &(*at)->next;
    *at = seat;
    seat->next = NULL;
}

static int seat_ready(const struct seat *seat)
{
    const struct run_sink *sink = &seat->job.sink;

    return !sink->ready || sink->ready(sink->user);
}

/* Those that are over leave when their readers have everything. */
static void leave(struct batch *b)
{
    struct seat **at = &b->seats;

    while (*at) {
        struct seat *seat = *at;

        if (seat->run || !seat_ready(seat)) {
            at = &seat->next;
            continue;
        }
        *at = seat->next;
        scheduler_finish(b->scheduler, &seat->job);
        free(seat);
    }
}

static void sit(struct batch *b, const struct job *job)
{
    struct seat *seat = calloc(1, sizeof(*seat));
    struct error err = {0};

    if (!seat) {
        error_set(&err, 503, "out of memory");
        job->over(job->user, &err);
        scheduler_finish(b->scheduler, job);
        return;
    }
    seat->job = *job;
    seat_append(b, seat);
    if (!job->sink.poll || job->sink.poll(job->sink.user, &err) == 0)
        seat->run = execution_open(job->joins, &job->sink, &err);
    if (!seat->run || execution_start(seat->run, &err))
        seat_over(seat, &err);
}

/* Whoever waits in the queue and has a place; waits for one when nobody is here.  -1: the scheduler
 * stops, and nobody is here. */
static int welcome(struct batch *b)
{
    struct job job;
    int rc;

    do {
        rc = scheduler_take(b->scheduler, JOB_JOINS, !b->seats, &job);
        if (rc > 0)
            sit(b, &job);
    } while (rc > 0);
    return rc < 0 && !b->seats ? -1 : 0;
}

/* ---- calls ---- */

static struct model_call *seat_begin(struct seat *seat)
{
    struct error err = {0};
    struct model_call *call = execution_begin(seat->run, &err);

    if (!call)
        seat_over(seat, &err);
    return call;
}

static void seat_end(struct seat *seat)
{
    struct error err = {0};

    if (execution_end(seat->run, &err))
        seat_over(seat, &err);
}

/* Takes the short calls whose turn it is, all of one program.  They move to the end of the line. */
static int gather(struct batch *b, struct seat *of[GROUP_PARTS])
{
    const struct program *program = NULL;
    int64_t tokens = 0;
    int count = 0;

    for (struct seat *seat = b->seats; seat && count < GROUP_PARTS; seat = seat->next) {
        int64_t more;

        if (!seat->run || seat == b->slow)
            continue;
        more = execution_tokens(seat->run);
        if (more > SHORT_TOKENS || tokens + more > TOGETHER_TOKENS ||
            (program && program != execution_program(seat->run)) || !seat_ready(seat))
            continue;
        b->shorts.at[count] = seat_begin(seat);
        if (!b->shorts.at[count])
            continue;
        program = execution_program(seat->run);
        tokens += more;
        of[count++] = seat;
    }
    b->shorts.count = count;
    return count;
}

static void to_the_end(struct batch *b, struct seat *seat)
{
    struct seat **at = &b->seats;

    while (*at != seat)
        at = &(*at)->next;
    *at = seat->next;
    seat_append(b, seat);
}

/* Returns whether there was anything to do. */
static int pass_short(struct batch *b)
{
    struct seat *of[GROUP_PARTS];
    const int count = gather(b, of);
    const int64_t start = clock_ns();
    const struct program *p;

    if (!count)
        return 0;
    p = execution_program(of[0]->run);
    program_run(p, 0, p->count, &b->shorts);
    for (int k = 0; k < count; k++) {
        seat_end(of[k]);
        to_the_end(b, of[k]);
    }
    b->pass = clock_ns() - start;
    return 1;
}

static void choose_slow(struct batch *b)
{
    for (struct seat *seat = b->seats; seat && !b->slow; seat = seat->next)
        if (seat->run && execution_tokens(seat->run) > SHORT_TOKENS && seat_ready(seat)) {
            b->long_call.at[0] = seat_begin(seat);
            b->long_call.count = 1;
            b->slow_step = 0;
            b->slow = b->long_call.at[0] ? seat : NULL;
        }
}

/* Some steps of a long call: for about as long as the others had. */
static int pass_long(struct batch *b, int others)
{
    const int64_t until = clock_ns() + (others && b->pass < LONG_NS ? b->pass : LONG_NS);
    const struct program *p;
    struct model_call *call;

    if (!b->slow)
        choose_slow(b);
    if (!b->slow)
        return 0;
    p = execution_program(b->slow->run);
    call = b->long_call.at[0];
    do {
        const int steps = p->steps[b->slow_step].grouped; /* which may run as one */
        const int next = b->slow_step + (steps > 1 ? steps : 1);

        program_run(p, b->slow_step, next, &b->long_call);
        b->slow_step = next;
    } while (b->slow_step < p->count && !call->error.code && clock_ns() < until);
    if (b->slow_step == p->count || call->error.code) {
        struct seat *seat = b->slow;

        b->slow = NULL;
        seat_end(seat);
    }
    return 1;
}

static void *batch_loop(void *user)
{
    static const struct timespec nap = {.tv_nsec = NAP_NS};
    struct batch *b = user;

    while (welcome(b) == 0) {
        const int some = pass_short(b);

        if (!pass_long(b, some) && !some)
            nanosleep(&nap, NULL);
        leave(b);
    }
    return NULL;
}

struct batch *batch_create(struct scheduler *s, struct error *err)
{
    struct batch *b = calloc(1, sizeof(*b));

    if (!b) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    b->scheduler = s;
    if (pthread_create(&b->thread, NULL, batch_loop, b) == 0)
        return b;
    error_set(err, 500, "no thread for the batch");
    free(b);
    return NULL;
}

void batch_free(struct batch *b)
{
    if (!b)
        return;
    pthread_join(b->thread, NULL);
    free(b);
}
