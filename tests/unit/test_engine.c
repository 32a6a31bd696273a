/* test_engine.c - names, plans and the loop, on a tiny model and with either attention.  What the
 * numbers must be is tests/parity's question. */
#include "tests/unit/kept_runs.h"

#include <math.h>

#include "kernels/base/bf16.h"

/* ---- names ---- */

static void names_and_aliases_find_their_step(void **state)
{
    static const char *const pairs[][2] = {
        {"embedding_output", "model.embed_tokens"},
        {"layer_1.normalized_input", "model.layers.1.input_layernorm"},
        {"layer_1_normalized_input", "model.layers.1.input_layernorm"},
        {"attn_output", "model.layers.0.self_attn.o_proj"},
        {"layer_0_final", "model.layers.0"},
        {"hidden_after_attn", "model.layers.0.attn_residual"},
        {"model.layers.1.mlp", "model.layers.1.mlp.down_proj"},
        {"logits", "lm_head"},
    };
    const struct program *p = engine->program[attention];

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        const int step = program_find(p, pairs[i][0]);

        assert_true(step >= 0);
        assert_string_equal(p->steps[step].name, pairs[i][1]);
    }
    assert_int_equal(program_find(p, "layer_99.attn_output"), -1);
    assert_int_equal(program_find(p, "layer_.attn_output"), -1);
    assert_int_equal(program_find(p, ""), -1);
}

static void a_wrong_name_is_a_400_with_the_nearest(void **state)
{
    static const char *const wrong[] = {"model.layers.0.self_attn.o_prj"};
    const struct run_request request = request_of(wrong, 1, 0);
    struct error err = {0};

    (void)state;
    assert_null(run_create(engine, &request, &limits, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "values[0]");
    assert_non_null(strstr(err.text, "model.layers.0.self_attn.o_proj"));
}

static void a_name_is_completed_before_it_is_corrected(void **state)
{
    char nearest[384];

    (void)state;
    program_nearest(engine->program[attention], "model.embed", nearest, sizeof(nearest));
    assert_memory_equal(nearest, "model.embed_tokens, ", 20);
    program_nearest(engine->program[attention], "model.layers.1.mlp.down_pro", nearest,
                    sizeof(nearest));
    assert_memory_equal(nearest, "model.layers.1.mlp.down_proj, ", 30);
}

/* Both programs read the same weights, opened once, and differ in the rows of attention only. */
static void attentions_share_what_they_have_in_common(void **state)
{
    const struct program *eager = engine->program[ATTENTION_EAGER],
                         *sdpa = engine->program[ATTENTION_SDPA];
    int found = 0;

    (void)state;
    assert_int_equal(program_find(sdpa, "attn_weights"), -1);
    assert_true(program_find(eager, "attn_weights") >= 0);
    assert_int_equal(eager->cache_count, sdpa->cache_count);
    for (int i = 0; i < sdpa->count; i++) {
        const int other = program_find(eager, sdpa->steps[i].name);

        assert_true(other >= 0);
        for (int w = 0; w < OP_WEIGHTS; w++)
            assert_ptr_equal(sdpa->steps[i].weights[w], eager->steps[other].weights[w]);
        found += sdpa->steps[i].op != eager->steps[other].op;
    }
    assert_int_equal(found, 2); /* the context of each layer */
    assert_int_equal(eager->count, sdpa->count + 2 * 4);
}

static void what_the_attention_does_not_have_is_told(void **state)
{
    static const char *const wrong[] = {
        "attn_weights",    "layer_1.attn_weights", "model.layers.1.self_attn.scores",
        "*.self_attn.ma*", "step_1/*attn_weights", "step_1/model.layers.0.self_attn.scaled"};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct run_request request = request_of(wrong + i, 1, 1);
        struct error err = {0};

        request.attention = ATTENTION_EAGER;
        run_free(run_create(engine, &request, &limits, &err));
        assert_int_equal(err.code, 0);
        request.attention = ATTENTION_SDPA;
        assert_null(run_create(engine, &request, &limits, &err));
        assert_int_equal(err.code, 400);
        assert_string_equal(err.param, "values[0]");
        assert_non_null(strstr(err.text, "is a value of eager attention, this run's is sdpa"));
    }
}

