/* test_family.c - the families of configs/families, every kind of attribute, and that each mistake
 * is told with file, row and value (tests/cases/family/NAME/{family.json,error}). */
#include "tests/unit/scratch.h"

#include <dirent.h>
#include <math.h>

#include "server/model/family.h"

static struct hf_config *open_config(const char *text)
{
    struct error err = {0};
    struct hf_config *c;

    scratch_text("config.json", text);
    c = hf_config_open(scratch, &err);
    if (!c)
        fail_msg("%s", err.text);
    return c;
}

#define SIZES                                                                                      \
    "\"vocab_size\":100,\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":3,"      \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2"

/* ---- the families that are there ---- */

static const struct family_row *row_named(const struct family *f, const char *name)
{
    for (int s = 0; s < FAMILY_SECTIONS; s++)
        for (int i = 0; i < f->count[s]; i++)
            if (strcmp(f->rows[s][i].name, name) == 0)
                return &f->rows[s][i];
    fail_msg("%s has no row %s", f->path, name);
    return NULL;
}

static struct op_attrs attrs_of(const struct family *f, const struct hf_config *c, const char *name,
                                int64_t layer)
{
    struct op_attrs attrs;
    struct error err = {0};

    if (family_attrs(f, row_named(f, name), c, layer, &attrs, &err))
        fail_msg("%s", err.text);
    return attrs;
}

static struct family *family_of(const struct hf_config *c)
{
    struct error err = {0};
    struct family *f = family_for("configs/families", c, ATTENTION_EAGER, &err);

    if (!f)
        fail_msg("%s", err.text);
    return f;
}

static void test_every_family(void **state)
{
    static const struct {
        const char *config, *name;
        int rows, q_bias, o_bias, gate_bias;
        int64_t window; /* of layer 1 */
    } cases[] = {
        {"{\"architectures\":[\"Qwen2ForCausalLM\"]," SIZES "}", "qwen2", 22 + 2, 1, 0, 0, 0},
        {"{\"architectures\":[\"Qwen2ForCausalLM\"],\"use_sliding_window\":true,"
         "\"sliding_window\":9,\"max_window_layers\":1," SIZES "}",
         "qwen2", 22 + 2, 1, 0, 0, 9},
        {"{\"architectures\":[\"LlamaForCausalLM\"]," SIZES "}", "llama", 22 + 2, 0, 0, 0, 0},
        {"{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":true," SIZES "}", "llama",
         22 + 2, 1, 1, 0, 0},
        {"{\"architectures\":[\"LlamaForCausalLM\"],\"mlp_bias\":true," SIZES "}", "llama", 22 + 2,
         0, 0, 1, 0},
        {"{\"architectures\":[\"Qwen3ForCausalLM\"],\"head_dim\":24," SIZES "}", "qwen3", 24 + 2, 0,
         0, 0, 0},
        {"{\"architectures\":[\"MistralForCausalLM\"],\"sliding_window\":null," SIZES "}",
         "mistral", 22 + 2, 0, 0, 0, 0},
        {"{\"architectures\":[\"MistralForCausalLM\"]," SIZES "}", "mistral", 22 + 2, 0, 0, 0,
         4096},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hf_config *c = open_config(cases[i].config);
        struct family *f = family_of(c);
        double head_dim = 0;

        hf_config_number(c, "head_dim", &head_dim, NULL);
        assert_string_equal(f->name, cases[i].name);
        assert_string_equal(f->layers, "model.layers");
        assert_string_equal(f->input, "model.embed_tokens");
        assert_int_equal(f->count[FAMILY_BEFORE], 3);
        assert_int_equal(f->count[FAMILY_LAYER] + f->count[FAMILY_AFTER], cases[i].rows);
        assert_int_equal(attrs_of(f, c, "self_attn.q_proj", 1).bias, cases[i].q_bias);
        assert_int_equal(attrs_of(f, c, "self_attn.o_proj", 1).bias, cases[i].o_bias);
        assert_int_equal(attrs_of(f, c, "mlp.gate_proj", 1).bias, cases[i].gate_bias);
        assert_int_equal(attrs_of(f, c, "self_attn.keys", 1).window, cases[i].window);
        assert_int_equal(attrs_of(f, c, "self_attn.values", 1).window, cases[i].window);
        assert_int_equal(attrs_of(f, c, "self_attn.masked", 1).window, cases[i].window);
        assert_int_equal(attrs_of(f, c, "self_attn.q_rope", 1).width, (int64_t)head_dim);
        assert_true(attrs_of(f, c, "self_attn.scaled", 1).by == pow(head_dim, -0.5));
        assert_int_equal(attrs_of(f, c, "model.rotary_emb.sin", -1).part, ROTARY_SIN);
        for (int s = 0; s < FAMILY_SECTIONS; s++)
            for (int k = 0; k < f->count[s]; k++) {
                attrs_of(f, c, f->rows[s][k].name, s == FAMILY_LAYER ? 2 : -1);
                assert_true(f->rows[s][k].line > 0);
            }
        family_close(f);
        hf_config_close(c);
    }
}

