/* test_prefixes.c - a run that goes on after what an earlier one has computed has the bits that it
 * would have had without, and computes no more than it must. */
#include "tests/unit/kept_runs.h"

#include "server/engine/prefixes.h"

/* Every call of the model begins with the embedding of its tokens. */
static int64_t calls_made;
static op_fn *embedding;

static int count_embedding(const struct op_call *call)
{
    calls_made++;
    return embedding(call);
}

static void count_calls(struct backend *b)
{
    if (b->op[OP_embedding] != count_embedding) {
        embedding = b->op[OP_embedding];
        b->op[OP_embedding] = count_embedding;
    }
    calls_made = 0;
}

static int64_t told[64], told_count;

static int note_token(void *user, int64_t step, int64_t id, struct error *err)
{
    (void)user;
    (void)err;
    assert_int_equal(step, told_count);
    told[told_count++] = id;
    return 0;
}

static struct kept run_on(struct engine *e, const struct run_request *request)
{
    struct kept k = {.fail_at = -1};
    const struct run_sink sink = {.write = keep, .token = note_token, .user = &k};

    count_calls(e->backend);
    told_count = 0;
    k.run = run_create(e, request, &limits, &k.err);
    assert_non_null(k.run);
    k.data = calloc((size_t)k.run->entry_count + 1, sizeof(*k.data));
    k.size = calloc((size_t)k.run->entry_count + 1, sizeof(*k.size));
    assert_int_equal(run_alone(k.run, &sink, &k.err), 0);
    return k;
}

/* Runs the request where something may be reused, and where nothing is: equal values, equal tokens,
 * in so many calls. */
static void expect_calls(const struct run_request *request, int64_t calls)
{
    struct kept fresh, again = run_on(engine, request);

    assert_int_equal(calls_made, calls);
    assert_int_equal(told_count, request->steps + 1);
    assert_null(single->prefixes);
    fresh = run_kept(single, request, -1);
    assert_same(&again, &fresh, 0, fresh.run->entry_count);
    assert_memory_equal(told, fresh.run->tokens + request->token_count,
                        sizeof(int64_t) * (size_t)request->steps);
    assert_int_equal(told[request->steps], fresh.run->next);
    assert_int_equal(again.run->next, fresh.run->next);
    kept_free(&fresh);
    kept_free(&again);
}

static void with_reuse(uint64_t bytes)
{
    prefixes_free(engine->prefixes);
    engine->prefixes = prefixes_create(bytes);
    assert_non_null(engine->prefixes);
}

static void an_equal_run_makes_its_last_call_only(void **state)
{
    const struct run_request request = request_of(NULL, 0, STEPS);

    (void)state;
    with_reuse(1 << 20);
    expect_calls(&request, 1 + STEPS);
    expect_calls(&request, 1);
    expect_calls(&request, 1);
}

static void longer_and_shorter_ones_share_what_they_have(void **state)
{
    struct run_request request = request_of(NULL, 0, STEPS);

    (void)state;
    with_reuse(1 << 20);
    expect_calls(&request, 1 + STEPS);
    request.steps = STEPS + 4;
    expect_calls(&request, 4);
    request.steps = 1;
    expect_calls(&request, 1);
    request.steps = STEPS + 4; /* a shorter one does not take a longer one's place */
    expect_calls(&request, 1);
}

static void calls_are_what_is_shared(void **state)
{
    static const int64_t halves[] = {6, 5}, other[] = {5, 6};
    struct run_request request = request_of(NULL, 0, 1);

    (void)state;
    with_reuse(1 << 20);
    expect_calls(&request, 2);
    request.chunks = halves, request.chunk_count = 2;
    expect_calls(&request, 3);
    request.chunks = other;
    expect_calls(&request, 3);
    request.chunks = halves;
    expect_calls(&request, 1);
    request.padding = 2;
    expect_calls(&request, 3);
    request.padding = 0, request.batch = 2;
    expect_calls(&request, 3);
    request.attention = attention == ATTENTION_SDPA ? ATTENTION_EAGER : ATTENTION_SDPA;
    expect_calls(&request, 3);
}

static struct engine *open_of_host(int threads)
{
    struct error err = {0};
    struct engine *e = open_tiny_on("cpu", numerics_find("torch-cpu/amx_bf16"), threads, &err);

    assert_non_null(e);
    return e;
}

