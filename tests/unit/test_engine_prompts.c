/* test_engine_prompts.c - prompts that are fed in chunks, and left padding, with either attention.
 */
#include "tests/unit/kept_runs.h"

static void bad_chunks_and_padding_are_named(void **state)
{
    static const int64_t few[] = {4, 6}, many[] = {4, 8}, none[] = {11, 0}, less[] = {-1, 12},
                         good[] = {4, 7}, first[] = {0};
    static const char *const no_chunk[] = {"chunk_3/logits"}, *const no_step[] = {"step_1/logits"},
                             *const plain[] = {"chunk_1/logits"};
    const struct {
        const int64_t *chunks;
        const char *param;
    } cases[] = {{few, "chunks"}, {many, "chunks[1]"}, {none, "chunks[1]"}, {less, "chunks[0]"}};
    struct run_request r;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        r = request_of(everything, 1, 0);
        r.chunks = cases[i].chunks, r.chunk_count = 2;
        expect_error(&r, 400, cases[i].param);
    }
    r = request_of(no_chunk, 1, 0);
    r.chunks = good, r.chunk_count = 2;
    expect_error(&r, 400, "values[0]");
    r.values = no_step;
    expect_error(&r, 400, "values[0]");
    r.values = plain, r.which = POSITIONS_LIST, r.positions = first, r.position_count = 1;
    expect_error(&r, 400, "positions");
    r = request_of(plain, 1, 0);
    expect_error(&r, 400, "values[0]");
    r = request_of(everything, 1, 0);
    r.padding = -1;
    expect_error(&r, 400, "padding");
    r.padding = TOKENS;
    expect_error(&r, 400, "padding");
}

static void one_chunk_is_the_whole_prompt(void **state)
{
    static const int64_t whole[] = {TOKENS};
    const struct run_request plain = request_of(everything, 1, STEPS);
    struct run_request chunked = plain;
    struct kept a = run_kept(engine, &plain, -1), b;

    (void)state;
    chunked.chunks = whole, chunked.chunk_count = 1;
    b = run_kept(engine, &chunked, -1);
    assert_int_equal(a.run->entry_count, b.run->entry_count);
    for (int64_t i = 0; i < a.run->entry_count; i++)
        assert_string_equal(entry_name(a.run, i), entry_name(b.run, i));
    assert_same(&a, &b, 0, a.run->entry_count);
    kept_free(&a);
    kept_free(&b);
}

/* Names and shapes of chunks; what has no row of another token in it is the whole prompt's. */
static void chunks_are_calls_with_names_of_their_own(void **state)
{
    static const int64_t lengths[] = {4, 1, 6};
    const struct run_request plain = request_of(everything, 1, 1);
    struct run_request chunked = plain;
    struct kept a = run_kept(engine, &plain, -1), b;
    const int count = engine->program[attention]->count;
    int64_t at = 0, done = 0;

    (void)state;
    chunked.chunks = lengths, chunked.chunk_count = 3;
    b = run_kept(engine, &chunked, -1);
    assert_int_equal(b.err.code, 0);
    assert_int_equal(b.run->prompt_calls, 3);
    assert_int_equal(b.run->calls, 4);
    assert_int_equal(b.run->entry_count, 4 * count);
    at = entry_of(&a, "model.embed_tokens");
    for (int call = 0; call < 3; call++) {
        char name[64];
        int64_t i;

        snprintf(name, sizeof(name), "chunk_%d/model.embed_tokens", call + 1);
        i = entry_of(&b, name);
        assert_int_equal(i, call * count);
        assert_int_equal(run_entry(b.run, i).call, call);
        assert_int_equal(run_entry(b.run, i).shape[0], lengths[call]);
        assert_memory_equal(b.data[i], a.data[at] + done, b.size[i]);
        done += (int64_t)b.size[i];
        snprintf(name, sizeof(name), "chunk_%d/model.layers.0.self_attn.keys", call + 1);
        i = entry_of(&b, name);
        assert_int_equal(run_entry(b.run, i).shape[1], call == 0 ? 4 : call == 1 ? 5 : TOKENS);
    }
    assert_int_equal(done, a.size[at]);
    assert_int_equal(run_entry(b.run, entry_of(&b, "step_1/lm_head")).call, 3);
    kept_free(&a);
    kept_free(&b);
}