static void test_unknown_architecture(void **state)
{
    struct hf_config *c = open_config("{\"architectures\":[\"BertForMaskedLM\"]}");
    struct error err = {0};

    (void)state;
    assert_null(family_for("configs/families", c, ATTENTION_EAGER, &err));
    assert_int_equal(err.code, 400);
    assert_contains(err.text, scratch_path("config.json: architectures: 'BertForMaskedLM'"));
    assert_contains(err.text, "Qwen2ForCausalLM");
    assert_contains(err.text, "LlamaForCausalLM");
    memset(&err, 0, sizeof(err));
    assert_null(family_for("/no/such/folder", c, ATTENTION_EAGER, &err));
    assert_contains(err.text, "/no/such/folder: No such file");
    hf_config_close(c);
}

static void test_a_broken_file_is_told(void **state)
{
    struct hf_config *c = open_config("{\"architectures\":[\"BertForMaskedLM\"]}");
    struct error err = {0};
    char folder[128];

    (void)state;
    snprintf(folder, sizeof(folder), "%s/families", scratch);
    assert_int_equal(mkdir(folder, 0700), 0);
    scratch_text("families/a.json", "{");
    scratch_text("families/b.txt", "not one of them");
    assert_null(family_for(folder, c, ATTENTION_EAGER, &err));
    assert_contains(err.text, "families/a.json: line 1");
    hf_config_close(c);
}

/* ---- attention ---- */

static void test_names_of_attention(void **state)
{
    enum attention a = ATTENTION_EAGER;
    struct error err = {0};

    (void)state;
    for (int i = 0; i < ATTENTION_COUNT; i++)
        assert_int_equal(attention_find(attention_name((enum attention)i)), i);
    assert_int_equal(attention_find("flash"), -1);
    assert_int_equal(attention_read("sdpa", &a, &err), 0);
    assert_int_equal(a, ATTENTION_SDPA);
    assert_int_equal(attention_read("flash", &a, &err), -1);
    assert_int_equal(a, ATTENTION_SDPA);
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "attention");
    assert_string_equal(err.text, "attention 'flash' is not known; known are: eager, sdpa");
}

/* What reads and follows the attention is the same; sdpa has one row where eager has five, and
 * knows which it has not. */
