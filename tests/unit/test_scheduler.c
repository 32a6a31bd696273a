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
        scheduler_submit(*(struct scheduler **)user,
                         &(struct job){.run = run_job, .finish = submit_next, .drop = drop_job, .user = user}, &err))
        dropped = 1000;
}

/* A client that asks again the moment it has its answer finds the only worker free. */
static void a_finished_job_leaves_its_worker_free(void **state)
{
    struct error err = {0};
    struct scheduler *s = create(1, 0, &err);

    (void)state;
    gate = 1;
    assert_int_equal(scheduler_submit(s, &(struct job){.run = run_job, .finish = submit_next, .drop = drop_job, .user = &s}, &err),
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_job_runs, reset),
        cmocka_unit_test_setup(a_finished_job_leaves_its_worker_free, reset),
        cmocka_unit_test_setup(a_full_queue_refuses_with_503, reset),
        cmocka_unit_test_setup(stopping_drops_what_waits, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
