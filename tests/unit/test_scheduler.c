/* test_scheduler.c - jobs start in their order and within their bounds, a full queue refuses, and
 * stopping ends what is queued. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "server/engine/scheduler.h"

static atomic_int refused, finished, stalls;

static void on_over(void *user, const struct error *error)
{
    (void)user;
    refused += error->code == 503;
}

static void on_finish(void *user)
{
    (void)user;
    finished++;
}

static int on_stalled(void *user)
{
    (void)user;
    return stalls;
}

static int reset(void **state)
{
    (void)state;
    refused = finished = stalls = 0;
    return 0;
}

static struct scheduler *create(int alone, int shared, int waiting)
{
    const struct scheduler_limits limits = {
        .places = {[JOB_ALONE] = alone, [JOB_SHARED] = shared}, .waiting = waiting, .memory = 100};
    struct scheduler *s = scheduler_create(&limits, NULL);

    assert_non_null(s);
    return s;
}

static int submit(struct scheduler *s, enum job_kind kind, uint64_t memory)
{
    const struct job job = {.kind = kind,
                            .memory = memory,
                            .rest = memory / 10,
                            .over = on_over,
                            .finish = on_finish,
                            .stalled = on_stalled};

    return scheduler_submit(s, &job, NULL);
}

static int take(struct scheduler *s, enum job_kind kind, struct job *out)
{
    return scheduler_take(s, kind, 0, out);
}

/* ---- threads that take jobs ---- */

static atomic_int gate, taken;

static void *work(void *user)
{
    struct job job;

    while (scheduler_take(user, JOB_ALONE, INT64_MAX, &job) > 0) {
        taken++;
        while (!gate)
            usleep(200);
        scheduler_finish(user, &job);
    }
    return NULL;
}

static void every_job_is_taken_once(void **state)
{
    struct scheduler *s = create(3, 0, 100);
    pthread_t threads[3];

    (void)state;
    gate = 1;
    taken = 0;
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, work, s);
    for (int i = 0; i < 100; i++)
        assert_int_equal(submit(s, JOB_ALONE, 1), 0);
    assert_int_equal(scheduler_drain(s, clock_ns() + 20 * (int64_t)CLOCK_SECOND), 0);
    scheduler_stop(s);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    scheduler_free(s);
    assert_int_equal(taken, 100);
    assert_int_equal(finished, 100);
    assert_int_equal(refused, 0);
}

static void limits_may_change(void **state)
{
    struct scheduler *s = create(1, 1, 10);
    struct scheduler_limits limits = {.places = {[JOB_ALONE] = 1}, .waiting = 1, .memory = 100};
    struct job one, two;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(s, JOB_SHARED, 1), 0);
    assert_int_equal(take(s, JOB_SHARED, &one), 1);
    assert_int_equal(scheduler_change(s, &limits, NULL), 0);
    assert_int_equal(take(s, JOB_SHARED, &two), 0); /* the first one runs */
    scheduler_finish(s, &one);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(take(s, JOB_SHARED, &two), 1);
        scheduler_finish(s, &two);
    }
    limits.places[JOB_ALONE] = 2;
    assert_int_equal(scheduler_change(s, &limits, NULL), 0);
    assert_int_equal(submit(s, JOB_ALONE, 1), 0);
    assert_int_equal(submit(s, JOB_ALONE, 1), 0);
    assert_int_equal(take(s, JOB_ALONE, &one), 1);
    assert_int_equal(take(s, JOB_ALONE, &two), 1);
    scheduler_finish(s, &one);
    scheduler_finish(s, &two);
    scheduler_free(s);
    assert_int_equal(finished, 5);
}

static void stopping_ends_what_is_queued(void **state)
{
    struct scheduler *s = create(1, 0, 5);
    struct job first;

    (void)state;
    for (int i = 0; i < 6; i++)
        assert_int_equal(submit(s, JOB_ALONE, 1), 0);
    assert_int_equal(take(s, JOB_ALONE, &first), 1);
    scheduler_stop(s);
    assert_int_equal(submit(s, JOB_ALONE, 1), -1);
    scheduler_finish(s, &first);
    assert_int_equal(take(s, JOB_ALONE, &first), -1);
    scheduler_free(s);
    assert_int_equal(refused, 5);
    assert_int_equal(finished, 6);
}

