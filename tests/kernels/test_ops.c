/* test_ops.c - every operation, under every numerics, in every version that this CPU can run and
 * on several thread counts, gives the bits of the plain version on one thread.
 *
 * Walks ops.def: an operation without cases fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/versions.h"
#include "tests/kernels/op_cases.h"

/* ---- the versions under test ---- */

enum { VERSIONS_MOST = 16 };

struct versions {
    struct backend *plain; /* one thread: what the others must equal */
    struct backend *other[VERSIONS_MOST];
    int count;
};

enum { NUMERICS_MOST = 16 };

static struct versions versions[NUMERICS_MOST]; /* of each numerics that the CPU can have */
static int numerics_count;

/* Numerics that differ from others in products and attention alone: each of their kernels runs on one
 * number of threads, beside the plain one, and nothing else does. */
static int is_of_products(const struct numerics *numerics)
{
    return numerics->sdpa != SDPA_MKL_AMD || numerics->of_host;
}

static int is_product(enum op op)
{
    return op == OP_linear || op == OP_matmul_qk || op == OP_matmul_pv || op == OP_sdpa;
}

enum { MULTIPLIES = 2 << 20 };

/* Whether a case is small enough for the plain kernels of such numerics, which take their time. */
static int is_short(const struct op_case *c)
{
    const struct tensor *right = c->op == OP_linear ? &c->weight : &c->in[1];
    const int64_t N = right->shape[right->rank == 2 ? 0 : 1];

    if (c->op == OP_matmul_pv)
        return tensor_count(&c->in[0]) * right->shape[2] <= MULTIPLIES;
    return tensor_count(&c->in[0]) * N <= MULTIPLIES;
}

/* As PyTorch with three threads. */
static void set_torch(struct backend *b)
{
    b->torch.threads = b->numerics->of_host ? 3 : 1;
}

static struct backend *open_version(const struct numerics *numerics, const char *isa, int threads)
{
    struct error err = {0};
    struct backend *b = backend_open("cpu", numerics, isa, threads, &err);

    if (!b)
        fail_msg("%s: %s", isa, err.text);
    set_torch(b);
    return b;
}

/* One version on 1, 2 and 3 threads; emulated, the one that is not plain on 2. */
static void open_threads(struct versions *v, const struct numerics *numerics, const char *isa)
{
    const int emulated = tests_are_emulated();

    for (int threads = 1; threads <= 3; threads++)
        if (!emulated || (threads == 2 && strcmp(isa, "plain") != 0))
            v->other[v->count++] = open_version(numerics, isa, threads);
}

static void open_numerics(const struct numerics *numerics)
{
    struct versions *v = &versions[numerics_count++];
    const struct version *version;

    assert_true(numerics_count <= NUMERICS_MOST);
    v->plain = open_version(numerics, "plain", 1);
    for (int i = 0; (version = version_at(i)); i++)
        if (!version_runs(version->name)) {
            if (numerics_count == 1)
                print_message("skip: this CPU lacks %s\n", version->name);
        } else if (!is_of_products(numerics)) {
            open_threads(v, numerics, version->name);
        } else if (version->panels) {
            v->other[v->count++] = open_version(numerics, version->name, 2);
        }
}
static int open_versions(void **state)
{
    const struct numerics *numerics;

    (void)state;
    for (int n = 0; (numerics = numerics_at(n)); n++)
        if (numerics_runs_on(numerics, "cpu"))
            open_numerics(numerics);
    return 0;
}

static int close_versions(void **state)
{
    (void)state;
    for (int n = 0; n < numerics_count; n++) {
        backend_close(versions[n].plain);
        for (int i = 0; i < versions[n].count; i++)
            backend_close(versions[n].other[i]);
    }
    return 0;
}

/* ---- running one case on all of them ---- */

struct tally {
    int64_t cases, elements;
};

static void run_on(struct backend *b, const struct op_case *c, bf16 *out)
{
    struct tensor y = c->out;
    struct weight weight = {0}, bias = {0};
    struct error err = {0};
    struct op_call call = {.backend = b, .attrs = &c->attrs, .scope = c->scope, .out = &y};

    y.data = out;
    for (int i = 0; i < c->count; i++)
        call.in[i] = &c->in[i];
    if (c->weight.rank) {
        assert_int_equal(b->weight_open(b, c->op, &c->weight, NULL, NULL, &weight, &err), 0);
        call.weight = &weight;
    }
    if (c->bias.rank) {
        assert_int_equal(b->weight_open(b, c->op, &c->bias, NULL, NULL, &bias, &err), 0);
        call.bias = &bias;
    }
    assert_int_equal(b->op[c->op](&call), 0);
    if (call.weight)
        b->weight_close(b, &weight);
    if (call.bias)
        b->weight_close(b, &bias);
}

static void compare(void *user, const struct op_case *c)
{
    struct tally *tally = user;
    const int64_t n = op_case_storage(&c->out);
    bf16 *want = op_case_take(n), *got = op_case_take(n);
    for (int k = 0; k < numerics_count; k++) {
        const struct numerics *numerics = versions[k].plain->numerics;

        if (is_of_products(numerics) && (!is_product(c->op) || !is_short(c) ||
                                         (c->op == OP_sdpa && numerics->sdpa == SDPA_NONE)))
            continue;
        memset(want, 0x5a, (size_t)n * sizeof(*want));
        run_on(versions[k].plain, c, want);
        for (int v = 0; v < versions[k].count; v++) {
            struct backend *b = versions[k].other[v];
            int64_t differing;

            memset(got, 0x5a, (size_t)n * sizeof(*got));
            run_on(b, c, got);
            differing = bf16_differing(want, got, n);
            if (differing)
                fail_msg("%s %s: %s, %s, %d threads: %lld of %lld elements differ", op_name(c->op),
                         c->label, b->numerics->name, b->isa, b->threads, (long long)differing,
                         (long long)n);
            tally->cases++;
            tally->elements += tensor_count(&c->out);
        }
    }
    free(want);
    free(got);
}

/* ---- the walk ---- */

static void test_op(enum op op)
{
    struct tally tally = {0};

    if (op_cases_walk(op, compare, &tally))
        fail_msg("%s: no cases", op_name(op));
    print_message("%s: %lld comparisons, %lld elements, 0 differing\n", op_name(op),
                  (long long)tally.cases, (long long)tally.elements);
}

#define OP(name, ...)                                                                              \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        test_op(OP_##name);                                                                        \
    }
#include "kernels/ops.def"

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define OP(name, ...) cmocka_unit_test(test_##name),
#include "kernels/ops.def"
    };

    return cmocka_run_group_tests_name("kernels/ops", tests, open_versions, close_versions);
}
