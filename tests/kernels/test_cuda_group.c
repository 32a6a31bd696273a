/* test_cuda_group.c - operations that the CUDA backend does in one launch have the bits that they have one
 * after the other on the CPU, in the plain version on one thread; in several orders of threads on the
 * emulator.  Skipped without a device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kernels/recipes.h"

/* The emulator's, see tests/emulated/cuda/control.h; not there on a device. */
void emulated_set_order(int order) __attribute__((weak));

static const int orders[] = {0, 1, 77};

enum { ORDERS = sizeof(orders) / sizeof(orders[0]) };

static struct backend *plain, *cuda; /* cuda: NULL without a device */

static int open_both(const struct numerics *numerics)
{
    struct error err = {0};

    plain = backend_open("cpu", numerics, "plain", 1, &err);
    assert_non_null(plain);
    cuda = backend_open("cuda:0", numerics, NULL, 0, &err);
    if (!cuda && emulated_set_order)
        fail_msg("cuda:0: %s", err.text);
    if (!cuda)
        print_message("skip: no cuda:0 (%s)\n", err.text);
    return 0;
}

static int open_avx512_bf16(void **state)
{
    (void)state;
    return open_both(numerics_find("torch-cpu/avx512_bf16"));
}

static int open_avx2(void **state)
{
    (void)state;
    return open_both(numerics_find("torch-cpu/avx2"));
}

static int close_both(void **state)
{
    (void)state;
    backend_close(plain);
    backend_close(cuda);
    return 0;
}

/* ---- a recipe on the device ---- */

static void send(const struct recipe *recipe, const struct values *host, struct values *v)
{
    for (int i = 0; i < recipe->inputs + recipe->steps; i++) {
        v->at[i] = host->at[i];
        v->at[i].data = cuda->alloc(cuda, tensor_bytes(&host->at[i]));
        assert_non_null(v->at[i].data);
        assert_int_equal(cuda->copy(cuda, &v->at[i], &host->at[i]), 0);
    }
}

static void fetch(const struct recipe *recipe, struct values *v, struct values *host)
{
    for (int i = 0; i < recipe->inputs + recipe->steps; i++) {
        assert_int_equal(cuda->read(cuda, host->at[i].data, &v->at[i]), 0);
        cuda->free(cuda, v->at[i].data);
    }
}

static void run_group(const struct recipe *recipe, const struct op_scope *scope,
                      struct values *host)
{
    struct op_call call[GROUP_STEPS];
    struct values v;
    struct opened o;

    open_weights(cuda, recipe, &o);
    send(recipe, host, &v);
    for (int s = 0; s < recipe->steps; s++)
        call[s] = call_of(cuda, recipe, s, scope, &v, &o);
    assert_int_equal(cuda->group[recipe->group](call, recipe->steps, 1), 0);
    fetch(recipe, &v, host);
    close_weights(cuda, recipe, &o);
}

/* ---- comparing ---- */

static int64_t compared;

static void compare_values(const struct recipe *recipe, const struct op_scope *scope, int order,
                           const struct values *want, const struct values *got)
{
    const int end = recipe->inputs + recipe->steps;
    const int only_last = recipe->group == GROUP_LINEAR_ADD || recipe->group == GROUP_GATED;

    for (int i = only_last ? end - 1 : 0; i < end; i++) {
        const int64_t n = op_case_storage(&want->at[i]);
        const int64_t differing = bf16_differing(want->at[i].data, got->at[i].data, n);

        if (differing)
            fail_msg("%s, %lld tokens, order %d: %lld of %lld elements of value %d differ",
                     recipe->label, (long long)scope->tokens, order, (long long)differing,
                     (long long)n, i);
        compared += n;
    }
}

static void compare_on(const struct recipe *recipe, const struct op_scope *scope, int order,
                       const struct values *want)
{
    struct values got;

    if (emulated_set_order)
        emulated_set_order(order);
    take_values(recipe, scope, 1, &got);
    run_group(recipe, scope, &got);
    compare_values(recipe, scope, order, want, &got);
    free_values(recipe, &got);
}

/* Decode, few rows of every kind, and more than few. */
static const struct op_scope scopes[] = {{.tokens = 1, .past = 5}, {.tokens = 2, .past = 0},
                                         {.tokens = 3, .past = 7}, {.tokens = 8, .past = 1},
                                         {.tokens = 9, .past = 0}, {.tokens = 33, .past = 0}};

static void compare(const struct recipe *recipe)
{
    for (size_t i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++) {
        const struct calls calls = {1, {scopes[i]}};
        struct values want;

        take_values(recipe, &scopes[i], 1, &want);
        run_alone(plain, recipe, &calls, &want);
        for (int k = 0; k < (i < 2 ? ORDERS : 1); k++)
            compare_on(recipe, &scopes[i], orders[i < 2 ? k : (int)i % ORDERS], &want);
        free_values(recipe, &want);
    }
}

/* ---- recipes ---- */

static void compare_and_free(struct recipe *recipe, const char *what, int64_t N)
{
    snprintf(recipe->label, sizeof(recipe->label), "%s of %d inputs, %d outputs, fill %d", what,
             (int)recipe->width[0], (int)N, (int)recipe->fill);
    compare(recipe);
    free_recipe(recipe);
}