static void draining_waits_for_those_who_were_accepted(void **state)
{
    struct scheduler *s = create(1, 1, 5);
    const int64_t soon = CLOCK_SECOND / 50;
    struct job first;

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(submit(s, JOB_SHARED, 1), 0);
    assert_int_equal(scheduler_drain(s, clock_ns() + soon), 2);
    assert_int_equal(submit(s, JOB_SHARED, 1), -1);
    assert_int_equal(take(s, JOB_SHARED, &first), 1); /* what was accepted still starts */
    scheduler_finish(s, &first);
    assert_int_equal(scheduler_drain(s, clock_ns() + soon), 1);
    assert_int_equal(take(s, JOB_SHARED, &first), 1);
    assert_int_equal(scheduler_drain(s, clock_ns() + soon), 1);
    stalls = 1; /* nobody waits for a reader who does not read */
    assert_int_equal(scheduler_drain(s, clock_ns() + 60 * (int64_t)CLOCK_SECOND), 0);
    scheduler_finish(s, &first);
    scheduler_free(s);
    assert_int_equal(refused, 0);
}

/* ---- admission ---- */

static void memory_has_a_bound_and_an_order(void **state)
{
    struct scheduler *s = create(0, 8, 8);
    static const uint64_t sizes[] = {60, 30, 20, 5, 500, 1};
    struct job job[6];

    (void)state;
    for (int i = 0; i < 6; i++)
        assert_int_equal(submit(s, JOB_SHARED, sizes[i]), 0);
    assert_int_equal(take(s, JOB_SHARED, &job[0]), 1);
    assert_int_equal(take(s, JOB_SHARED, &job[1]), 1);
    assert_int_equal(job[0].memory + job[1].memory, 90);
    /* 20 does not fit; 5 would, but came later */
    assert_int_equal(take(s, JOB_SHARED, &job[2]), 0);
    scheduler_finish(s, &job[1]);
    assert_int_equal(take(s, JOB_SHARED, &job[2]), 1);
    assert_int_equal(job[2].memory, 20);
    assert_int_equal(take(s, JOB_SHARED, &job[3]), 1);
    assert_int_equal(job[3].memory, 5);
    /* more than the bound: when nothing else runs, and then nothing else does */
    assert_int_equal(take(s, JOB_SHARED, &job[4]), 0);
    scheduler_finish(s, &job[0]);
    scheduler_finish(s, &job[2]);
    assert_int_equal(take(s, JOB_SHARED, &job[4]), 0);
    scheduler_finish(s, &job[3]);
    assert_int_equal(take(s, JOB_SHARED, &job[4]), 1);
    assert_int_equal(job[4].memory, 500);
    assert_int_equal(take(s, JOB_SHARED, &job[5]), 0);
    scheduler_finish(s, &job[4]);
    assert_int_equal(take(s, JOB_SHARED, &job[5]), 1);
    scheduler_finish(s, &job[5]);
    assert_int_equal(finished, 6);
    scheduler_free(s);
}

static void a_kind_that_is_full_lets_the_other_pass(void **state)
{
    struct scheduler *s = create(1, 1, 1);
    struct job alone, shared;

    (void)state;
    assert_int_equal(submit(s, JOB_ALONE, 1), 0);
    assert_int_equal(take(s, JOB_ALONE, &alone), 1);
    assert_int_equal(submit(s, JOB_ALONE, 1), 0); /* waits for the place */
    assert_int_equal(submit(s, JOB_ALONE, 1), -1);
    assert_int_equal(submit(s, JOB_SHARED, 10), 0);
    assert_int_equal(take(s, JOB_SHARED, &shared), 1);
    assert_int_equal(submit(s, JOB_SHARED, 10), -1); /* one waits already */
    scheduler_finish(s, &shared);
    scheduler_finish(s, &alone);
    scheduler_free(s);
}