static void test_families_of_either_attention(void **state)
{
    static const char *const names[] = {"Qwen2", "Qwen3", "Llama", "Mistral"};
    static const char *const only_eager[] = {"self_attn.scores", "self_attn.scaled",
                                             "self_attn.masked", "self_attn.weights"};
    static const char windows[] =
        "\"sliding_window\":7,\"use_sliding_window\":true,\"max_window_layers\":1,";
    char config[512];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct error err = {0};
        struct hf_config *c;
        struct family *eager, *sdpa;
        struct op_attrs attrs;

        snprintf(config, sizeof(config),
                 "{\"architectures\":[\"%sForCausalLM\"],%s\"head_dim\":16," SIZES "}", names[i],
                 strcmp(names[i], "Llama") == 0 ? "" : windows);
        c = open_config(config);
        eager = family_of(c);
        sdpa = family_for("configs/families", c, ATTENTION_SDPA, &err);
        assert_non_null(sdpa);
        assert_int_equal(eager->attention, ATTENTION_EAGER);
        assert_int_equal(sdpa->attention, ATTENTION_SDPA);
        assert_int_equal(sdpa->count[FAMILY_LAYER] + 4, eager->count[FAMILY_LAYER]);
        assert_int_equal(eager->elsewhere_count, 0);
        assert_int_equal(sdpa->elsewhere_count, 4);
        for (int k = 0; k < 4; k++) {
            row_named(eager, only_eager[k]);
            assert_int_equal(family_elsewhere(sdpa, only_eager[k]), ATTENTION_EAGER);
            assert_int_equal(family_elsewhere(eager, only_eager[k]), -1);
        }
        assert_int_equal(family_elsewhere(sdpa, "self_attn.context"), -1);
        assert_int_equal(family_elsewhere(sdpa, "self_attn.nothing"), -1);
        for (int k = 0; k < sdpa->count[FAMILY_LAYER]; k++) {
            const struct family_row *one = &sdpa->rows[FAMILY_LAYER][k],
                                    *two = row_named(eager, one->name);

            if (strcmp(one->name, "self_attn.context") != 0)
                assert_int_equal(one->op, two->op);
        }
        attrs = attrs_of(sdpa, c, "self_attn.context", 1);
        assert_true(attrs.by == attrs_of(eager, c, "self_attn.scaled", 1).by);
        assert_true(attrs.by == 0.25);
        assert_int_equal(attrs.window, attrs_of(eager, c, "self_attn.masked", 1).window);
        assert_int_equal(attrs.window, strcmp(names[i], "Llama") == 0 ? 0 : 7);
        family_close(eager);
        family_close(sdpa);
        hf_config_close(c);
    }
}

/* A file may have a mistake in the rows of one attention only. */
static void test_rows_of_the_chosen_attention(void **state)
{
    static const struct {
        const char *name;
        int rows[ATTENTION_COUNT]; /* of a layer; 0: a mistake */
    } cases[] = {
        {"good", {4, 4}},
        {"attention-good", {5, 4}},
        {"attention-row-undefined-input", {0, 4}},
        {"attention-row-reads-the-other", {0, 5}},
        {"attention-without-rows-for-it", {0, 0}},
        {"attention-of-no-rows", {0, 0}},
    };
    char path[256];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (int a = 0; a < ATTENTION_COUNT; a++) {
            struct error err = {0};
            struct family *f;

            snprintf(path, sizeof(path), "tests/cases/family/%s/family.json", cases[i].name);
            f = family_open(path, (enum attention)a, &err);
            assert_int_equal(f ? f->count[FAMILY_LAYER] : 0, cases[i].rows[a]);
            assert_true(f || strstr(err.text, path));
            family_close(f);
        }
}

/* ---- attributes ---- */

static struct family *open_text(const char *text, struct error *err)
{
    scratch_text("family.json", text);
    return family_open(scratch_path("family.json"), ATTENTION_EAGER, err);
}

/* A family whose layer is one norm of this eps and a cache of this window. */
static struct family *open_attrs(const char *eps, const char *window)
{
    char text[2048];
    struct error err = {0};
    struct family *f;