/* ---- requests that cannot be run ---- */

static void bad_requests_are_named(void **state)
{
    static const int64_t bad[] = {3, 1 << 20}, negative[] = {-1}, twice[] = {2, 2},
                         far[] = {TOKENS};
    static const char *const no_step[] = {"logits", "step_4/logits"};
    struct run_request r = request_of(everything, 1, STEPS);

    (void)state;
    r.token_count = 0;
    expect_error(&r, 400, "tokens");
    r = request_of(everything, 1, 1000);
    expect_error(&r, 400, "steps");
    r.steps = -1;
    expect_error(&r, 400, "steps");
    r.steps = INT64_MAX;
    expect_error(&r, 400, "steps");
    r = request_of(everything, 1, STEPS);
    r.tokens = bad, r.token_count = 2;
    expect_error(&r, 400, "tokens[1]");
    r.tokens = negative, r.token_count = 1;
    expect_error(&r, 400, "tokens[0]");
    r = request_of(everything, 1, STEPS);
    r.which = POSITIONS_LIST;
    expect_error(&r, 400, "positions");
    r.positions = twice, r.position_count = 2;
    expect_error(&r, 400, "positions[1]");
    r.positions = far, r.position_count = 1;
    expect_error(&r, 400, "positions[0]");
    r = request_of(no_step, 2, STEPS);
    expect_error(&r, 400, "values[1]");
}

