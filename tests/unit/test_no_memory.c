/* test_no_memory.c - a run for which any one allocation fails gives an error or all of its values with
 * the bits that they should have: never fewer, never others. */
#include "tests/unit/kept_runs.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

int main(void)
{
    puts("1..0 # SKIP the sanitizer has the allocator");
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_run_lacks_a_value)};

    return cmocka_run_group_tests_name("eager", tests, choose_eager, teardown) +
           cmocka_run_group_tests_name("sdpa", tests, choose_sdpa, teardown);
}

#endif