    snprintf(text, sizeof(text),
             "{\"architectures\":[\"Tiny\"],\"before\":[[\"embed\",\"embedding\",\"tokens\"],"
             "[\"cos\",\"rotary\",\"positions\",{\"part\":\"cos\"}],"
             "[\"either\",\"rotary\",\"positions\",{\"part\":{\"full_attention\":\"sin\"}}]],"
             "\"input\":\"embed\",\"layers\":\"h\","
             "\"layer\":[[\"cache\",\"cache_append\",\"x\",{\"width\":2,\"window\":%s}],"
             "[\"x\",\"rms_norm\",\"x\",{\"eps\":%s}]],\"after\":[[\"head\",\"linear\",\"x\"]]}",
             window, eps);
    f = open_text(text, &err);
    if (!f)
        fail_msg("%s", err.text);
    return f;
}

static const char attr_config[] =
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"use_sliding_window\":true,\"sliding_window\":9,"
    "\"max_window_layers\":1,\"my_scale\":0.25,\"my_flag\":true,\"my_text\":\"a\",\"my_zero\":0,"
    "\"my_list\":[1],\"my_words\":[\"a\",\"b\"]," SIZES "}";

static void test_numbers(void **state)
{
    static const struct {
        const char *eps;
        double expected;
    } cases[] = {
        {"1e-5", 1e-5},
        {"3", 3.0},
        {"-2.5", -2.5},
        {"\"my_scale\"", 0.25},
        {"\"my_flag\"", 1.0},
        {"\"sqrt my_scale\"", 0.5},
        {"\"rsqrt my_scale\"", 2.0},
        {"\"hidden_size\"", 64.0},
        {"\"rsqrt hidden_size\"", 0.125},
        {"{\"sliding_attention\":1,\"full_attention\":\"my_scale\"}", 1.0},
        {"{\"full_attention\":1,\"sliding_attention\":\"sqrt my_scale\"}", 0.5},
    };
    struct hf_config *c = open_config(attr_config);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct family *f = open_attrs(cases[i].eps, "0");

        assert_true(attrs_of(f, c, "x", 1).eps == cases[i].expected);
        family_close(f);
    }
    hf_config_close(c);
}

static void test_counts_words_and_choices(void **state)
{
    struct hf_config *c = open_config(attr_config);
    struct family *f =
        open_attrs("0", "{\"sliding_attention\":\"sliding_window\",\"full_attention\":0}");

    (void)state;
    assert_int_equal(attrs_of(f, c, "cache", 0).window, 0);
    assert_int_equal(attrs_of(f, c, "cache", 1).window, 9);
    assert_int_equal(attrs_of(f, c, "cache", 2).window, 9);
    assert_int_equal(attrs_of(f, c, "cache", 1).width, 2);
    assert_int_equal(attrs_of(f, c, "cos", -1).part, ROTARY_COS);
    assert_int_equal(attrs_of(f, c, "either", -1).part, ROTARY_SIN);
    family_close(f);
    hf_config_close(c);
}

static void test_attributes_that_do_not_fit(void **state)
{
    static const struct {
        const char *eps, *window, *row, *says;
    } cases[] = {
        {"\"no_such_key\"", "0", "x", "config.json: no_such_key: missing"},
        {"\"my_text\"", "0", "x", "config.json: my_text: not a number"},
        {"\"my_list\"", "0", "x", "config.json: my_list: not a number for each layer"},
        {"\"my_words\"", "0", "x", "config.json: my_words: not a number"},
        {"\"my_scale + my_none\"", "0", "x", "config.json: my_none: missing"},
        {"\"rsqrt my_zero\"", "0", "x", "'my_zero' of config.json gives no number"},
        {"{\"full_attention\":1}", "0", "x",
         "attribute 'eps': nothing said for layers of type 'sli"},
        {"0", "\"my_scale\"", "cache", "attribute 'window': 0.25 is not a whole number"},
        {"0", "-1", "cache", "attribute 'window': -1 is not a whole number"},
        {"0", "1e300", "cache", "attribute 'window': 1e+300 is not a whole number"},
    };
    struct hf_config *c = open_config(attr_config);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct family *f = open_attrs(cases[i].eps, cases[i].window);
        struct op_attrs attrs;
        struct error err = {0};

        assert_int_equal(family_attrs(f, row_named(f, cases[i].row), c, 1, &attrs, &err), -1);
        assert_int_equal(err.code, 400);
        assert_contains(err.text, scratch_path("family.json: layer row "));
        assert_contains(err.text, cases[i].row);
        assert_contains(err.text, cases[i].says);
        family_close(f);
    }
    hf_config_close(c);
}

