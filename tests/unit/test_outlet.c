/* test_outlet.c - values on their way to the sink: as they lie, and through the slots of a reader
 * that is made up here, whose memory is worthless until its slot was sent and waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/base/bf16.h"
#include "server/engine/outlet.h"

enum { ENTRIES = 6000, MIB = 1 << 20 };

/* ---- a device ---- */

enum state { EMPTY, FILLING, SENT };

struct reader {
    char *device[READER_SLOTS], *host[READER_SLOTS];
    enum state state[READER_SLOTS];
    size_t bytes;
};

static struct reader *opened;
static int waits, sends, fail_wait;

static struct reader *fake_open(struct backend *b, size_t bytes, struct error *err)
{
    (void)b, (void)err;
    opened = calloc(1, sizeof(*opened));
    opened->bytes = bytes;
    for (int i = 0; i < READER_SLOTS; i++) {
        opened->device[i] = malloc(bytes);
        opened->host[i] = malloc(bytes);
        memset(opened->host[i], 0xee, bytes);
    }
    return opened;
}

static void fake_close(struct backend *b, struct reader *r)
{
    (void)b;
    for (int i = 0; i < READER_SLOTS; i++) {
        free(r->device[i]);
        free(r->host[i]);
    }
    free(r);
    opened = NULL;
}

static int fake_put(struct reader *r, int slot, size_t offset, const struct tensor *src)
{
    const int64_t all = tensor_count(src), piece = tensor_piece(src);
    const size_t size = dtype_size(src->dtype);

    assert_int_not_equal(r->state[slot], SENT);
    assert_int_equal(offset % 16, 0);
    assert_true(offset + tensor_bytes(src) <= r->bytes);
    if (r->state[slot] == EMPTY)
        memset(r->host[slot], 0xee, r->bytes); /* what was handed on is gone */
    for (int64_t i = 0; i < all; i += piece)
        memcpy(r->device[slot] + offset + (size_t)i * size,
               (const char *)src->data + (size_t)tensor_offset(src, i) * size,
               (size_t)piece * size);
    r->state[slot] = FILLING;
    return 0;
}

static int fake_send(struct reader *r, int slot, size_t bytes)
{
    assert_int_equal(r->state[slot], FILLING);
    r->state[slot] = SENT;
    memcpy(r->host[slot], r->device[slot], bytes);
    sends++;
    return 0;
}

static const void *fake_wait(struct reader *r, int slot)
{
    assert_int_equal(r->state[slot], SENT);
    r->state[slot] = EMPTY;
    waits++;
    return fail_wait == waits ? NULL : r->host[slot];
}

static const char *fake_trouble(struct backend *b)
{
    (void)b;
    return "it is on fire";
}

static struct backend device = {.device = "fake:0",
                                .reader_open = fake_open,
                                .reader_close = fake_close,
                                .reader_put = fake_put,
                                .reader_send = fake_send,
                                .reader_wait = fake_wait,
                                .trouble = fake_trouble};
static struct backend host = {.device = "host", .host_readable = 1};

/* ---- a sink ---- */

static struct {
    char *data[ENTRIES];
    size_t size[ENTRIES];
    int64_t last;
    int writes, fail_at;
} got;

static int keep(void *user, int64_t entry, const void *data, size_t bytes, struct error *err)
{
    (void)user;
    assert_true(entry >= got.last);
    got.last = entry;
    if (++got.writes == got.fail_at)
        return error_set(err, 499, "the test has left");
    got.data[entry] = realloc(got.data[entry], got.size[entry] + bytes + 1);
    memcpy(got.data[entry] + got.size[entry], data, bytes);
    got.size[entry] += bytes;
    return 0;
}

static const struct run_sink sink = {.write = keep};

static int clear(void **state)
{
    (void)state;
    for (int i = 0; i < ENTRIES; i++)
        free(got.data[i]);
    memset(&got, 0, sizeof(got));
    waits = sends = fail_wait = 0;
    return 0;
}

static struct outlet open_on(struct backend *b)
{
    struct outlet o;
    struct error err = {0};

    assert_int_equal(outlet_open(&o, b, &sink, 1000, &err), 0);
    return o;
}

/* ---- values ---- */

static bf16 *numbers(int64_t n)
{
    bf16 *x = malloc((size_t)n * sizeof(*x));

    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (bf16)(i * 2654435761 >> 13);
    return x;
}

static void write_bf16(struct outlet *o, int64_t entry, const struct tensor *t)
{
    struct error err = {0};

    assert_int_equal(outlet_write(o, entry, t, &err), 0);
}

/* The rows [first, first + keys) of each of `heads` heads, as the views of a cache are. */
static void write_view(struct backend *b)
{
    bf16 *x = numbers(3 * 10 * 7);
    const struct tensor whole = tensor_make(DTYPE_BF16, 3, (int64_t[]){3, 10, 7}, x);
    const struct tensor view = tensor_slice(&whole, 1, 4, 5);
    struct outlet o = open_on(b);
    struct error err = {0};

    write_bf16(&o, 2, &view);
    assert_int_equal(outlet_flush(&o, &err), 0);
    assert_int_equal(got.size[2], 3 * 5 * 7 * sizeof(bf16));
    for (int g = 0; g < 3; g++)
        assert_memory_equal(got.data[2] + g * 5 * 7 * 2, x + g * 70 + 28, 5 * 7 * sizeof(bf16));
    outlet_close(&o);
    free(x);
}