/* Their memory counts all the same; and when they go on, there are more at work than places. */
static void stalled_jobs_hold_no_place(void **state)
{
    struct scheduler *s = create(0, 1, 9);
    struct job job[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(submit(s, JOB_SHARED, 40), 0);
    assert_int_equal(take(s, JOB_SHARED, &job[0]), 1);
    assert_int_equal(take(s, JOB_SHARED, &job[1]), 0);
    stalls = 1;
    assert_int_equal(take(s, JOB_SHARED, &job[1]), 1);
    assert_int_equal(take(s, JOB_SHARED, &job[2]), 0); /* 120 of 100 bytes */
    stalls = 0;
    scheduler_finish(s, &job[0]);
    assert_int_equal(take(s, JOB_SHARED, &job[2]), 0);
    scheduler_finish(s, &job[1]);
    assert_int_equal(take(s, JOB_SHARED, &job[2]), 1);
    scheduler_finish(s, &job[2]);
    scheduler_free(s);
    assert_int_equal(refused, 1);
}

static void a_job_that_is_sending_holds_no_place_and_little_memory(void **state)
{
    struct scheduler *s = create(0, 1, 9);
    struct job job[2];

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(s, JOB_SHARED, 90), 0);
    assert_int_equal(take(s, JOB_SHARED, &job[0]), 1);
    assert_int_equal(take(s, JOB_SHARED, &job[1]), 0);
    scheduler_send(s, &job[0]);
    assert_int_equal(take(s, JOB_SHARED, &job[1]), 1); /* 9 and 90 bytes */
    scheduler_send(s, &job[1]);
    assert_int_equal(finished, 0);
    scheduler_finish(s, &job[1]);
    scheduler_finish(s, &job[0]);
    scheduler_free(s);
    assert_int_equal(refused, 1);
}

/* Who waits for a place is not told that a reader stalls: it must look. */
static void a_place_is_found_when_a_reader_begins_to_stall(void **state)
{
    struct scheduler *s = create(1, 0, 9);
    struct job job;
    pthread_t thread;

    (void)state;
    gate = taken = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(submit(s, JOB_ALONE, 1), 0);
    assert_int_equal(take(s, JOB_ALONE, &job), 1);
    pthread_create(&thread, NULL, work, s);
    usleep(20000);
    assert_int_equal(taken, 0);
    stalls = 1;
    for (int i = 0; i < 10000 && !taken; i++)
        usleep(500);
    assert_int_equal(taken, 1);
    gate = 1;
    scheduler_finish(s, &job);
    scheduler_stop(s);
    pthread_join(thread, NULL);
    scheduler_free(s);
}

static void the_queue_is_full_whether_or_not_places_are_taken_yet(void **state)
{
    struct scheduler *s = create(0, 2, 1);
    struct job first;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(s, JOB_SHARED, 1), 0);
    assert_int_equal(submit(s, JOB_SHARED, 1),
                     -1); /* two places are free, two of the three have them */
    assert_int_equal(take(s, JOB_SHARED, &first), 1);
    assert_int_equal(submit(s, JOB_SHARED, 1), -1);
    scheduler_finish(s, &first);
    assert_int_equal(submit(s, JOB_SHARED, 1), 0);
    scheduler_free(s);
}

static void a_refusal_says_when_to_come_back(void **state)
{
    struct scheduler *s = create(0, 1, 5);
    struct job first;

    (void)state;
    assert_int_equal(scheduler_retry_seconds(s), 1);
    assert_int_equal(submit(s, JOB_SHARED, 1), 0);
    assert_int_equal(take(s, JOB_SHARED, &first), 1);
    first.started -= INT64_C(20000000000); /* as if 20 s ago */
    scheduler_finish(s, &first);
    for (int i = 0; i < 6; i++)
        assert_int_equal(submit(s, JOB_SHARED, 1), 0);
    assert_int_equal(submit(s, JOB_SHARED, 1), -1);
    assert_in_range(scheduler_retry_seconds(s), 120, 150); /* six of them, and its own turn */
    scheduler_free(s);
    assert_int_equal(refused, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_job_is_taken_once, reset),
        cmocka_unit_test_setup(limits_may_change, reset),
        cmocka_unit_test_setup(stopping_ends_what_is_queued, reset),
        cmocka_unit_test_setup(draining_waits_for_those_who_were_accepted, reset),
        cmocka_unit_test_setup(memory_has_a_bound_and_an_order, reset),
        cmocka_unit_test_setup(a_kind_that_is_full_lets_the_other_pass, reset),
        cmocka_unit_test_setup(stalled_jobs_hold_no_place, reset),
        cmocka_unit_test_setup(a_job_that_is_sending_holds_no_place_and_little_memory, reset),
        cmocka_unit_test_setup(a_place_is_found_when_a_reader_begins_to_stall, reset),
        cmocka_unit_test_setup(the_queue_is_full_whether_or_not_places_are_taken_yet, reset),
        cmocka_unit_test_setup(a_refusal_says_when_to_come_back, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
