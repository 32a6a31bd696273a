/* test_scheduler.c - jobs run, a full queue refuses, stopping drops what waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "server/engine/scheduler.h"

static atomic_int ran, finished, dropped, started, gate;

static void run_job(void *user)
{
    (void)user;
    started++;
    while (!gate)
        usleep(200);
    ran++;
}

static void finish_job(void *user)
{
    (void)user;
    finished++;
}

static void drop_job(void *user)
{
    (void)user;
    dropped++;
}

static const struct job job = {.run = run_job, .finish = finish_job, .drop = drop_job};

static struct scheduler *create(int workers, int waiting, struct error *err)
{
    const struct scheduler_limits limits = {
        .places = {[JOB_ALONE] = workers}, .waiting = waiting, .memory = 100};

    return scheduler_create(&limits, err);
}

static int reset(void **state)
{
    (void)state;
    ran = finished = dropped = started = gate = 0;
    return 0;
}

static void every_job_runs(void **state)
{
    struct error err = {0};
    struct scheduler *s = create(3, 100, &err);

    (void)state;
    gate = 1;
    assert_non_null(s);
    for (int i = 0; i < 100; i++)
        assert_int_equal(scheduler_submit(s, &job, &err), 0);
    for (int i = 0; i < 10000 && ran < 100; i++)
        usleep(500);
    scheduler_free(s);
    assert_int_equal(ran, 100);
    assert_int_equal(finished, 100);
    assert_int_equal(dropped, 0);
}

static void a_full_queue_refuses_with_503(void **state)
{
    struct error err = {0};
    struct scheduler *s = create(2, 1, &err);

    (void)state;
    assert_non_null(s);
    for (int i = 0; i < 3; i++)
        assert_int_equal(scheduler_submit(s, &job, &err), 0);
    assert_int_equal(scheduler_submit(s, &job, &err), -1);
    assert_int_equal(err.code, 503);
    assert_non_null(strstr(err.text, "queue is full"));
    while (started < 2)
        usleep(200);
    gate = 1;
    scheduler_free(s);
    assert_int_equal(ran + dropped, 3);
}

static void submit_next(void *user)
{
    struct error err = {0};

    if (finished++ < 50 &&
        scheduler_submit(
            *(struct scheduler **)user,
            &(struct job){.run = run_job, .finish = submit_next, .drop = drop_job, .user = user},
            &err))
        dropped = 1000;
}

/* A client that asks again the moment it has its answer finds the only worker free. */
static void a_finished_job_leaves_its_worker_free(void **state)
{
    struct error err = {0};
    struct scheduler *s = create(1, 0, &err);

    (void)state;
    gate = 1;
    assert_int_equal(
        scheduler_submit(
            s, &(struct job){.run = run_job, .finish = submit_next, .drop = drop_job, .user = &s},
            &err),
        0);
    for (int i = 0; i < 10000 && finished < 51 && !dropped; i++)
        usleep(500);
    scheduler_free(s);
    assert_int_equal(finished, 51);
    assert_int_equal(dropped, 0);
}

static void *open_gate(void *user)
{
    (void)user;
    usleep(20000);
    gate = 1;
    return NULL;
}

static void stopping_drops_what_waits(void **state)
{
    struct error err = {0};
    struct scheduler *s = create(1, 5, &err);
    pthread_t opener;

    (void)state;
    for (int i = 0; i < 6; i++)
        assert_int_equal(scheduler_submit(s, &job, &err), 0);
    while (started < 1)
        usleep(200);
    pthread_create(&opener, NULL, open_gate, NULL);
    scheduler_free(s);
    pthread_join(opener, NULL);
    assert_int_equal(ran, 1);
    assert_int_equal(dropped, 5);
}

/* ---- admission: jobs that join are taken by the test itself ---- */

static struct scheduler *create_joining(int places, int waiting)
{
    const struct scheduler_limits limits = {
        .places = {[JOB_JOINS] = places}, .waiting = waiting, .memory = 100};

    return scheduler_create(&limits, NULL);
}

static int submit_of(struct scheduler *s, uint64_t memory, void *user)
{
    const struct job joins = {
        .kind = JOB_JOINS, .memory = memory, .finish = finish_job, .drop = drop_job, .user = user};

    return scheduler_submit(s, &joins, NULL);
}

