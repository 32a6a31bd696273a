/* test_cuda_engine.c - a model on a CUDA device gives the bits that it gives on the CPU, whatever
 * is asked of it and put into it.  Skipped without one. */
#include "tests/unit/kept_runs.h"

#include <pthread.h>

static struct engine *cuda; /* NULL where there is none */

static void there_is_no_device(void **state)
{
    (void)state;
    skip();
}

static void assert_equal_runs(const struct run_request *request)
{
    struct kept a = run_kept(engine, request, -1), b = run_kept(cuda, request, -1);

    if (a.err.code || b.err.code)
        fail_msg("%s%s", a.err.text, b.err.text);
    assert_int_equal(a.run->entry_count, b.run->entry_count);
    assert_same(&a, &b, 0, a.run->entry_count);
    assert_int_equal(a.run->next, b.run->next);
    /* How much depends on the alignment and on which operations each does as one. */
    assert_true(a.run->memory > 0 && b.run->memory > 0);
    kept_free(&a);
    kept_free(&b);
}

static void every_value_is_the_cpus(void **state)
{
    static const int64_t rows[] = {0, 3, 4, TOKENS - 1}, chunks[] = {4, 1, 6};
    struct run_request r;

    (void)state;
    for (int a = 0; a < ATTENTION_COUNT; a++) {
        attention = (enum attention)a;
        r = request_of(everything, 1, STEPS);
        assert_equal_runs(&r);
        r.which = POSITIONS_LAST;
        assert_equal_runs(&r);
        r.which = POSITIONS_LIST, r.positions = rows, r.position_count = 4;
        assert_equal_runs(&r);
        r = request_of(everything, 1, STEPS);
        r.chunks = chunks, r.chunk_count = 3;
        assert_equal_runs(&r);
        r.padding = 2;
        assert_equal_runs(&r);
    }
}

/* Nothing is asked for: the tokens alone. */
static void greedy_tokens_are_the_cpus(void **state)
{
    struct run_request r;

    (void)state;
    attention = ATTENTION_EAGER;
    r = request_of(NULL, 0, STEPS);
    assert_equal_runs(&r);
}

/* In f32, which is rounded on its way to the device; in one of the steps; of the last value. */
static void what_is_put_in_is_used(void **state)
{
    static const char *const names[] = {"layer_0_final", "step_1/mlp_output", "logits"};
    static float values[TOKENS * 4096];
    struct run_replace replace[3];
    struct run_request r;

    (void)state;
    attention = ATTENTION_EAGER;
    for (int i = 0; i < TOKENS * 4096; i++)
        values[i] = (float)(i * 2654435761u >> 8) / 8388608.0f - 1;
    for (int i = 0; i < 3; i++) {
        const struct program *p = engine->program[ATTENTION_EAGER];
        const int step = program_find(p, i == 1 ? "mlp_output" : names[i]);
        const int64_t shape[] = {i == 1 ? 1 : TOKENS, p->steps[step].shape.at[1].n};

        assert_true(shape[1] <= 4096);
        replace[i] = (struct run_replace){names[i], tensor_make(DTYPE_F32, 2, shape, values)};
    }
    r = request_of(everything, 1, STEPS);
    r.replace = replace, r.replace_count = 3;
    assert_equal_runs(&r);
}

/* Several at once share the device, its pinned memory and its tables. */
static void *run_beside(void *user)
{
    const struct run_request r = request_of(everything, 1, STEPS);
    struct kept *k = user;

    *k = run_kept(cuda, &r, -1);
    return NULL;
}

static void runs_beside_each_other_do_not_mix(void **state)
{
    enum { RUNS = 4 };
    struct kept k[RUNS], alone;
    struct run_request r;
    pthread_t thread[RUNS];

    (void)state;
    attention = ATTENTION_EAGER;
    r = request_of(everything, 1, STEPS);
    alone = run_kept(engine, &r, -1);
    for (int i = 0; i < RUNS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, run_beside, &k[i]), 0);
    for (int i = 0; i < RUNS; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(k[i].err.code, 0);
        assert_same(&alone, &k[i], 0, alone.run->entry_count);
        kept_free(&k[i]);
    }
    kept_free(&alone);
}

static void a_reader_who_leaves_ends_the_run(void **state)
{
    struct run_request r;

    (void)state;
    attention = ATTENTION_EAGER;
    r = request_of(everything, 1, STEPS);
    for (int64_t at = 0; at < 100; at += 33) {
        struct kept k = run_kept(cuda, &r, at);

        assert_int_equal(k.err.code, 499);
        assert_string_equal(k.err.text, "the test has left");
        kept_free(&k);
    }
    assert_equal_runs(&r);
}

static void torch_cuda_has_eager_attention_only(void **state)
{
    struct error err = {0};
    struct engine *e;
    enum attention found;

    (void)state;
    e = open_tiny_on("cuda:0", numerics_find("torch-cuda"), 0, &err);
    if (!e)
        fail_msg("%s", err.text);
    assert_int_equal(e->attention, ATTENTION_EAGER);
    assert_null(e->program[ATTENTION_SDPA]);
    assert_int_equal(engine_attention(e, "eager", &found, &err), 0);
    assert_int_equal(engine_attention(e, "sdpa", &found, &err), -1);
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "attention");
    assert_non_null(strstr(err.text, "eager is"));
    engine_close(e);
    assert_int_equal(cuda->attention, ATTENTION_SDPA);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_is_the_cpus),
        cmocka_unit_test(greedy_tokens_are_the_cpus),
        cmocka_unit_test(what_is_put_in_is_used),
        cmocka_unit_test(runs_beside_each_other_do_not_mix),
        cmocka_unit_test(a_reader_who_leaves_ends_the_run),
        cmocka_unit_test(torch_cuda_has_eager_attention_only),
    };
    static const struct CMUnitTest none[] = {cmocka_unit_test(there_is_no_device)};
    struct error err = {0};
    int rc;

    cuda = open_tiny_on("cuda:0", numerics_find("torch-cpu/avx512_bf16"), 0, &err);
    if (!cuda)
        printf("skip: %s\n", err.text);
    rc = cuda ? cmocka_run_group_tests_name("unit/cuda_engine", tests, setup, teardown)
              : cmocka_run_group_tests_name("unit/cuda_engine", none, NULL, NULL);
    engine_close(cuda);
    return rc;
}