static void chunks_are_asked_for_by_name(void **state)
{
    static const int64_t lengths[] = {4, 7};
    static const char *const some[] = {"chunk_2/logits", "chunk_*/attn_output",
                                       "step_1/final_norm"};
    static const char *const names[] = {"chunk_1/model.layers.0.self_attn.o_proj",
                                        "chunk_2/model.layers.0.self_attn.o_proj",
                                        "chunk_2/lm_head", "step_1/model.norm"};
    const struct run_request all = request_of(everything, 1, 1);
    struct run_request few = request_of(some, 3, 1), last = all;
    struct kept a, b;

    (void)state;
    last.which = few.which = POSITIONS_LAST;
    last.chunks = few.chunks = lengths, last.chunk_count = few.chunk_count = 2;
    a = run_kept(engine, &last, -1);
    b = run_kept(engine, &few, -1);
    assert_int_equal(b.run->entry_count, 4);
    for (int64_t i = 0; i < 4; i++) {
        const int64_t j = entry_of(&a, names[i]);

        assert_string_equal(entry_name(b.run, i), names[i]);
        assert_int_equal(a.size[j], b.size[i]);
        assert_memory_equal(a.data[j], b.data[i], b.size[i]);
    }
    kept_free(&a);
    kept_free(&b);
}

static void a_replaced_chunk_changes_what_follows(void **state)
{
    static const int64_t lengths[] = {4, 7};
    struct run_request plain = request_of(everything, 1, 1), given;
    struct kept a, b;
    struct run_replace put = {.name = "chunk_2/attn_output"};
    char *zeros;
    int64_t at;

    (void)state;
    plain.chunks = lengths, plain.chunk_count = 2;
    a = run_kept(engine, &plain, -1);
    at = entry_of(&a, "chunk_2/model.layers.0.self_attn.o_proj");
    zeros = calloc(1, a.size[at]);
    put.value =
        tensor_make(DTYPE_BF16, run_entry(a.run, at).rank, run_entry(a.run, at).shape, zeros);
    given = plain;
    given.replace = &put, given.replace_count = 1;
    b = run_kept(engine, &given, -1);
    assert_int_equal(b.err.code, 0);
    assert_same(&a, &b, 0, at);
    assert_memory_equal(b.data[at], zeros, b.size[at]);
    assert_memory_not_equal(a.data[at + 1], b.data[at + 1], a.size[at + 1]);
    kept_free(&b);
    put.name = "attn_output";
    expect_error(&given, 400, "replace.attn_output");
    kept_free(&a);
    free(zeros);
}

/* Rows of the tokens behind the padding, and of every step. */
static void assert_same_behind(const struct kept *a, const struct kept *b, int64_t padding)
{
    for (int64_t i = 0; i < a->run->entry_count; i++) {
        const struct run_entry e = run_entry(a->run, i);
        const struct step *s = &engine->program[attention]->steps[e.step];
        const uint64_t row = e.call ? 0 : e.bytes / (uint64_t)e.shape[0];
        const uint64_t from = row * (uint64_t)padding;

        if (shape_token_axis(&s->shape) != 0 || s->shape.at[0].kind != EXTENT_TOKENS)
            continue;
        if (memcmp(a->data[i] + from, b->data[i] + from, e.bytes - from) != 0)
            fail_msg("%s differs", entry_name(a->run, i));
    }
}

static void nobody_attends_to_the_padding(void **state)
{
    static int64_t other[TOKENS];
    static const int64_t lengths[] = {2, 5, 4};
    const char *const logits = "step_1/lm_head";
    struct run_request one = request_of(everything, 1, STEPS), two;
    struct kept plain = run_kept(engine, &one, -1), a, b;

    (void)state;
    memcpy(other, prompt, sizeof(other));
    other[0] = 33, other[1] = 7, other[2] = 999;
    for (int chunked = 0; chunked < 2; chunked++) {
        one.padding = 3;
        one.chunks = lengths, one.chunk_count = chunked ? 3 : 0;
        two = one;
        two.tokens = other;
        a = run_kept(engine, &one, -1);
        b = run_kept(engine, &two, -1);
        assert_int_equal(a.err.code, 0);
        assert_memory_not_equal(a.data[0], b.data[0], a.size[0]); /* the padding's embedding */
        if (!chunked)
            assert_same_behind(&a, &b, 3);
        assert_memory_equal(a.data[entry_of(&a, logits)], b.data[entry_of(&b, logits)],
                            a.size[entry_of(&a, logits)]);
        assert_memory_not_equal(a.data[entry_of(&a, logits)], plain.data[entry_of(&plain, logits)],
                                a.size[entry_of(&a, logits)]);
        kept_free(&a);
        kept_free(&b);
    }
    kept_free(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_chunks_and_padding_are_named),
        cmocka_unit_test(one_chunk_is_the_whole_prompt),
        cmocka_unit_test(chunks_are_calls_with_names_of_their_own),
        cmocka_unit_test(chunks_are_asked_for_by_name),
        cmocka_unit_test(a_replaced_chunk_changes_what_follows),
        cmocka_unit_test(nobody_attends_to_the_padding),
    };

    return cmocka_run_group_tests_name("eager", tests, choose_eager, teardown) +
           cmocka_run_group_tests_name("sdpa", tests, choose_sdpa, teardown);
}