static void memory_has_a_bound_and_an_order(void **state)
{
    struct scheduler *s = create_joining(8, 8);
    static const uint64_t sizes[] = {60, 30, 20, 5, 500, 1};
    struct job taken[6];

    (void)state;
    for (int i = 0; i < 6; i++)
        assert_int_equal(submit_of(s, sizes[i], NULL), 0);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[0]), 1);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[1]), 1);
    assert_int_equal(taken[0].memory + taken[1].memory, 90);
    /* 20 does not fit; 5 would, but came later */
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[2]), 0);
    scheduler_finish(s, &taken[1]);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[2]), 1);
    assert_int_equal(taken[2].memory, 20);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[3]), 1);
    assert_int_equal(taken[3].memory, 5);
    /* more than the bound: when nothing else runs, and then nothing else does */
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[4]), 0);
    scheduler_finish(s, &taken[0]);
    scheduler_finish(s, &taken[2]);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[4]), 0);
    scheduler_finish(s, &taken[3]);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[4]), 1);
    assert_int_equal(taken[4].memory, 500);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[5]), 0);
    scheduler_finish(s, &taken[4]);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &taken[5]), 1);
    scheduler_finish(s, &taken[5]);
    assert_int_equal(finished, 6);
    scheduler_free(s);
}

static void a_kind_that_is_full_lets_the_other_pass(void **state)
{
    const struct scheduler_limits limits = {
        .places = {[JOB_ALONE] = 1, [JOB_JOINS] = 1}, .waiting = 1, .memory = 100};
    struct scheduler *s = scheduler_create(&limits, NULL);
    struct job taken;

    (void)state;
    assert_int_equal(scheduler_submit(s, &job, NULL), 0);
    while (started < 1)
        usleep(200);
    assert_int_equal(scheduler_submit(s, &job, NULL), 0); /* waits for the worker */
    assert_int_equal(scheduler_submit(s, &job, NULL), -1);
    assert_int_equal(submit_of(s, 10, NULL), 0);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 1, &taken), 1);
    assert_int_equal(submit_of(s, 10, NULL), -1); /* one waits already */
    scheduler_finish(s, &taken);
    gate = 1;
    scheduler_free(s);
}

static void the_queue_is_full_whether_or_not_places_are_taken_yet(void **state)
{
    struct scheduler *s = create_joining(2, 1);
    struct job first;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit_of(s, 1, NULL), 0);
    assert_int_equal(submit_of(s, 1, NULL),
                     -1); /* two places are free, two of the three have them */
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &first), 1);
    assert_int_equal(submit_of(s, 1, NULL), -1);
    scheduler_finish(s, &first);
    assert_int_equal(submit_of(s, 1, NULL), 0);
    scheduler_free(s);
}

static void a_refusal_says_when_to_come_back(void **state)
{
    struct scheduler *s = create_joining(1, 5);
    struct job first;

    (void)state;
    assert_int_equal(scheduler_retry_seconds(s), 1);
    assert_int_equal(submit_of(s, 1, NULL), 0);
    assert_int_equal(scheduler_take(s, JOB_JOINS, 0, &first), 1);
    first.started -= INT64_C(20000000000); /* as if 20 s ago */
    scheduler_finish(s, &first);
    for (int i = 0; i < 6; i++)
        assert_int_equal(submit_of(s, 1, NULL), 0);
    assert_int_equal(submit_of(s, 1, NULL), -1);
    assert_in_range(scheduler_retry_seconds(s), 120, 150); /* six of them, and its own turn */
    scheduler_free(s);
    assert_int_equal(dropped, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_has_a_bound_and_an_order, reset),
        cmocka_unit_test_setup(a_kind_that_is_full_lets_the_other_pass, reset),
        cmocka_unit_test_setup(the_queue_is_full_whether_or_not_places_are_taken_yet, reset),
        cmocka_unit_test_setup(a_refusal_says_when_to_come_back, reset),
        cmocka_unit_test_setup(every_job_runs, reset),
        cmocka_unit_test_setup(a_finished_job_leaves_its_worker_free, reset),
        cmocka_unit_test_setup(a_full_queue_refuses_with_503, reset),
        cmocka_unit_test_setup(stopping_drops_what_waits, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