static void views_leave_row_by_row(void **state)
{
    (void)state;
    write_view(&host);
    assert_int_equal(got.writes, 3);
    clear(state);
    write_view(&device);
    assert_int_equal(got.writes, 1);
    assert_null(opened);
}

static void the_host_reads_where_it_can(void **state)
{
    bf16 *x = numbers(8);
    const struct tensor t = tensor_make(DTYPE_BF16, 1, (int64_t[]){8}, x);
    struct outlet o = open_on(&host);
    struct error err = {0};

    (void)state;
    write_bf16(&o, 0, &t);
    assert_int_equal(got.writes, 1); /* without a flush */
    assert_ptr_equal(outlet_read(&o, &t, &err), x);
    outlet_close(&o);
    free(x);
}

/* So many that both slots are used again and again, by their size and by their number of items. */
static void many_values_come_in_order(int64_t length)
{
    bf16 *x = numbers(length);
    struct outlet o = open_on(&device);
    struct error err = {0};

    for (int i = 0; i < ENTRIES; i++) {
        const int64_t n = (i * 7919) % length + 1;
        const struct tensor t = tensor_make(DTYPE_BF16, 1, &n, x + length - n);

        write_bf16(&o, i, &t);
        assert_true(waits <= sends && sends - waits < READER_SLOTS);
    }
    assert_int_equal(outlet_flush(&o, &err), 0);
    assert_int_equal(outlet_flush(&o, &err), 0); /* nothing is left */
    assert_int_equal(waits, sends);
    for (int i = 0; i < ENTRIES; i++) {
        const int64_t n = (i * 7919) % length + 1;

        assert_int_equal(got.size[i], (size_t)n * sizeof(bf16));
        assert_memory_equal(got.data[i], x + length - n, (size_t)n * sizeof(bf16));
    }
    outlet_close(&o);
    free(x);
}

static void small_and_large_values_come_in_order(void **state)
{
    (void)state;
    many_values_come_in_order(3);
    assert_int_equal(sends, 2); /* a slot full of items, and the rest */
    clear(state);
    many_values_come_in_order(10000);
    assert_true(sends > 6 && sends < 12);
}

/* Larger than a slot: along the outermost axis; along a further one, where one index is too much;
 * and a single row. */
static void what_no_slot_holds_comes_in_parts(void **state)
{
    static const int64_t shapes[][3] = {
        {9, 1000, 1000}, {2, 5000, 1024}, {1, 1, 10 * MIB}, {3, 2, 5}};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct tensor t = tensor_make(DTYPE_BF16, 3, shapes[i], NULL);
        struct outlet o = open_on(&device);
        struct error err = {0};

        t.data = numbers(tensor_count(&t));
        write_bf16(&o, i, &t);
        assert_int_equal(outlet_flush(&o, &err), 0);
        assert_int_equal(got.size[i], tensor_bytes(&t));
        assert_memory_equal(got.data[i], t.data, tensor_bytes(&t));
        outlet_close(&o);
        free(t.data);
    }
}

/* A value read for the engine's own use is nobody's entry, and everything before it is out. */
static void reading_flushes(void **state)
{
    bf16 *x = numbers(600);
    const struct tensor t = tensor_make(DTYPE_BF16, 1, (int64_t[]){100}, x);
    const struct tensor row = tensor_make(DTYPE_BF16, 2, (int64_t[]){1, 500}, x + 100);
    struct outlet o = open_on(&device);
    struct error err = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        const bf16 *read;

        write_bf16(&o, i, &t);
        read = outlet_read(&o, &row, &err);
        assert_non_null(read);
        assert_memory_equal(read, x + 100, 1000);
        assert_int_equal(got.writes, i + 1);
        assert_int_equal(got.size[i], 200);
    }
    assert_non_null(outlet_read(&o, &row, &err));
    assert_int_equal(got.writes, 3);
    outlet_close(&o);
    free(x);
}

static void failures_are_told(void **state)
{
    bf16 *x = numbers(100);
    const struct tensor t = tensor_make(DTYPE_BF16, 1, (int64_t[]){100}, x);
    struct outlet o = open_on(&device);
    struct error err = {0};

    (void)state;
    fail_wait = 1;
    write_bf16(&o, 0, &t);
    assert_int_equal(outlet_flush(&o, &err), -1);
    assert_int_equal(err.code, 500);
    assert_non_null(strstr(err.text, "fake:0"));
    assert_non_null(strstr(err.text, "it is on fire"));
    outlet_close(&o);
    err = (struct error){0};
    fail_wait = 0;
    o = open_on(&device);
    got.fail_at = got.writes + 1;
    write_bf16(&o, 0, &t);
    assert_null(outlet_read(&o, &t, &err));
    assert_int_equal(err.code, 499);
    outlet_close(&o);
    free(x);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(views_leave_row_by_row, clear, clear),
        cmocka_unit_test_setup_teardown(the_host_reads_where_it_can, clear, clear),
        cmocka_unit_test_setup_teardown(small_and_large_values_come_in_order, clear, clear),
        cmocka_unit_test_setup_teardown(what_no_slot_holds_comes_in_parts, clear, clear),
        cmocka_unit_test_setup_teardown(reading_flushes, clear, clear),
        cmocka_unit_test_setup_teardown(failures_are_told, clear, clear),
    };

    return cmocka_run_group_tests_name("unit/outlet", tests, NULL, NULL);
}
