/* test_no_memory.c - a run for which any one allocation fails gives an error or all of its values with
 * the bits that they should have: never fewer, never others.  Without threads runs wait their turn. */
#include "tests/unit/kept_runs.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "server/engine/drivers.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

int main(void)
{
    puts("1..1\nok 1 # SKIP the sanitizer has the allocator");
    return 0;
}

#else

#include <errno.h>

/* Allocations of this thread until one fails; -1: none does. */
static _Thread_local int64_t left = -1;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *at, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static int fails(void)
{
    if (left < 0 || left-- > 0)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *at, size_t size)
{
    return fails() ? NULL : __libc_realloc(at, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    *out = fails() ? NULL : __libc_memalign(alignment, size);
    return *out ? 0 : ENOMEM;
}

/* What the test keeps is not what fails. */
static int keep_anyway(void *user, int64_t entry, const void *data, size_t bytes, struct error *err)
{
    const int64_t armed = left;
    int rc;

    left = -1;
    rc = keep(user, entry, data, bytes, err);
    left = armed;
    return rc;
}

/* A run whose allocation number `at` fails.  Returns whether there were so many. */
static int run_with_failure(const struct run_request *request, int64_t at, struct kept *k)
{
    const struct run_sink sink = {.write = keep_anyway, .user = k};
    int rc = -1;

    *k = (struct kept){.fail_at = -1};
    left = at;
    k->run = run_create(engine, request, &limits, &k->err);
    at = left, left = -1;
    if (k->run) {
        k->data = calloc((size_t)k->run->entry_count + 1, sizeof(*k->data));
        k->size = calloc((size_t)k->run->entry_count + 1, sizeof(*k->size));
        left = at;
        rc = run_alone(k->run, &sink, &k->err);
        at = left, left = -1;
    }
    assert_int_equal(rc != 0, k->err.code != 0);
    return at < 0;
}

static void no_run_lacks_a_value(void **state)
{
    /* aliases and paths, with globs and without */
    static const char *const wanted[] = {"layer_*.attn_output", "layer_?_final", "*.mlp.act_fn",
                                         "step_1/logits", "hidden_after_attn"};
    const struct run_request request = request_of(wanted, 5, 1);
    struct kept whole = run_kept(engine, &request, -1), k;
    int64_t errors = 0, wholes = 0, at = 0;

    (void)state;
    assert_int_equal(whole.err.code, 0);
    for (; run_with_failure(&request, at, &k); at++) {
        if (k.err.code) {
            assert_in_range(k.err.code, 500, 503);
            errors++;
        } else {
            assert_int_equal(k.run->entry_count, whole.run->entry_count);
            assert_int_equal(k.run->alias_count, whole.run->alias_count);
            assert_same(&k, &whole, 0, whole.run->entry_count);
            wholes++;
        }
        kept_free(&k);
    }
    assert_same(&k, &whole, 0, whole.run->entry_count); /* and with none that fails */
    kept_free(&k);
    kept_free(&whole);
    printf("# %lld allocations: %lld errors, %lld whole runs\n", (long long)at, (long long)errors,
           (long long)wholes);
    assert_true(errors > 20);
}

/* ---- threads ---- */

typedef int create_fn(pthread_t *out, const pthread_attr_t *attr, void *(*start)(void *),
                      void *user);

static atomic_int no_threads;

int pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*start)(void *), void *user)
{
    create_fn *create;

    *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    return no_threads ? EAGAIN : create(out, attr, start, user);
}

static void note_end(void *user, const struct error *error)
{
    ((struct kept *)user)->err = *error;
}

static void nothing(void *user)
{
    (void)user;
}

static void without_threads_runs_wait_their_turn(void **state)
{
    static const char *const wanted[] = {"logits"};
    const struct scheduler_limits most = {
        .places = {[JOB_ALONE] = 4, [JOB_SHARED] = 4}, .waiting = 100, .memory = UINT64_MAX};
    const struct run_request request = request_of(wanted, 1, 1);
    struct scheduler *s = scheduler_create(&most, NULL);
    struct drivers *d = drivers_start(s, NULL);
    struct kept whole = run_kept(engine, &request, -1), k[8];

    (void)state;
    no_threads = 1;
    for (int i = 0; i < 8; i++) {
        struct job job = {.kind = JOB_ALONE, .over = note_end, .finish = nothing, .user = &k[i]};

        k[i] = (struct kept){.fail_at = -1};
        job.run = k[i].run = run_create(engine, &request, &limits, &k[i].err);
        k[i].data = calloc((size_t)k[i].run->entry_count + 1, sizeof(char *));
        k[i].size = calloc((size_t)k[i].run->entry_count + 1, sizeof(uint64_t));
        job.sink = (struct run_sink){.write = keep, .user = &k[i]};
        assert_int_equal(scheduler_submit(s, &job, &k[i].err), 0);
    }
    assert_int_equal(scheduler_drain(s, clock_ns() + 60 * (int64_t)CLOCK_SECOND), 0);
    no_threads = 0;
    scheduler_stop(s);
    drivers_free(d);
    scheduler_free(s);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(k[i].err.code, 0);
        assert_same(&k[i], &whole, 0, whole.run->entry_count);
        kept_free(&k[i]);
    }
    kept_free(&whole);
}

static void drivers_that_cannot_start_say_so(void **state)
{
    const struct scheduler_limits most = {
        .places = {[JOB_ALONE] = 1, [JOB_SHARED] = 1}, .waiting = 1, .memory = 1};
    struct scheduler *s = scheduler_create(&most, NULL);
    struct error err = {0};

    (void)state;
    no_threads = 1;
    assert_null(drivers_start(s, &err));
    no_threads = 0;
    assert_int_equal(err.code, 500);
    assert_non_null(strstr(err.text, "threads"));
    scheduler_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_run_lacks_a_value),
                                       cmocka_unit_test(without_threads_runs_wait_their_turn),
                                       cmocka_unit_test(drivers_that_cannot_start_say_so)};

    return cmocka_run_group_tests_name("eager", tests, choose_eager, teardown) +
           cmocka_run_group_tests_name("sdpa", tests, choose_sdpa, teardown);
}

#endif
