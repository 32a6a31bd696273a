/* test_fuse.c - steps that run as one: which they are, that they do run, and that the bits are
 * those of a run in which every value is observed, where nothing runs as one. */
#include "tests/unit/kept_runs.h"

#include "server/engine/fuse.h"

static const char *const models[] = {"tiny-llama", "tiny-llama-biases",  "tiny-mistral",
                                     "tiny-qwen2", "tiny-qwen2-sliding", "tiny-qwen3",
                                     "tiny-wide"};
enum { MODELS = sizeof(models) / sizeof(models[0]) };

/* ---- counting the groups that a backend is asked for ---- */

static group_fn *real[GROUP_COUNT];
static int asked[GROUP_COUNT];
static int64_t rows_asked[GROUP_COUNT]; /* of what the groups give */

#define COUNTING(GROUP)                                                                            \
    static int count_##GROUP(const struct op_call *call, int steps, int parts)                     \
    {                                                                                              \
        asked[GROUP]++;                                                                            \
        rows_asked[GROUP] += call[(steps - 1) * parts].out->shape[0];                              \
        return real[GROUP](call, steps, parts);                                                    \
    }
COUNTING(GROUP_LINEARS)
COUNTING(GROUP_LINEAR_ADD)
COUNTING(GROUP_GATED)
COUNTING(GROUP_EACH)

static void count_groups(struct backend *b)
{
    group_fn *const counting[GROUP_COUNT] = {[GROUP_LINEARS] = count_GROUP_LINEARS,
                                             [GROUP_LINEAR_ADD] = count_GROUP_LINEAR_ADD,
                                             [GROUP_GATED] = count_GROUP_GATED,
                                             [GROUP_EACH] = count_GROUP_EACH};

    memset(asked, 0, sizeof(asked));
    memset(rows_asked, 0, sizeof(rows_asked));
    for (int g = 0; g < GROUP_COUNT; g++)
        if (counting[g] && b->group[g]) {
            real[g] = b->group[g];
            b->group[g] = counting[g];
        }
}

/* ---- models ---- */

static int find_models(void **state)
{
    (void)state;
    return getenv("SAMEBIT_TINY") ? 0 : -1;
}

static struct engine *open_model(const char *name, const struct numerics *numerics)
{
    struct engine_options options = {.families = "configs/families",
                                     .device = "cpu",
                                     .numerics = numerics,
                                     .attention = ATTENTION_COUNT,
                                     .threads = 2};
    struct error err = {0};
    char folder[512];
    struct engine *e;

    snprintf(folder, sizeof(folder), "%s/%s", getenv("SAMEBIT_TINY"), name);
    options.folder = folder;
    e = engine_open(&options, &err);
    if (!e)
        fail_msg("%s", err.text);
    return e;
}

typedef void model_fn(struct engine *e, const char *name);

static void for_models(const struct numerics *numerics, model_fn *fn)
{
    for (int m = 0; m < MODELS; m++)
        for (int a = 0; a < ATTENTION_COUNT; a++) {
            struct engine *e = open_model(models[m], numerics);

            attention = (enum attention)a;
            fn(e, models[m]);
            engine_close(e);
        }
}

/* ---- the plan ---- */

static int count_of(const struct program *p, enum group group)
{
    int count = 0;

    for (int i = 0; i < p->count; i++)
        count += p->steps[i].grouped > 1 && p->steps[i].group == group;
    return count;
}

/* Groups follow one another without gap, and what one pass writes is not what it reads. */
static void check_plan(struct engine *e, const char *name)
{
    const struct program *p = e->program[attention];
    const int layers = p->steps[p->count - 3].layer + 1;
    const int panels = e->backend->group[GROUP_GATED] != NULL;

    (void)name;
    for (int i = 0; i < p->count; i += p->steps[i].grouped) {
        assert_true(p->steps[i].grouped > 0);
        for (int j = 1; j < p->steps[i].grouped; j++)
            assert_int_equal(p->steps[i + j].grouped, 0);
        for (int j = 0; p->steps[i].group != GROUP_EACH && j < p->steps[i].grouped; j++)
            for (int k = 0; k < p->steps[i].grouped * 3; k++) {
                const int in = p->steps[i + k / 3].in[k % 3];

                if (in >= PROGRAM_INPUTS && in < PROGRAM_INPUTS + i)
                    assert_int_not_equal(p->steps[i + j].slot, p->steps[in - PROGRAM_INPUTS].slot);
            }
    }
    assert_true(layers > 0);
    assert_int_equal(count_of(p, GROUP_LINEARS), panels ? layers : 0);
    assert_int_equal(count_of(p, GROUP_GATED), panels ? layers : 0);
    assert_int_equal(count_of(p, GROUP_LINEAR_ADD), panels ? 2 * layers : 0);
    assert_true(count_of(p, GROUP_EACH) >= layers);
}