/* ---- mistakes ---- */

static void run_case(const char *folder, const char *name)
{
    char path[512], expected[1024], *error;
    struct error err = {0};
    struct family *f;

    snprintf(path, sizeof(path), "%s/%s/error", folder, name);
    error = file_read(path, NULL);
    snprintf(path, sizeof(path), "%s/%s/family.json", folder, name);
    f = family_open(path, ATTENTION_EAGER, &err);
    if (error) {
        error[strcspn(error, "\n")] = '\0';
        snprintf(expected, sizeof(expected), "%s: %s", path, error);
        assert_null(f);
        assert_string_equal(err.text, expected);
        assert_int_equal(err.code, 400);
    } else if (!f) {
        fail_msg("%s", err.text);
    }
    family_close(f);
    free(error);
}

static void test_cases(void **state)
{
    static const char folder[] = "tests/cases/family";
    struct dirent **names = NULL;
    int count = scandir(folder, &names, NULL, alphasort), run = 0;

    (void)state;
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] != '.') {
            run_case(folder, names[i]->d_name);
            run++;
        }
        free(names[i]);
    }
    free(names);
    assert_in_range(run, 40, 1000);
}

static void test_files_that_are_none(void **state)
{
    struct error err = {0};

    (void)state;
    assert_null(family_open("/no/such/family.json", ATTENTION_EAGER, &err));
    assert_contains(err.text, "/no/such/family.json: No such file");
    memset(&err, 0, sizeof(err));
    assert_null(family_open("configs/families", ATTENTION_EAGER, &err));
    assert_contains(err.text, "configs/families: not a regular file");
    assert_null(family_open("/no/such/family.json", ATTENTION_EAGER, NULL));
}

static void mutate_file(const char *path, enum attention attention)
{
    struct hf_config *c = open_config(attr_config);
    uint64_t random = 11;
    size_t size = 0;
    char *good = file_read(path, &size);
    char *text = malloc(size + 128);
    int taken = 0;

    assert_non_null(good);
    for (int i = 0; i < 2000; i++) {
        struct op_attrs attrs;
        struct error err = {0};
        struct family *f;

        memcpy(text, good, size);
        scratch_write("family.json", text, mutate(text, size, &random));
        f = family_open(scratch_path("family.json"), attention, &err);
        for (int k = 0; f && k < f->count[FAMILY_LAYER]; k++)
            family_attrs(f, &f->rows[FAMILY_LAYER][k], c, 1, &attrs, &err);
        taken += f != NULL;
        if (!f || err.code)
            assert_contains(err.text, scratch_path("family.json: "));
        family_close(f);
    }
    assert_in_range(taken, 20, 1000);
    free(text);
    free(good);
    hf_config_close(c);
}

static void test_mutations(void **state)
{
    (void)state;
    mutate_file("tests/cases/family/good/family.json", ATTENTION_EAGER);
    mutate_file("tests/cases/family/attention-good/family.json", ATTENTION_EAGER);
    mutate_file("tests/cases/family/attention-good/family.json", ATTENTION_SDPA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_family),
        cmocka_unit_test(test_unknown_architecture),
        cmocka_unit_test(test_a_broken_file_is_told),
        cmocka_unit_test(test_names_of_attention),
        cmocka_unit_test(test_families_of_either_attention),
        cmocka_unit_test(test_rows_of_the_chosen_attention),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_counts_words_and_choices),
        cmocka_unit_test(test_attributes_that_do_not_fit),
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_files_that_are_none),
        cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
