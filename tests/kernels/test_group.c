/* test_group.c - operations done as one, for several calls of the model, give the bits that they
 * give one after the other, each call alone, in the plain version on one thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/versions.h"
#include "tests/kernels/recipes.h"

static const struct calls several[] = {
    {1, {{.tokens = 1, .past = 5}}},
    {1, {{.tokens = 7, .past = 0}}},
    {1, {{.tokens = 45, .past = 0}}},
    {2, {{.tokens = 1, .past = 700}, {.tokens = 1, .past = 3}}},
    {4, {{.tokens = 1, .past = 9}, {.tokens = 5}, {.tokens = 1}, {.tokens = 13, .past = 1}}},
    {3, {{.tokens = 200}, {.tokens = 1, .past = 2}, {.tokens = 33, .past = 4}}},
    {3, {{.tokens = 1, .past = 4, .batch = 3}, {.tokens = 1, .past = 4}, {.tokens = 4}}},
    {9,
     {{.tokens = 1},
      {.tokens = 1, .past = 1},
      {.tokens = 1, .past = 2},
      {.tokens = 1, .past = 3},
      {.tokens = 1, .past = 4},
      {.tokens = 1, .past = 5},
      {.tokens = 1, .past = 6},
      {.tokens = 1, .past = 7},
      {.tokens = 1, .past = 8}}},
};

/* ---- the versions under test ---- */

enum { VERSIONS_MOST = 16 };

static struct backend *plain, *other[VERSIONS_MOST];
static int others;

static struct backend *open_version(const struct numerics *numerics, const char *isa, int threads)
{
    struct error err = {0};
    struct backend *b = backend_open("cpu", numerics, isa, threads, &err);

    if (!b)
        fail_msg("%s: %s", isa, err.text);
    b->torch.threads = numerics->of_host ? 3 : 1;
    return b;
}

static int open_versions(const struct numerics *numerics)
{
    static const char *const isas[] = {"avx512_bf16", "avx2", "neon", "plain"};
    const int least = numerics->of_host ? 2 : 1, most = numerics->of_host ? 2 : 3;

    plain = open_version(numerics, "plain", 1);
    others = 0;
    for (int i = 0; i < 4; i++)
        for (int threads = least; threads <= most; threads++)
            if (version_runs(isas[i]) && !(numerics->of_host && strcmp(isas[i], "plain") == 0))
                other[others++] = open_version(numerics, isas[i], threads);
    return 0;
}

static int open_avx512_bf16(void **state)
{
    (void)state;
    return open_versions(numerics_find("torch-cpu/avx512_bf16"));
}

static int open_amx_bf16(void **state)
{
    (void)state;
    return open_versions(numerics_find("torch-cpu/amx_bf16"));
}

static int open_avx512(void **state)
{
    (void)state;
    return open_versions(numerics_find("torch-cpu/avx512"));
}

static int open_avx2(void **state)
{
    (void)state;
    return open_versions(numerics_find("torch-cpu/avx2"));
}

static int close_versions(void **state)
{
    (void)state;
    backend_close(plain);
    for (int i = 0; i < others; i++)
        backend_close(other[i]);
    return 0;
}

static void run_group(struct backend *b, const struct recipe *recipe, const struct calls *calls,
                      struct values *v)
{
    struct op_call call[GROUP_STEPS * PARTS_MOST];
    struct opened o;

    open_weights(b, recipe, &o);
    for (int s = 0; s < recipe->steps; s++)
        for (int k = 0; k < calls->parts; k++)
            call[s * calls->parts + k] = call_of(b, recipe, s, &calls->scope[k], &v[k], &o);
    assert_int_equal(b->group[recipe->group](call, recipe->steps, calls->parts), 0);
    close_weights(b, recipe, &o);
}

/* ---- comparing ---- */

static int64_t compared;

static void compare_values(const struct backend *b, const struct recipe *recipe, int part,
                           const struct values *want, const struct values *got)
{
    const int end = recipe->inputs + recipe->steps;
    const int only_last = recipe->group == GROUP_LINEAR_ADD || recipe->group == GROUP_GATED;

    for (int i = only_last ? end - 1 : 0; i < end; i++) {
        const int64_t n = op_case_storage(&want->at[i]);
        const int64_t differing = bf16_differing(want->at[i].data, got->at[i].data, n);

        if (differing)
            fail_msg("%s: %s, %d threads, part %d: %lld of %lld elements of value %d differ",
                     recipe->label, b->isa, b->threads, part, (long long)differing, (long long)n,
                     i);
        compared += n;
    }
}

static void compare_on(struct backend *b, const struct recipe *recipe, const struct calls *calls,
                       const struct values *want)
{
    struct values got[PARTS_MOST];

    for (int k = 0; k < calls->parts; k++)
        take_values(recipe, &calls->scope[k], (uint64_t)k, &got[k]);
    run_group(b, recipe, calls, got);
    for (int k = 0; k < calls->parts; k++) {
        compare_values(b, recipe, k, &want[k], &got[k]);
        free_values(recipe, &got[k]);
    }
}

static void compare(const struct recipe *recipe)
{
    for (size_t c = 0; c < sizeof(several) / sizeof(several[0]); c++) {
        const struct calls *calls = &several[c];
        struct values want[PARTS_MOST];

        if (c % 2 && recipe->fill != FILL_PLAIN) /* half of them are enough, and quicker */
            continue;
        for (int k = 0; k < calls->parts; k++)
            take_values(recipe, &calls->scope[k], (uint64_t)k, &want[k]);
        run_alone(plain, recipe, calls, want);
        for (int i = 0; i < others; i++)
            if (other[i]->group[recipe->group])
                compare_on(other[i], recipe, calls, want);
        for (int k = 0; k < calls->parts; k++)
            free_values(recipe, &want[k]);
    }
}

