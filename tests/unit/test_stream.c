/* test_stream.c - bytes pass whole and in order, whatever their sizes; a stalled reader holds the
 * worker, and the worker's memory is its own again when it returns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "server/http/stream.h"

enum { RING = STREAM_RING, MOST = 3 * RING + 12345 };

/* ---- a worker ---- */

static struct {
    struct stream *stream;
    const size_t *sizes; /* ends with 0 */
    struct error error;
    atomic_int written; /* stream_writes that returned 0 */
    atomic_int over;
} worker;

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 2654435761u >> 29);
}

static void *work(void *user)
{
    unsigned char *bytes = malloc(MOST);
    size_t at = 0;

    (void)user;
    for (const size_t *size = worker.sizes; *size; at += *size++) {
        for (size_t i = 0; i < *size; i++)
            bytes[i] = byte_at(at + i);
        if (stream_write(worker.stream, bytes, *size, &worker.error))
            break;
        memset(bytes, 0xee, *size);
        worker.written++;
    }
    stream_end(worker.stream, &worker.error);
    free(bytes);
    worker.over = 1;
    return NULL;
}

static pthread_t start(int64_t seconds, const size_t *sizes)
{
    pthread_t thread;

    memset(&worker, 0, sizeof(worker));
    worker.sizes = sizes;
    worker.stream =
        stream_create(clock_ns() + seconds * CLOCK_SECOND / 10, 60 * (int64_t)CLOCK_SECOND);
    assert_non_null(worker.stream);
    assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
    return thread;
}

static void finish(pthread_t thread)
{
    pthread_join(thread, NULL);
    stream_release(worker.stream);
}

/* ---- a reader ---- */

static atomic_int sleeping, naps, wakes;

static void fall_asleep(void *user)
{
    (void)user;
    assert_int_equal(sleeping, 0);
    sleeping = 1;
    naps++;
}

static void wake_up(void *user)
{
    (void)user;
    assert_int_equal(sleeping, 1);
    wakes++;
    sleeping = 0;
}

/* Reads `most` bytes, or to the end, at most `block` at a time; how many came. */
static size_t read_some(size_t at, size_t most, size_t block, ssize_t *end)
{
    unsigned char *bytes = malloc(block);
    const size_t first = at;

    *end = STREAM_NOTHING;
    while (at - first < most && *end == STREAM_NOTHING) {
        const size_t left = most - (at - first);
        const ssize_t n = stream_read(worker.stream, bytes, left < block ? left : block);

        for (ssize_t i = 0; i < n; i++)
            if (bytes[i] != byte_at(at++))
                fail_msg("byte %zu is another's", at - 1);
        if (n < 0)
            *end = n;
        while (n == STREAM_NOTHING && sleeping)
            usleep(50);
    }
    free(bytes);
    return at - first;
}

static void bytes_pass(const size_t *sizes, size_t block)
{
    const pthread_t thread = start(600, sizes);
    size_t all = 0;
    ssize_t end;

    sleeping = 0;
    stream_attach(worker.stream, fall_asleep, wake_up, NULL);
    for (int i = 0; sizes[i]; i++)
        all += sizes[i];
    assert_int_equal(read_some(0, SIZE_MAX, block, &end), all);
    assert_int_equal(end, STREAM_COMPLETE);
    stream_detach(worker.stream);
    finish(thread);
    assert_int_equal(worker.error.code, 0);
}

static void test_bytes_pass(void **state)
{
    static const size_t sizes[] = {1,        70,   RING, RING + 1, 5,        RING - 1,
                                   2 * RING, 3000, MOST, 17,       RING / 2, RING / 2,
                                   1,        RING, RING, RING + 7, 0};

    (void)state;
    bytes_pass(sizes, 1000);
    bytes_pass(sizes, 512 * 1024);
    bytes_pass(sizes, 2 * RING + 1);
}

/* Nobody reads: what fits the ring is written, and no more until the rest fits. */
static void test_a_stalled_reader_holds_the_worker(void **state)
{
    static const size_t sizes[] = {100, RING - 100, 2 * RING, 10, 0};
    const pthread_t thread = start(600, sizes);
    ssize_t end;

    (void)state;
    sleeping = 0;
    stream_attach(worker.stream, fall_asleep, wake_up, NULL);
    while (worker.written < 2)
        usleep(500);
    usleep(20000);
    assert_int_equal(worker.written, 2);
    assert_int_equal(read_some(0, 2 * RING - 1, 9999, &end), 2 * RING - 1);
    usleep(20000);
    assert_int_equal(worker.written, 2);
    assert_int_equal(read_some(2 * RING - 1, SIZE_MAX, 1000, &end), RING + 1 + 10);
    assert_int_equal(end, STREAM_COMPLETE);
    finish(thread);
}

/* What does not fit stays the caller's. */
static void test_offers(void **state)
{
    unsigned char *bytes = malloc(RING + 10);
    struct error err = {0};
    ssize_t end;

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < RING + 10; i++)
        bytes[i] = byte_at(i);
    worker.stream =
        stream_create(clock_ns() + 60 * (int64_t)CLOCK_SECOND, 60 * (int64_t)CLOCK_SECOND);
    assert_non_null(worker.stream);
    assert_int_equal(stream_offer(worker.stream, bytes, 7, &err), 7);
    assert_int_equal(stream_space(worker.stream), RING - 7);
    assert_int_equal(stream_offer(worker.stream, bytes + 7, RING + 3, &err), RING - 7);
    assert_int_equal(stream_offer(worker.stream, bytes + RING, 10, &err), 0);
    assert_int_equal(read_some(0, 9, 9, &end), 9);
    assert_int_equal(stream_offer(worker.stream, bytes + RING, 10, &err), 9);
    assert_int_equal(read_some(9, RING, 9999, &end), RING);
    stream_fail(worker.stream, 503, "stopping");
    assert_int_equal(stream_offer(worker.stream, bytes, 1, &err), -1);
    assert_int_equal(err.code, 503);
    stream_release(worker.stream);
    free(bytes);
}

static void ends_with(const size_t *sizes, int64_t tenths, int code)
{
    const pthread_t thread = start(tenths, sizes);
    struct error err = {0};
    ssize_t end;

    sleeping = 0;
    stream_attach(worker.stream, fall_asleep, wake_up, NULL);
    if (code != 504)
        assert_int_equal(read_some(0, 1000, 1000, &end), 1000);
    if (code == 499)
        stream_detach(worker.stream);
    if (code == 503)
        stream_fail(worker.stream, 503, "stopping");
    for (int i = 0; i < 10000 && !worker.over; i++)
        usleep(500);
    assert_true(worker.over);
    assert_int_equal(worker.error.code, code);
    assert_int_equal(stream_read(worker.stream, (char[1]){0}, 1), STREAM_BROKEN);
    assert_int_equal(stream_first(worker.stream, &err), STREAM_FAILED);
    assert_int_equal(err.code, code);
    finish(thread);
    assert_int_equal(worker.written, 0);
}

/* While the worker waits with more than the ring holds. */
static void test_ends(void **state)
{
    static const size_t sizes[] = {MOST, MOST, 0};

    (void)state;
    ends_with(sizes, 600, 499);
    ends_with(sizes, 600, 503);
    ends_with(sizes, 2, 504);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_pass),
        cmocka_unit_test(test_a_stalled_reader_holds_the_worker),
        cmocka_unit_test(test_offers),
        cmocka_unit_test(test_ends),
    };

    return cmocka_run_group_tests_name("unit/stream", tests, NULL, NULL);
}