/* torch's, where bits depend on them. */
static void calls_with_other_threads_are_others(void **state)
{
    struct engine *const engine_before = engine, *const single_before = single;
    struct run_request request = request_of(NULL, 0, 1);

    (void)state;
    engine = open_of_host(2), single = open_of_host(1);
    with_reuse(1 << 20);
    expect_calls(&request, 2);
    expect_calls(&request, 1);
    request.torch_threads = 3;
    expect_calls(&request, 2);
    expect_calls(&request, 1);
    request.torch_threads = 1; /* the engine's, named */
    expect_calls(&request, 1);
    engine_close(engine);
    engine_close(single);
    engine = engine_before, single = single_before;
}

static void another_end_of_the_prompt_reuses_the_chunks_before(void **state)
{
    static const int64_t chunks[] = {6, 5};
    int64_t changed[TOKENS];
    struct run_request request = request_of(NULL, 0, 2);

    (void)state;
    with_reuse(1 << 20);
    request.chunks = chunks, request.chunk_count = 2;
    expect_calls(&request, 4);
    memcpy(changed, prompt, sizeof(changed));
    changed[TOKENS - 1]++;
    request.tokens = changed;
    expect_calls(&request, 3);
    changed[5]++;
    expect_calls(&request, 4);
}

static void a_step_fed_by_hand_is_no_greedy_one(void **state)
{
    static const int64_t chunks[] = {TOKENS, 1};
    int64_t tokens[TOKENS + 1];
    struct run_request request = request_of(NULL, 0, 2);
    struct kept k;

    (void)state;
    with_reuse(1 << 20);
    k = run_on(engine, &request);
    memcpy(tokens, prompt, sizeof(prompt));
    tokens[TOKENS] = k.run->tokens[TOKENS];
    kept_free(&k);
    request.tokens = tokens, request.token_count = TOKENS + 1;
    request.chunks = chunks, request.chunk_count = 2;
    request.steps = 0;
    expect_calls(&request, 1); /* the same token as the choice: the same call */
    tokens[TOKENS]++;
    request.steps = 1;
    expect_calls(&request, 2);
    request = request_of(NULL, 0, 2);
    expect_calls(&request, 1);
}

static void what_is_looked_at_is_computed(void **state)
{
    static const char *const second[] = {"step_2/*"};
    struct run_request request = request_of(NULL, 0, STEPS);

    (void)state;
    with_reuse(1 << 20);
    expect_calls(&request, 1 + STEPS);
    request.values = second, request.value_count = 1;
    expect_calls(&request, STEPS - 1);
    request.values = everything;
    expect_calls(&request, 1 + STEPS);
}

static void a_replaced_value_is_nobody_elses(void **state)
{
    static const char *const logits[] = {"step_1/logits"};
    struct run_request request = request_of(logits, 1, 1);
    struct kept k;
    struct run_replace put = {.name = "layer_0.final"};

    (void)state;
    with_reuse(1 << 20);
    request.values = everything;
    k = run_kept(single, &request, -1);
    put.value = tensor_make(DTYPE_BF16, 2, run_entry(k.run, entry_of(&k, "model.norm")).shape,
                            k.data[entry_of(&k, "model.norm")]);
    request.values = logits;
    request.replace = &put, request.replace_count = 1;
    expect_calls(&request, 2);
    expect_calls(&request, 2);
    request.replace_count = 0;
    expect_calls(&request, 2);
    expect_calls(&request, 1);
    request.replace_count = 1;
    expect_calls(&request, 2);
    kept_free(&k);
}

static void what_has_no_room_is_forgotten(void **state)
{
    struct run_request request = request_of(NULL, 0, 1);
    int64_t changed[TOKENS];

    (void)state;
    with_reuse(16); /* none has */
    expect_calls(&request, 2);
    expect_calls(&request, 2);
    with_reuse(40 << 10); /* not all have */
    memcpy(changed, prompt, sizeof(changed));
    request.tokens = changed;
    for (int i = 0; i < 40; i++) {
        changed[0] = i;
        expect_calls(&request, 2);
        expect_calls(&request, 1);
    }
    changed[0] = 0;
    expect_calls(&request, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_equal_run_makes_its_last_call_only),
        cmocka_unit_test(longer_and_shorter_ones_share_what_they_have),
        cmocka_unit_test(calls_are_what_is_shared),
        cmocka_unit_test(calls_with_other_threads_are_others),
        cmocka_unit_test(another_end_of_the_prompt_reuses_the_chunks_before),
        cmocka_unit_test(a_step_fed_by_hand_is_no_greedy_one),
        cmocka_unit_test(what_is_looked_at_is_computed),
        cmocka_unit_test(a_replaced_value_is_nobody_elses),
        cmocka_unit_test(what_has_no_room_is_forgotten),
    };

    return cmocka_run_group_tests_name("eager", tests, choose_eager, teardown) +
           cmocka_run_group_tests_name("sdpa", tests, choose_sdpa, teardown);
}
