/* test_hashes.c - hashes computed by threads are those computed here, in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <malloc.h>
#include <openssl/evp.h>

#include "server/http/hashes.h"

enum { PIECE = HASHES_PIECE, MOST = 12 << 20 };

static unsigned char *bytes, *scratch;

static int make_bytes(void **state)
{
    uint64_t x = 1;

    (void)state;
    bytes = malloc(MOST);
    scratch = malloc(MOST);
    for (int i = 0; bytes && i < MOST; i++)
        bytes[i] = (unsigned char)((x = x * 6364136223846793005u + 1) >> 56);
    return bytes && scratch ? 0 : -1;
}

static int free_bytes(void **state)
{
    (void)state;
    free(bytes);
    free(scratch);
    return 0;
}

/* Of value number n. */
static size_t size_of(int n)
{
    static const size_t sizes[] = {0,         1,     1000,      32 * 1024, 32 * 1024 + 1,
                                   PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 5 * PIECE + 7,
                                   2 * PIECE, 64};
    const size_t count = sizeof(sizes) / sizeof(*sizes);

    return n == 40 ? MOST : sizes[(size_t)n * 7 % count];
}

/* In parts, from memory that is written over after each. */
static void bring(struct hashes *h, int n)
{
    const size_t size = size_of(n), part = n % 3 ? size / 3 + 1 : 7 * PIECE;
    struct error err = {0};

    for (size_t at = 0; at < size; at += part) {
        const size_t now = size - at < part ? size - at : part;

        memcpy(scratch, bytes + at, now);
        assert_int_equal(hashes_add(h, scratch, now, &err), 0);
        memset(scratch, 0xee, now);
    }
    assert_int_equal(hashes_end(h, &err), 0);
}

static void expect(int n, const unsigned char got[HASHES_BYTES])
{
    unsigned char want[HASHES_BYTES];

    assert_int_equal(EVP_Digest(bytes, size_of(n), want, NULL, EVP_sha256(), NULL), 1);
    assert_memory_equal(got, want, HASHES_BYTES);
}

static void values_keep_their_order(int threads, int count)
{
    struct error err = {0};
    struct hashes *h = hashes_create(threads, &err);
    unsigned char got[HASHES_BYTES];
    int taken = 0;

    assert_non_null(h);
    assert_int_equal(hashes_take(h, 1, got, &err), 0); /* there is nothing to wait for */
    for (int n = 0; n < count; n++) {
        bring(h, n);
        while (hashes_take(h, n + 1 - taken == HASHES_VALUES, got, &err) == 1)
            expect(taken++, got);
    }
    while (hashes_take(h, 1, got, &err) == 1)
        expect(taken++, got);
    assert_int_equal(taken, count);
    assert_int_equal(err.code, 0);
    hashes_free(h);
}

static void test_order(void **state)
{
    (void)state;
    values_keep_their_order(1, 50); /* value 40 is larger than all copies together */
    values_keep_their_order(2, 150);
    values_keep_their_order(5, 300);
}

static void test_as_many_as_may_wait(void **state)
{
    struct error err = {0};
    struct hashes *h = hashes_create(3, &err);
    unsigned char got[HASHES_BYTES];

    (void)state;
    assert_non_null(h);
    for (int n = 0; n < HASHES_VALUES; n++)
        bring(h, n);
    for (int n = 0; n < HASHES_VALUES; n++) {
        assert_int_equal(hashes_take(h, 1, got, &err), 1);
        expect(n, got);
    }
    assert_int_equal(hashes_take(h, 1, got, &err), 0);
    hashes_free(h);
}

/* With values ended, one in the middle, and threads at work. */
static void test_leaving_early(void **state)
{
    struct error err = {0};

    (void)state;
    hashes_free(NULL);
    for (int n = 0; n < 20; n++) {
        struct hashes *h = hashes_create(2, &err);

        assert_non_null(h);
        for (int i = 0; i < n; i++)
            bring(h, i);
        if (n % 2)
            assert_int_equal(hashes_add(h, bytes, 3 * PIECE + 5, &err), 0);
        hashes_free(h);
    }
}

/* Bringing is faster than hashing. */
static void test_copies_are_bounded(void **state)
{
    const size_t most = (HASHES_PIECES + 4) * (size_t)PIECE;
    struct error err = {0};
    struct hashes *h = hashes_create(1, &err);
    const struct mallinfo2 before = mallinfo2();

    (void)state;
    assert_non_null(h);
    for (int n = 0; n < 5; n++) {
        struct mallinfo2 now;

        assert_int_equal(hashes_add(h, bytes, MOST, &err), 0);
        now = mallinfo2();
        assert_true(now.uordblks + now.hblkhd <= before.uordblks + before.hblkhd + most);
    }
    hashes_free(h);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_as_many_as_may_wait),
        cmocka_unit_test(test_leaving_early),
        cmocka_unit_test(test_copies_are_bounded),
    };

    return cmocka_run_group_tests_name("unit/hashes", tests, make_bytes, free_bytes);
}