static void compare_and_free(struct recipe *recipe, const char *what, int64_t N)
{
    snprintf(recipe->label, sizeof(recipe->label), "%s of %d inputs, %d outputs, fill %d", what,
             (int)recipe->width[0], (int)N, (int)recipe->fill);
    compare(recipe);
    free_recipe(recipe);
}

/* Odd sizes around whole and half panels, and around blocks of k; some too small to be PAIRS. */
static const int64_t sizes[][2] = {{37, 31},   {64, 65},  {576, 192}, {513, 33},
                                   {1025, 97}, {40, 321}, {100, 1},   {96, 161}};

typedef void sizes_fn(struct random *r, enum fill fill, int64_t K, int64_t N);

static void for_sizes(sizes_fn *fn)
{
    static const enum fill fills[] = {FILL_PLAIN, FILL_WILD};
    struct random r = {17};

    compared = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int f = 0; f < 2; f++)
            fn(&r, fills[f], sizes[i][0], sizes[i][1]);
    print_message("%lld elements, 0 differing\n", (long long)compared);
}

static void linears(struct random *r, enum fill fill, int64_t K, int64_t N)
{
    struct recipe recipe = {.group = GROUP_LINEARS, .inputs = 1, .width = {K}, .fill = fill};

    add_linear(&recipe, r, 0, N, 1);
    add_linear(&recipe, r, 0, N / 3 + 1, 0);
    add_linear(&recipe, r, 0, N + 64, 1);
    compare_and_free(&recipe, "linears", N);
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
    for (int i = 0; i < 4; i++) {
        struct recipe recipe = {.group = GROUP_GATED, .inputs = 1, .width = {K}, .fill = fill};
        const int first = i % 2;

        add_linear(&recipe, r, 0, N, first);
        add_linear(&recipe, r, 0, N, 0);
        add_op(&recipe, i < 2 ? OP_silu : OP_gelu_tanh, N, 1, -1, -1);
        add_op(&recipe, OP_mul, N, first ? 2 : 3, first ? 3 : 2, -1);
        compare_and_free(&recipe, "gated", N);
    }
}

/* Inputs q, k, v, cos, sin; then steps 5 .. 9. */
static void attention(struct random *r, enum fill fill)
{
    const int64_t H = HEADS * WIDTH, G = HEADS / SHARED * WIDTH;
    struct recipe recipe = {.group = GROUP_EACH,
                            .inputs = 5,
                            .width = {H, G, G, WIDTH, WIDTH},
                            .fill = fill,
                            .label = "attention"};

    (void)r;
    add_op(&recipe, OP_rope, H, 0, 3, 4);
    add_op(&recipe, OP_rope, G, 1, 3, 4);
    add_op(&recipe, OP_cache_append, G, 6, -1, -1);
    add_op(&recipe, OP_cache_append, G, 2, -1, -1);
    add_op(&recipe, OP_sdpa, H, 5, 7, 8);
    for (int s = 0; s < recipe.steps; s++)
        recipe.step[s].attrs = (struct op_attrs){.by = 0.25, .width = WIDTH};
    compare(&recipe);
}

/* One operation, and a linear of every size. */
static void same(struct random *r, enum fill fill, int64_t K, int64_t N)
{
    struct recipe recipe = {.group = GROUP_SAME, .inputs = 1, .width = {K}, .fill = fill};

    add_linear(&recipe, r, 0, N, 1);
    compare_and_free(&recipe, "one linear", N);
    recipe = (struct recipe){.group = GROUP_SAME, .inputs = 2, .width = {N, N}, .fill = fill};
    add_op(&recipe, OP_mul, N, 0, 1, -1);
    compare_and_free(&recipe, "one mul", N);
}

static void test_same(void **state)
{
    (void)state;
    for_sizes(same);
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
    struct random r = {3};

    (void)state;
    compared = 0;
    attention(&r, FILL_PLAIN);
    attention(&r, FILL_WILD);
    assert_true(compared > 0);
    print_message("%lld elements, 0 differing\n", (long long)compared);
}

/* Where products are panels there are all kinds of group, and elsewhere those that gain. */
static void test_which_there_are(void **state)
{
    (void)state;
    for (int i = 0; i < others; i++) {
        const int panels = strcmp(other[i]->numerics->name, "torch-cpu/avx2") != 0 &&
                           strcmp(other[i]->isa, "plain") != 0;

        for (int g = 0; g < GROUP_COUNT; g++)
            assert_int_equal(other[i]->group[g] != NULL,
                             panels || g == GROUP_SAME || g == GROUP_EACH);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_there_are),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_linears),
        cmocka_unit_test(test_linear_add),
        cmocka_unit_test(test_gated),
    };
    static const struct CMUnitTest tests_of_host[] = {
        cmocka_unit_test(test_which_there_are),
        cmocka_unit_test(test_linears),
        cmocka_unit_test(test_linear_add),
        cmocka_unit_test(test_gated),
    };
    static const struct CMUnitTest tests_of_avx2[] = {
        cmocka_unit_test(test_which_there_are),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_each),
    };

    return cmocka_run_group_tests_name("torch-cpu/avx512_bf16", tests, open_avx512_bf16,
                                       close_versions) +
           cmocka_run_group_tests_name("torch-cpu/amx_bf16", tests_of_host, open_amx_bf16,
                                       close_versions) +
           cmocka_run_group_tests_name("torch-cpu/avx512", tests_of_host, open_avx512,
                                       close_versions) +
           cmocka_run_group_tests_name("torch-cpu/avx2", tests_of_avx2, open_avx2, close_versions);
}