/* What can be of some rows: all that follows the last attention. */
static void check_tail(struct engine *e, const char *name)
{
    const struct program *p = e->program[attention];
    int last = p->count;

    (void)name;
    while (p->steps[--last].op != OP_sdpa && p->steps[last].op != OP_matmul_pv)
        assert_int_equal(p->steps[last].tail, last != p->logits);
    while (last > 0)
        assert_false(p->steps[last--].tail);
    assert_true(p->steps[p->logits].by_rows);
}

static void the_tail_is_found(void **state)
{
    (void)state;
    for_models(numerics_find("torch-cpu/avx512_bf16"), check_tail);
    for_models(numerics_find("torch-cpu/avx2"), check_tail);
}

static void every_layer_has_its_groups(void **state)
{
    (void)state;
    for_models(numerics_find("torch-cpu/avx512_bf16"), check_plan);
    for_models(numerics_find("torch-cpu/avx2"), check_plan);
}

static void what_a_group_leaves(void **state)
{
    (void)state;
    assert_true(fuse_leaves(GROUP_LINEARS, 0, 3));
    assert_false(fuse_leaves(GROUP_GATED, 2, 4));
    assert_true(fuse_leaves(GROUP_GATED, 3, 4));
    assert_false(fuse_leaves(GROUP_LINEAR_ADD, 0, 2));
    assert_false(fuse_leaves(GROUP_EACH, 0, 2));
}

/* ---- runs ---- */

static int found;

/* What `few` has is what `all` has. */
static void assert_part_of(const char *model, const struct kept *few, const struct kept *all)
{
    assert_int_equal(few->err.code, 0);
    for (int64_t i = 0; i < few->run->entry_count; i++) {
        const int64_t j = entry_of(all, entry_name(few->run, i));

        assert_int_equal(few->size[i], all->size[j]);
        if (memcmp(few->data[i], all->data[j], few->size[i]) != 0)
            fail_msg("%s, attention %d: %s differs", model, (int)attention,
                     entry_name(few->run, i));
        found++;
    }
}

static void run_few(struct engine *e, const char *model, const struct kept *all,
                    const struct run_request *like, const char *const *values, int64_t count)
{
    struct run_request request = *like;
    struct kept few;

    request.values = values;
    request.value_count = count;
    few = run_kept(e, &request, -1);
    assert_part_of(model, &few, all);
    kept_free(&few);
}

/* Observing nothing inside, some of it, and inner values that keep some groups apart. */
static void check_runs_like(struct engine *e, const char *model, const struct run_request *like)
{
    static const char *const some[][2] = {
        {"logits", "layer_0_final"},      {"logits", "*.self_attn.q_proj"},
        {"logits", "*.self_attn.o_proj"}, {"logits", "*.mlp.act_fn"},
        {"logits", "*.mlp.product"},      {"logits", "*.self_attn.context"},
        {"logits", "*.self_attn.k_rope"}};
    struct kept all = run_kept(e, like, -1);

    assert_int_equal(all.err.code, 0);
    run_few(e, model, &all, like, some[0], 1);
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        run_few(e, model, &all, like, some[i], 2);
    kept_free(&all);
}

