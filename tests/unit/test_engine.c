/* test_engine.c - names, plans and the loop, on a tiny model: $SAMEBIT_TINY/tiny-qwen2, as
 * tests/tiny/make_tiny.py makes it.  What the numbers must be is tests/parity's question. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/bf16.h"
#include "server/engine/engine.h"
#include "server/engine/run.h"

enum { TOKENS = 11, STEPS = 3 };

static struct engine *engine, *single; /* two threads, one thread */
static enum attention attention;       /* of the requests; every test runs once with each */
static const int64_t prompt[TOKENS] = {5, 900, 17, 300, 301, 2, 77, 640, 1000, 8, 42};
static const struct run_limits limits = {.tokens = 256, .values = 100000, .memory = 1 << 30};

/* ---- a run, kept whole ---- */

struct kept {
    struct run *run;
    char **data; /* by entry */
    uint64_t *size;
    struct error err;
    int64_t fail_at; /* entry whose write fails; -1: none */
};

static int keep(void *user, int64_t entry, const void *data, size_t bytes, struct error *err)
{
    struct kept *k = user;

    if (entry == k->fail_at)
        return error_set(err, 499, "the test has left");
    k->data[entry] = realloc(k->data[entry], k->size[entry] + bytes + 1);
    memcpy(k->data[entry] + k->size[entry], data, bytes);
    k->size[entry] += bytes;
    return 0;
}

static struct kept run_kept(struct engine *e, const struct run_request *request, int64_t fail_at)
{
    struct kept k = {.fail_at = fail_at};
    const struct run_sink sink = {.write = keep, .user = &k};
    int rc;

    k.run = run_create(e, request, &limits, &k.err);
    if (!k.run)
        return k;
    k.data = calloc((size_t)k.run->entry_count + 1, sizeof(*k.data));
    k.size = calloc((size_t)k.run->entry_count + 1, sizeof(*k.size));
    rc = run_execute(k.run, &sink, &k.err);
    assert_int_equal(rc ? 1 : 0, k.err.code ? 1 : 0);
    return k;
}

static void kept_free(struct kept *k)
{
    for (int64_t i = 0; k->run && i < k->run->entry_count; i++)
        free(k->data[i]);
    free(k->data);
    free(k->size);
    run_free(k->run);
}

static int64_t entry_of(const struct kept *k, const char *name)
{
    for (int64_t i = 0; i < k->run->entry_count; i++)
        if (strcmp(k->run->entries[i].name, name) == 0)
            return i;
    fail_msg("no entry %s", name);
    return -1;
}

static struct run_request request_of(const char *const *values, int64_t count, int64_t steps)
{
    return (struct run_request){.attention = attention,
                                .tokens = prompt,
                                .token_count = TOKENS,
                                .steps = steps,
                                .values = values,
                                .value_count = count};
}

static const char *const everything[] = {"*"};

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
        assert_ptr_equal(sdpa->steps[i].weight, eager->steps[other].weight);
        assert_ptr_equal(sdpa->steps[i].bias, eager->steps[other].bias);
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

static void expect_error(const struct run_request *request, int code, const char *param)
{
    struct error err = {0};

    assert_null(run_create(engine, request, &limits, &err));
    assert_int_equal(err.code, code);
    assert_string_equal(err.param, param);
    assert_true(strlen(err.text) > 10);
}

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
        struct tensor t = tensor_make(k.run->entries[i].dtype, k.run->entries[i].rank,
                                      k.run->entries[i].shape, NULL);

        assert_int_equal(k.size[i], k.run->entries[i].bytes);
        assert_int_equal(k.size[i], tensor_bytes(&t));
        for (uint64_t b = 0; b < k.size[i] / 2; b++)
            assert_true(isfinite(bf16_to_f32(((bf16 *)(void *)k.data[i])[b])));
    }
    kept_free(&k);
}

static void assert_same(const struct kept *a, const struct kept *b, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        assert_int_equal(a->size[i], b->size[i]);
        if (memcmp(a->data[i], b->data[i], a->size[i]) != 0)
            fail_msg("%s differs", a->run->entries[i].name);
    }
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
        const int64_t j = entry_of(&a, b.run->entries[i].name);

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
        const struct run_entry *e = &b.run->entries[i];
        const int axis = shape_token_axis(&engine->program[attention]->steps[e->step].shape);
        const uint64_t outer = axis ? (uint64_t)e->shape[0] : 1, row = e->bytes / outer / 4;

        assert_int_equal(e->shape[axis], 4);
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
    const struct run_entry *e = a.run->entries;
    struct run_replace put[2] = {
        {"layer_1.attn_output", tensor_make(DTYPE_BF16, e[at].rank, e[at].shape, zeros)},
        {"step_2/model.layers.0.mlp.act_fn",
         tensor_make(DTYPE_BF16, e[step].rank, e[step].shape, zeros)}};

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
        const struct run_entry *e = &a.run->entries[i];

        put[i] = (struct run_replace){e->name, tensor_make(e->dtype, e->rank, e->shape, a.data[i])};
    }
    given.replace = put, given.replace_count = a.run->entry_count;
    b = run_kept(engine, &given, -1);
    assert_int_equal(b.err.code, 0);
    assert_same(&a, &b, 0, a.run->entry_count);
    kept_free(&b);
    kept_free(&a);
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

