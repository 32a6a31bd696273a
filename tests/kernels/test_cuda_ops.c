/* test_cuda_ops.c - every operation on cuda:0, under the numerics that the CPU has too, gives the
 * bits of the plain CPU version on one thread; on the emulator in several orders of threads, or in
 * that of SAMEBIT_EMULATED_ORDER.
 *
 * Walks ops.def with the cases of test_ops.c: an operation without cases, or without a kernel,
 * fails.  Skips where there is no device, which the emulator never lacks.  With an argument, a pattern
 * of names (test_r*), runs only these. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kernels/op_cases.h"

/* The emulator's, see tests/emulated/cuda/control.h; not there on a device. */
void emulated_set_order(int order) __attribute__((weak));

/* Forward, reverse, and seeds. */
static const int orders[] = {0, 1, 2, 77};

enum {
    ORDERS = sizeof(orders) / sizeof(orders[0]),
    LARGE = 1 << 16 /* elements read and written by a case that takes its turn in one order only */
};

enum { NUMERICS_MOST = 16 };

struct pair {
    struct backend *plain, *cuda; /* cuda: NULL without a device */
};

static struct pair pairs[NUMERICS_MOST]; /* of those that have the CPU's kernels */
static int pair_count;

static void open_pair(const struct numerics *numerics)
{
    struct pair *p = &pairs[pair_count++];
    struct error err = {0};

    assert_true(pair_count <= NUMERICS_MOST);
    p->plain = backend_open("cpu", numerics, "plain", 1, &err);
    assert_non_null(p->plain);
    p->cuda = backend_open("cuda:0", numerics, NULL, 0, &err);
    if (!p->cuda && emulated_set_order)
        fail_msg("cuda:0: %s", err.text);
    if (!p->cuda && pair_count == 1)
        print_message("skip: no cuda:0 (%s)\n", err.text);
}

static int open_pairs(void **state)
{
    const struct numerics *n;

    (void)state;
    for (int i = 0; (n = numerics_at(i)); i++)
        if (n->devices == (DEVICE_CPU | DEVICE_CUDA))
            open_pair(n);
    return 0;
}

static int close_pairs(void **state)
{
    (void)state;
    for (int n = 0; n < pair_count; n++) {
        backend_close(pairs[n].plain);
        backend_close(pairs[n].cuda);
    }
    return 0;
}

/* ---- a case on either ---- */

static void run_plain(struct backend *b, const struct op_case *c, bf16 *out)
{
    struct tensor y = c->out;
    const struct weight weight = {.plain = c->weight}, bias = {.plain = c->bias};
    struct op_call call = {.backend = b,
                           .weight = c->weight.rank ? &weight : NULL,
                           .bias = c->bias.rank ? &bias : NULL,
                           .out = &y,
                           .attrs = &c->attrs,
                           .scope = c->scope};

    y.data = out;
    for (int i = 0; i < c->count; i++)
        call.in[i] = &c->in[i];
    assert_int_equal(b->op[c->op](&call), 0);
}

/* All of a tensor's memory, as one row. */
static struct tensor storage_of(const struct tensor *t, void *data)
{
    const int64_t n = op_case_storage(t);

    return tensor_make(t->dtype, 1, &n, data);
}

/* `t` with its data, taken from the host, on the device. */
static struct tensor sent(struct backend *b, const struct tensor *t, void *host)
{
    const struct tensor from = storage_of(t, host);
    struct tensor to = *t, all;

    to.data = b->alloc(b, tensor_bytes(&from));
    assert_non_null(to.data);
    all = storage_of(t, to.data);
    assert_int_equal(b->copy(b, &all, &from), 0);
    return to;
}

static const struct weight *opened(struct backend *b, enum op op, const struct tensor *plain,
                                   struct weight *weight)
{
    struct error err = {0};

    if (!plain->rank)
        return NULL;
    if (b->weight_open(b, op, plain, NULL, NULL, weight, &err))
        fail_msg("%s: weight: %s", op_name(op), err.text);
    return weight;
}