/* A whole prompt, one in pieces, one of several of a batch; each followed by cached steps. */
static void check_runs(struct engine *e, const char *model)
{
    static const int64_t chunks[] = {4, 1, 6}, rows[] = {3, 4, TOKENS - 2};
    struct run_request request = request_of(everything, 1, STEPS);

    check_runs_like(e, model, &request);
    request.which = POSITIONS_LIST;
    request.positions = rows;
    request.position_count = 3;
    check_runs_like(e, model, &request);
    request.which = POSITIONS_LAST;
    check_runs_like(e, model, &request);
    request.chunks = chunks;
    request.chunk_count = 3;
    check_runs_like(e, model, &request);
    request = request_of(everything, 1, 1);
    request.batch = 3;
    request.padding = 2;
    check_runs_like(e, model, &request);
}

static void observing_moves_no_bit(void **state)
{
    (void)state;
    found = 0;
    for_models(numerics_find("torch-cpu/avx512_bf16"), check_runs);
    for_models(numerics_find("torch-cpu/avx2"), check_runs);
    print_message("%d values of runs, 0 differing\n", found);
}

/* A value given in the middle of a group is used, whoever observes what. */
static void check_replaced(struct engine *e, const char *model)
{
    static const char *const inner[] = {"layer_0.attn_output", "model.layers.1.mlp.act_fn",
                                        "model.layers.0.self_attn.k_proj",
                                        "model.layers.1.mlp.product"};
    static const char *const logits[] = {"logits"};
    const struct run_request plain = request_of(everything, 1, 1);
    struct kept before = run_kept(e, &plain, -1);

    for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++) {
        const int step = program_find(e->program[attention], inner[i]);
        const struct run_entry entry = run_entry(before.run, step);
        struct run_replace put = {
            inner[i], tensor_make(DTYPE_BF16, entry.rank, entry.shape, before.data[step])};
        struct run_request given = plain;
        struct kept all;

        memset(before.data[step], 0, before.size[step]);
        given.replace = &put, given.replace_count = 1;
        all = run_kept(e, &given, -1);
        run_few(e, model, &all, &given, logits, 1);
        kept_free(&all);
    }
    kept_free(&before);
}

static void replaced_values_keep_groups_apart(void **state)
{
    (void)state;
    for_models(numerics_find("torch-cpu/avx512_bf16"), check_replaced);
}

static void check_asked(struct engine *e, const char *model)
{
    static const char *const logits[] = {"logits"};
    const int layers = e->program[attention]->steps[e->program[attention]->count - 3].layer + 1;
    struct run_request request = request_of(everything, 1, 0);
    struct kept k;

    (void)model;
    count_groups(e->backend);
    k = run_kept(e, &request, -1);
    kept_free(&k);
    assert_int_equal(asked[GROUP_GATED] + asked[GROUP_LINEAR_ADD] + asked[GROUP_EACH], 0);
    request.values = logits;
    request.which = POSITIONS_LAST;
    memset(asked, 0, sizeof(asked));
    memset(rows_asked, 0, sizeof(rows_asked));
    k = run_kept(e, &request, -1);
    kept_free(&k);
    assert_true(asked[GROUP_EACH] >= layers);
    if (!e->backend->group[GROUP_GATED])
        return;
    assert_int_equal(asked[GROUP_GATED], layers);
    assert_int_equal(asked[GROUP_LINEAR_ADD], 2 * layers);
    assert_int_equal(asked[GROUP_LINEARS], layers);
    assert_int_equal(rows_asked[GROUP_LINEARS], TOKENS * layers);
    assert_int_equal(rows_asked[GROUP_GATED], TOKENS * (layers - 1) + 1);
    assert_int_equal(rows_asked[GROUP_LINEAR_ADD], TOKENS * 2 * (layers - 1) + 2);
}

static void groups_run_unless_their_inside_is_observed(void **state)
{
    (void)state;
    for_models(numerics_find("torch-cpu/avx512_bf16"), check_asked);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layer_has_its_groups),
        cmocka_unit_test(the_tail_is_found),
        cmocka_unit_test(what_a_group_leaves),
        cmocka_unit_test(observing_moves_no_bit),
        cmocka_unit_test(replaced_values_keep_groups_apart),
        cmocka_unit_test(groups_run_unless_their_inside_is_observed),
    };

    return cmocka_run_group_tests_name("fuse", tests, find_models, NULL);
}