static void limits_are_errors_of_their_own(void **state)
{
    const struct run_request request = request_of(everything, 1, STEPS);
    struct run_limits few = limits, small = limits;
    struct error err = {0};

    (void)state;
    few.values = 10;
    assert_null(run_create(engine, &request, &few, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "values");
    memset(&err, 0, sizeof(err));
    small.memory = 1000;
    assert_null(run_create(engine, &request, &small, &err));
    assert_int_equal(err.code, 413);
}

/* ---- runs ---- */

static void every_entry_gets_exactly_its_bytes(void **state)
{
    const struct run_request request = request_of(everything, 1, STEPS);
    struct kept k = run_kept(engine, &request, -1);

    (void)state;
    assert_int_equal(k.err.code, 0);
    assert_int_equal(k.run->entry_count, (STEPS + 1) * engine->program[attention]->count);
    for (int64_t i = 0; i < k.run->entry_count; i++) {
        struct tensor t = tensor_make(run_entry(k.run, i).dtype, run_entry(k.run, i).rank,
                                      run_entry(k.run, i).shape, NULL);

        assert_int_equal(k.size[i], run_entry(k.run, i).bytes);
        assert_int_equal(k.size[i], tensor_bytes(&t));
        for (uint64_t b = 0; b < k.size[i] / 2; b++)
            assert_true(isfinite(bf16_to_f32(((bf16 *)(void *)k.data[i])[b])));
    }
    kept_free(&k);
}

static void threads_and_repetition_do_not_move_a_bit(void **state)
{
    const struct run_request request = request_of(everything, 1, STEPS);
    struct kept a = run_kept(engine, &request, -1), b = run_kept(single, &request, -1),
                c = run_kept(engine, &request, -1);

    (void)state;
    assert_same(&a, &b, 0, a.run->entry_count);
    assert_same(&a, &c, 0, a.run->entry_count);
    assert_memory_equal(a.run->tokens, b.run->tokens, sizeof(int64_t) * (TOKENS + STEPS));
    assert_int_equal(a.run->next, b.run->next);
    kept_free(&a);
    kept_free(&b);
    kept_free(&c);
}

/* Asking for one value gives the bits that asking for everything gives: tracing changes nothing,
 * though rows of logits that nobody reads are not computed. */
static void what_is_asked_for_does_not_change_it(void **state)
{
    static const char *const some[] = {"logits", "step_2/attn_output"};
    const struct run_request all = request_of(everything, 1, STEPS),
                             few = request_of(some, 2, STEPS);
    struct kept a = run_kept(engine, &all, -1), b = run_kept(engine, &few, -1);
    struct run_request last = few;
    struct kept c;

    (void)state;
    last.which = POSITIONS_LAST;
    c = run_kept(engine, &last, -1);
    assert_int_equal(b.run->entry_count, 2 + STEPS);
    for (int64_t i = 0; i < b.run->entry_count; i++) {
        const int64_t j = entry_of(&a, entry_name(b.run, i));

        assert_memory_equal(a.data[j], b.data[i], b.size[i]);
        assert_memory_equal(a.data[j] + a.size[j] - c.size[i], c.data[i], c.size[i]);
    }
    assert_int_equal(c.size[0] * TOKENS, b.size[0]);
    assert_int_equal(b.run->alias_count, 2);
    kept_free(&a);
    kept_free(&b);
    kept_free(&c);
}

static void listed_positions_are_the_rows_of_all(void **state)
{
    static const int64_t rows[] = {0, 3, 4, TOKENS - 1};
    const struct run_request all = request_of(everything, 1, 0);
    struct run_request listed = all;
    struct kept a = run_kept(engine, &all, -1), b;

    (void)state;
    listed.which = POSITIONS_LIST, listed.positions = rows, listed.position_count = 4;
    b = run_kept(engine, &listed, -1);
    for (int64_t i = 0; i < b.run->entry_count; i++) {
        const struct run_entry e = run_entry(b.run, i);
        const int axis = shape_token_axis(&engine->program[attention]->steps[e.step].shape);
        const uint64_t outer = axis ? (uint64_t)e.shape[0] : 1, row = e.bytes / outer / 4;

        assert_int_equal(e.shape[axis], 4);
        for (uint64_t o = 0; o < outer; o++)
            for (uint64_t r = 0; r < 4; r++)
                assert_memory_equal(b.data[i] + (o * 4 + r) * row,
                                    a.data[i] + (o * TOKENS + (uint64_t)rows[r]) * row, row);
    }
    kept_free(&a);
    kept_free(&b);
}

static void a_replaced_value_changes_what_follows_and_nothing_before(void **state)
{
    const struct run_request plain = request_of(everything, 1, STEPS);
    struct run_request given = plain;
    struct kept a = run_kept(engine, &plain, -1), b;
    const int64_t at = entry_of(&a, "model.layers.1.self_attn.o_proj"),
                  step = entry_of(&a, "step_2/model.layers.0.mlp.act_fn");
    char *zeros = calloc(1, a.size[at] + a.size[step]);
    const struct run_entry first = run_entry(a.run, at), second = run_entry(a.run, step);
    struct run_replace put[2] = {
        {"layer_1.attn_output", tensor_make(DTYPE_BF16, first.rank, first.shape, zeros)},
        {"step_2/model.layers.0.mlp.act_fn",
         tensor_make(DTYPE_BF16, second.rank, second.shape, zeros)}};

    (void)state;
    given.replace = put, given.replace_count = 1;
    b = run_kept(engine, &given, -1);
    assert_int_equal(b.err.code, 0);
    assert_same(&a, &b, 0, at);
    assert_memory_equal(b.data[at], zeros, b.size[at]);
    assert_memory_not_equal(a.data[at + 1], b.data[at + 1], a.size[at + 1]);
    kept_free(&b);

    given.replace = put + 1;
    b = run_kept(engine, &given, -1);
    assert_same(&a, &b, 0, step);
    assert_memory_equal(b.data[step], zeros, b.size[step]);
    assert_memory_not_equal(a.data[step + 1], b.data[step + 1], a.size[step + 1]);
    kept_free(&b);
    kept_free(&a);
    free(zeros);
}

/* Giving a run its own values back changes nothing, whichever they are. */
static void own_values_given_back_change_nothing(void **state)
{
    const struct run_request plain = request_of(everything, 1, 1);
    struct kept a = run_kept(engine, &plain, -1);
    struct run_replace *put = calloc((size_t)a.run->entry_count, sizeof(*put));
    struct run_request given = plain;
    struct kept b;

    (void)state;
    for (int64_t i = 0; i < a.run->entry_count; i++) {
        const struct run_entry e = run_entry(a.run, i);

        put[i] = (struct run_replace){run_entry_name(a.run, i),
                                      tensor_make(e.dtype, e.rank, e.shape, a.data[i])};
    }
    given.replace = put, given.replace_count = a.run->entry_count;
    b = run_kept(engine, &given, -1);
    assert_int_equal(b.err.code, 0);
    assert_same(&a, &b, 0, a.run->entry_count);
    kept_free(&b);
    kept_free(&a);
    for (int64_t i = 0; i < given.replace_count; i++)
        free((char *)(uintptr_t)put[i].name);
    free(put);
}

static void bad_replacements_are_named(void **state)
{
    static const int64_t shape[] = {TOKENS, 3};
    static bf16 data[TOKENS * 3];
    struct run_request r = request_of(everything, 1, STEPS);
    struct run_replace put[2] = {{"attn_output", tensor_make(DTYPE_BF16, 2, shape, data)}};

    (void)state;
    r.replace = put, r.replace_count = 1;
    expect_error(&r, 400, "replace.attn_output");
    put[0].name = "step_9/attn_output";
    expect_error(&r, 400, "replace.step_9/attn_output");
    put[0].name = "step_*/attn_output";
    expect_error(&r, 400, "replace.step_*/attn_output");
    put[0].name = "nothing";
    expect_error(&r, 400, "replace.nothing");
}

static int leave_at_once(void *user, struct error *err)
{
    (void)user;
    return error_set(err, 504, "out of time");
}

static void a_reader_who_leaves_and_a_deadline_end_the_run(void **state)
{
    const struct run_request request = request_of(everything, 1, STEPS);
    struct kept k = run_kept(engine, &request, 20);
    const struct run_sink late = {.write = keep, .poll = leave_at_once, .user = &k};
    struct error err = {0};

    (void)state;
    assert_int_equal(k.err.code, 499);
    assert_int_equal(run_alone(k.run, &late, &err), -1);
    assert_int_equal(err.code, 504);
    assert_non_null(strstr(err.text, "out of time"));
    kept_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_aliases_find_their_step),
        cmocka_unit_test(a_wrong_name_is_a_400_with_the_nearest),
        cmocka_unit_test(a_name_is_completed_before_it_is_corrected),
        cmocka_unit_test(attentions_share_what_they_have_in_common),
        cmocka_unit_test(what_the_attention_does_not_have_is_told),
        cmocka_unit_test(bad_requests_are_named),
        cmocka_unit_test(limits_are_errors_of_their_own),
        cmocka_unit_test(every_entry_gets_exactly_its_bytes),
        cmocka_unit_test(threads_and_repetition_do_not_move_a_bit),
        cmocka_unit_test(what_is_asked_for_does_not_change_it),
        cmocka_unit_test(listed_positions_are_the_rows_of_all),
        cmocka_unit_test(a_replaced_value_changes_what_follows_and_nothing_before),
        cmocka_unit_test(own_values_given_back_change_nothing),
        cmocka_unit_test(bad_replacements_are_named),
        cmocka_unit_test(a_reader_who_leaves_and_a_deadline_end_the_run),
    };

    return cmocka_run_group_tests_name("eager", tests, choose_eager, teardown) +
           cmocka_run_group_tests_name("sdpa", tests, choose_sdpa, teardown);
}