/* ---- prompts in chunks, left padding ---- */

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
        assert_string_equal(a.run->entries[i].name, b.run->entries[i].name);
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
        assert_int_equal(b.run->entries[i].call, call);
        assert_int_equal(b.run->entries[i].shape[0], lengths[call]);
        assert_memory_equal(b.data[i], a.data[at] + done, b.size[i]);
        done += (int64_t)b.size[i];
        snprintf(name, sizeof(name), "chunk_%d/model.layers.0.self_attn.keys", call + 1);
        i = entry_of(&b, name);
        assert_int_equal(b.run->entries[i].shape[1], call == 0 ? 4 : call == 1 ? 5 : TOKENS);
    }
    assert_int_equal(done, a.size[at]);
    assert_int_equal(b.run->entries[entry_of(&b, "step_1/lm_head")].call, 3);
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

        assert_string_equal(b.run->entries[i].name, names[i]);
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
    put.value = tensor_make(DTYPE_BF16, a.run->entries[at].rank, a.run->entries[at].shape, zeros);
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
        const struct run_entry *e = &a->run->entries[i];
        const struct step *s = &engine->program[attention]->steps[e->step];
        const uint64_t row = e->call ? 0 : e->bytes / (uint64_t)e->shape[0];
        const uint64_t from = row * (uint64_t)padding;

        if (shape_token_axis(&s->shape) != 0 || s->shape.at[0].kind != EXTENT_TOKENS)
            continue;
        if (memcmp(a->data[i] + from, b->data[i] + from, e->bytes - from) != 0)
            fail_msg("%s differs", e->name);
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
    assert_int_equal(run_execute(k.run, &late, &err), -1);
    assert_int_equal(err.code, 504);
    assert_non_null(strstr(err.text, "out of time"));
    kept_free(&k);
}

/* ---- the models ---- */

static struct engine *open_tiny(int threads)
{
    const char *root = getenv("SAMEBIT_TINY");
    struct engine_options options = {.families = "configs/families",
                                     .device = "cpu",
                                     .numerics = NUMERICS_TORCH_CPU_AVX512_BF16,
                                     .threads = threads};
    struct error err = {0};
    struct engine *e;
    char folder[512];

    if (!root) {
        fprintf(stderr, "SAMEBIT_TINY names no folder of tiny models\n");
        return NULL;
    }
    snprintf(folder, sizeof(folder), "%s/tiny-qwen2", root);
    options.folder = folder;
    e = engine_open(&options, &err);
    if (!e)
        fprintf(stderr, "%s\n", err.text);
    return e;
}

static int setup(void **state)
{
    (void)state;
    engine = open_tiny(2);
    single = open_tiny(1);
    return engine && single ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    engine_close(engine);
    engine_close(single);
    return 0;
}

static int choose_eager(void **state)
{
    attention = ATTENTION_EAGER;
    return setup(state);
}

static int choose_sdpa(void **state)
{
    attention = ATTENTION_SDPA;
    return setup(state);
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
        cmocka_unit_test(bad_chunks_and_padding_are_named),
        cmocka_unit_test(limits_are_errors_of_their_own),
        cmocka_unit_test(every_entry_gets_exactly_its_bytes),
        cmocka_unit_test(threads_and_repetition_do_not_move_a_bit),
        cmocka_unit_test(what_is_asked_for_does_not_change_it),
        cmocka_unit_test(listed_positions_are_the_rows_of_all),
        cmocka_unit_test(a_replaced_value_changes_what_follows_and_nothing_before),
        cmocka_unit_test(own_values_given_back_change_nothing),
        cmocka_unit_test(bad_replacements_are_named),
        cmocka_unit_test(one_chunk_is_the_whole_prompt),
        cmocka_unit_test(chunks_are_calls_with_names_of_their_own),
        cmocka_unit_test(chunks_are_asked_for_by_name),
        cmocka_unit_test(a_replaced_chunk_changes_what_follows),
        cmocka_unit_test(nobody_attends_to_the_padding),
        cmocka_unit_test(a_reader_who_leaves_and_a_deadline_end_the_run),
    };

    return cmocka_run_group_tests_name("eager", tests, choose_eager, teardown) +
           cmocka_run_group_tests_name("sdpa", tests, choose_sdpa, teardown);
}