/* K, N: one chain of k to more than a block has warps, N around warps; some too small to be PAIRS. */
static const int64_t sizes[][2] = {{576, 192}, {513, 33}, {1025, 97}, {4700, 40},
                                   {100, 1},   {96, 161}, {40, 321}};

typedef void sizes_fn(struct random *r, enum fill fill, int64_t K, int64_t N);

static void for_sizes(sizes_fn *fn)
{
    static const enum fill fills[] = {FILL_PLAIN, FILL_WILD};
    struct random r = {19};

    if (!cuda)
        skip();
    compared = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int f = 0; f < 2; f++)
            fn(&r, fills[f], sizes[i][0], sizes[i][1]);
    print_message("%lld elements, 0 differing\n", (long long)compared);
}

static void linears(struct random *r, enum fill fill, int64_t K, int64_t N)
{
    for (int more = 2; more < 4; more++) { /* four are more than one launch takes */
        struct recipe recipe = {.group = GROUP_LINEARS, .inputs = 1, .width = {K}, .fill = fill};

        add_linear(&recipe, r, 0, N, 1);
        for (int i = 0; i < more; i++)
            add_linear(&recipe, r, 0, i == 1 ? N + 64 : N / 3 + 1, i);
        compare_and_free(&recipe, "linears", N);
    }
}

static void linear_add(struct random *r, enum fill fill, int64_t K, int64_t N)
{
    for (int first = 0; first < 2; first++) {
        struct recipe recipe = {
            .group = GROUP_LINEAR_ADD, .inputs = 2, .width = {K, N}, .fill = fill};

        add_linear(&recipe, r, 0, N, first);
        add_op(&recipe, OP_add, N, first ? 2 : 1, first ? 1 : 2, -1);
        compare_and_free(&recipe, "linear and add", N);
    }
}

static void gated(struct random *r, enum fill fill, int64_t K, int64_t N)
{
    for (int first = 0; first < 2; first++) {
        struct recipe recipe = {.group = GROUP_GATED, .inputs = 1, .width = {K}, .fill = fill};

        add_linear(&recipe, r, 0, N, first);
        add_linear(&recipe, r, 0, N, 0);
        add_op(&recipe, OP_silu, N, 1, -1, -1);
        add_op(&recipe, OP_mul, N, first ? 2 : 3, first ? 3 : 2, -1);
        compare_and_free(&recipe, "gated", N);
    }
}

/* Inputs q, k, v, cos, sin; then steps 5 .. 9.  appended: which of k and v is appended first. */
static void attention(enum fill fill, int appended)
{
    const int64_t H = HEADS * WIDTH, G = HEADS / SHARED * WIDTH;
    struct recipe recipe = {.group = GROUP_EACH,
                            .inputs = 5,
                            .width = {H, G, G, WIDTH, WIDTH},
                            .fill = fill,
                            .label = "attention"};

    add_op(&recipe, OP_rope, H, 0, 3, 4);
    add_op(&recipe, OP_rope, G, 1, 3, 4);
    add_op(&recipe, OP_cache_append, G, appended ? 2 : 6, -1, -1);
    add_op(&recipe, OP_cache_append, G, appended ? 6 : 2, -1, -1);
    add_op(&recipe, OP_sdpa, H, 5, appended ? 8 : 7, appended ? 7 : 8);
    for (int s = 0; s < recipe.steps; s++)
        recipe.step[s].attrs = (struct op_attrs){.by = 0.25, .width = WIDTH};
    compare(&recipe);
}

static void test_linears(void **state)
{
    (void)state;
    for_sizes(linears);
}

static void test_linear_add(void **state)
{
    (void)state;
    for_sizes(linear_add);
}

static void test_gated(void **state)
{
    (void)state;
    for_sizes(gated);
}

static void test_each(void **state)
{
    (void)state;
    if (!cuda)
        skip();
    compared = 0;
    for (int appended = 0; appended < 2; appended++) {
        attention(FILL_PLAIN, appended);
        attention(FILL_WILD, appended);
    }
    print_message("%lld elements, 0 differing\n", (long long)compared);
}

/* Several calls of the model do not run together here. */
static void test_one_call_alone(void **state)
{
    (void)state;
    if (!cuda)
        skip();
    assert_null(cuda->group[GROUP_SAME]);
    for (int g = GROUP_SAME + 1; g < GROUP_COUNT; g++)
        assert_int_equal(cuda->group[g](NULL, 1, 2), -1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linears),        cmocka_unit_test(test_linear_add),
        cmocka_unit_test(test_gated),          cmocka_unit_test(test_each),
        cmocka_unit_test(test_one_call_alone),
    };

    static const struct CMUnitTest tests_of_avx2[] = {
        cmocka_unit_test(test_gated),
        cmocka_unit_test(test_each),
    };

    return cmocka_run_group_tests_name("cuda, torch-cpu/avx512_bf16", tests, open_avx512_bf16,
                                       close_both) +
           cmocka_run_group_tests_name("cuda, torch-cpu/avx2", tests_of_avx2, open_avx2,
                                       close_both);
}