/* out: what its memory held before, and holds after. */
static void run_cuda(struct backend *b, const struct op_case *c, bf16 *out)
{
    struct tensor in[3], y = sent(b, &c->out, out), all = storage_of(&c->out, y.data);
    struct weight weight = {0}, bias = {0};
    struct op_call call = {.backend = b, .attrs = &c->attrs, .scope = c->scope, .out = &y};

    for (int i = 0; i < c->count; i++) {
        in[i] = sent(b, &c->in[i], c->in[i].data);
        call.in[i] = &in[i];
    }
    call.weight = opened(b, c->op, &c->weight, &weight);
    call.bias = opened(b, c->op, &c->bias, &bias);
    assert_int_equal(b->op[c->op](&call), 0);
    assert_int_equal(b->read(b, out, &all), 0);
    if (call.weight)
        b->weight_close(b, &weight);
    if (call.bias)
        b->weight_close(b, &bias);
    for (int i = 0; i < c->count; i++)
        b->free(b, in[i].data);
    b->free(b, y.data);
}

/* ---- comparing ---- */

static int orders_are_ours(void)
{
    return emulated_set_order && !getenv("SAMEBIT_EMULATED_ORDER");
}

struct tally {
    int64_t cases, runs, elements;
};

static void compare_run(const struct op_case *c, int n, int order, const bf16 *want, bf16 *got,
                        struct tally *tally)
{
    const int64_t count = op_case_storage(&c->out);
    int64_t differing;

    if (orders_are_ours())
        emulated_set_order(order);
    memset(got, 0x5a, (size_t)count * sizeof(*got));
    run_cuda(pairs[n].cuda, c, got);
    differing = bf16_differing(want, got, count);
    if (differing)
        fail_msg("%s %s: %s, order %d: %lld of %lld elements differ", op_name(c->op), c->label,
                 pairs[n].plain->numerics->name, orders_are_ours() ? order : -1,
                 (long long)differing, (long long)count);
    tally->runs++;
    tally->elements += tensor_count(&c->out);
}

static int is_large(const struct op_case *c)
{
    int64_t elements = tensor_count(&c->out);

    for (int i = 0; i < c->count; i++)
        elements += tensor_count(&c->in[i]);
    return elements + (c->weight.rank ? tensor_count(&c->weight) : 0) > LARGE;
}

static void compare(void *user, const struct op_case *c)
{
    struct tally *tally = user;
    const int64_t count = op_case_storage(&c->out);
    bf16 *want = op_case_take(count), *got = op_case_take(count);
    const int all = orders_are_ours() && !is_large(c);

    for (int n = 0; n < pair_count; n++) {
        memset(want, 0x5a, (size_t)count * sizeof(*want));
        run_plain(pairs[n].plain, c, want);
        for (int i = 0; i < (all ? ORDERS : 1); i++)
            compare_run(c, n, orders[all ? i : tally->cases % ORDERS], want, got, tally);
    }
    tally->cases++;
    free(want);
    free(got);
}

static void test_op(enum op op)
{
    struct tally tally = {0};

    if (!pairs[0].cuda)
        skip();
    for (int n = 0; n < pair_count; n++)
        if (!pairs[n].cuda->op[op])
            fail_msg("%s: no kernel for %s", op_name(op), pairs[n].plain->numerics->name);
    if (op_cases_walk(op, compare, &tally))
        fail_msg("%s: no cases", op_name(op));
    print_message("%s: %lld cases, %lld runs, %lld elements, 0 differing\n", op_name(op),
                  (long long)tally.cases, (long long)tally.runs, (long long)tally.elements);
}

static void test_large_products(void **state)
{
    struct tally tally = {0};

    (void)state;
    if (!pairs[0].cuda)
        skip();
    op_cases_walk_large(compare, &tally);
    print_message("large products: %lld cases, %lld runs, %lld elements, 0 differing\n",
                  (long long)tally.cases, (long long)tally.runs, (long long)tally.elements);
}

#define OP(name, ...)                                                                              \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        test_op(OP_##name);                                                                        \
    }
#include "kernels/ops.def"

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
#define OP(name, ...) cmocka_unit_test(test_##name),
#include "kernels/ops.def"
        cmocka_unit_test(test_large_products),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("kernels/cuda", tests, open_pairs, close_pairs);
}
