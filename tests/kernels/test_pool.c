/* test_pool.c - every piece is done once, whoever calls, however many at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "kernels/cpu/pool.h"

enum { PIECES_MOST = 1000, CALLERS = 4, ROUNDS = 3000 };

struct marks {
    atomic_int count[PIECES_MOST];
};

static void mark(const void *work, int64_t piece)
{
    struct marks *marks = *(struct marks *const *)work;

    atomic_fetch_add(&marks->count[piece], 1);
}

/* Returns how many pieces were not done exactly once. */
static int run_marks(struct pool *pool, struct marks *marks, int64_t pieces)
{
    int wrong = 0;

    memset(marks, 0, sizeof(*marks));
    pool_run(pool, mark, &marks, pieces);
    for (int64_t i = 0; i < PIECES_MOST; i++)
        wrong += atomic_load(&marks->count[i]) != (i < pieces);
    return wrong;
}

static struct pool *open_pool(int threads)
{
    struct error err = {0};
    struct pool *pool = pool_open(threads, &err);

    if (!pool)
        fail_msg("%s", err.text);
    return pool;
}

static void test_each_piece_once(void **state)
{
    static struct marks marks;

    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        struct pool *pool = open_pool(threads);

        for (int64_t pieces = 0; pieces <= 70; pieces++)
            assert_int_equal(run_marks(pool, &marks, pieces), 0);
        assert_int_equal(run_marks(pool, &marks, PIECES_MOST), 0);
        pool_close(pool);
    }
}

struct ranges {
    struct marks *marks;
    int64_t grain;
    atomic_int wrong; /* ranges that are empty or reach over a grain */
};

static void mark_range(const void *work, int64_t first, int64_t end)
{
    struct ranges *r = *(struct ranges *const *)work;

    atomic_fetch_add(&r->wrong, first >= end || first / r->grain != (end - 1) / r->grain);
    for (int64_t piece = first; piece < end; piece++)
        mark(&r->marks, piece);
}

static void test_ranges_keep_to_grains(void **state)
{
    static const int64_t grains[] = {1, 2, 7, 32, 2000};
    static struct marks marks;
    static char later[70000];
    const struct pool_soon soon = {.at = {later, later + 35000}, .unit = 700, .units = 50};

    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        struct pool *pool = open_pool(threads);

        for (int64_t pieces = 0; pieces <= 130; pieces++)
            for (int g = 0; g < 5; g++) {
                struct ranges ranges = {.marks = &marks, .grain = grains[g]}, *work = &ranges;

                memset(&marks, 0, sizeof(marks));
                pool_run_ranges(pool, mark_range, &work, pieces, grains[g], g % 2 ? &soon : NULL);
                for (int64_t i = 0; i < PIECES_MOST; i++)
                    assert_int_equal(atomic_load(&marks.count[i]), i < pieces);
                assert_int_equal(atomic_load(&ranges.wrong), 0);
            }
        pool_close(pool);
    }
}

struct slow {
    struct marks *marks;
    pthread_t caller;
};

static void mark_slowly(const void *work, int64_t piece)
{
    const struct slow *s = work;

    if (!pthread_equal(pthread_self(), s->caller))
        usleep(3000);
    mark(&s->marks, piece);
}

/* The caller, through with its own pieces, takes those of slow workers, and sleeps till the last
 * one is done. */
static void test_slow_workers(void **state)
{
    static struct marks marks;
    struct pool *pool = open_pool(3);
    const struct slow slow = {&marks, pthread_self()};

    (void)state;
    for (int i = 0; i < 10; i++) {
        memset(&marks, 0, sizeof(marks));
        pool_run(pool, mark_slowly, &slow, 200);
        for (int64_t k = 0; k < 200; k++)
            assert_int_equal(atomic_load(&marks.count[k]), 1);
    }
    pool_close(pool);
}

/* Workers that have gone to sleep are woken. */
static void test_after_sleep(void **state)
{
    static struct marks marks;
    struct pool *pool = open_pool(3);

    (void)state;
    for (int i = 0; i < 20; i++) {
        usleep(3000);
        assert_int_equal(run_marks(pool, &marks, 50), 0);
    }
    pool_close(pool);
}

struct caller {
    struct pool *pool;
    int64_t pieces;
    struct marks marks;
    int wrong;
};

static void *call_often(void *arg)
{
    struct caller *c = arg;

    for (int i = 0; i < ROUNDS; i++)
        c->wrong += run_marks(c->pool, &c->marks, (c->pieces + i) % 40);
    return NULL;
}

static void test_callers_at_once(void **state)
{
    static struct caller caller[CALLERS];
    pthread_t thread[CALLERS];
    struct pool *pool = open_pool(3);

    (void)state;
    for (int i = 0; i < CALLERS; i++) {
        caller[i].pool = pool;
        caller[i].pieces = 7 * i;
        assert_int_equal(pthread_create(&thread[i], NULL, call_often, &caller[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(caller[i].wrong, 0);
    }
    pool_close(pool);
    print_message("%d callers x %d works on 3 threads: every piece once\n", CALLERS, ROUNDS);
}

struct nested {
    struct pool *pool;
    struct marks *marks;
};

static void call_inside(const void *work, int64_t piece)
{
    const struct nested *n = work;

    (void)piece;
    pool_run(n->pool, mark, &n->marks, 10);
}

/* Work inside work finds the pool busy and is done in place. */
static void test_work_inside_work(void **state)
{
    static struct marks marks;
    struct pool *pool = open_pool(3);
    struct nested n = {pool, &marks};

    (void)state;
    memset(&marks, 0, sizeof(marks));
    pool_run(pool, call_inside, &n, 20);
    for (int i = 0; i < 10; i++)
        assert_int_equal(atomic_load(&marks.count[i]), 20);
    pool_close(pool);
}

static void test_open_and_close(void **state)
{
    struct error err = {0};

    (void)state;
    for (int i = 0; i < 200; i++)
        pool_close(open_pool(1 + i % 4));
    pool_close(NULL);
    assert_null(pool_open(0, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "threads");
    err.code = 0;
    assert_null(pool_open(POOL_MAX_THREADS + 1, &err));
    assert_int_equal(err.code, 400);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_piece_once),       cmocka_unit_test(test_after_sleep),
        cmocka_unit_test(test_ranges_keep_to_grains), cmocka_unit_test(test_slow_workers),
        cmocka_unit_test(test_callers_at_once),       cmocka_unit_test(test_work_inside_work),
        cmocka_unit_test(test_open_and_close),
    };

    return cmocka_run_group_tests_name("kernels/pool", tests, NULL, NULL);
}
