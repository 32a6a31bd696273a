/* test_hf_config.c - the defaults and derived values of each config class, and what is refused. */
#include "tests/unit/scratch.h"

#include <jansson.h>
#include <math.h>

#include "server/model/hf_config.h"

static const char sizes[] = "{\"vocab_size\":100,\"hidden_size\":64,\"intermediate_size\":96,"
                            "\"num_hidden_layers\":3,\"num_attention_heads\":4}";

/* Opens a config of the sizes above, of this architecture, and with the keys of `more` on top;
 * a key that is "-" in `more` is taken out. */
static struct hf_config *open_with(const char *architecture, const char *more, struct error *err)
{
    json_t *root = json_loads(sizes, 0, NULL), *patch = json_loads(more, 0, NULL), *value;
    const char *key;
    char *text;

    assert_non_null(patch);
    json_object_set_new(root, "architectures", json_pack("[s]", architecture));
    json_object_foreach (patch, key, value) {
        json_object_set(root, key, value);
        if (json_is_string(value) && strcmp(json_string_value(value), "-") == 0)
            json_object_del(root, key);
    }
    text = json_dumps(root, 0);
    scratch_text("config.json", text);
    free(text);
    json_decref(root);
    json_decref(patch);
    return hf_config_open(scratch, err);
}

static struct hf_config *open_good(const char *architecture, const char *more)
{
    struct error err = {0};
    struct hf_config *c = open_with(architecture, more, &err);

    if (!c)
        fail_msg("%s %s: %s", architecture, more, err.text);
    return c;
}

static void assert_number(const char *architecture, const char *more, const char *key,
                          double expected)
{
    struct hf_config *c = open_good(architecture, more);
    double number = -1;

    assert_int_equal(hf_config_number(c, key, &number, NULL), 0);
    if (number != expected)
        fail_msg("%s %s: %s is %g, not %g", architecture, more, key, number, expected);
    hf_config_close(c);
}

static const char qwen2[] = "Qwen2ForCausalLM", qwen3[] = "Qwen3ForCausalLM",
                  llama[] = "LlamaForCausalLM", mistral[] = "MistralForCausalLM",
                  gemma[] = "GemmaForCausalLM", gemma2[] = "Gemma2ForCausalLM",
                  gemma3[] = "Gemma3ForCausalLM", granite[] = "GraniteForCausalLM",
                  smollm3[] = "SmolLM3ForCausalLM", seed_oss[] = "SeedOssForCausalLM",
                  ministral[] = "MinistralForCausalLM", exaone4[] = "Exaone4ForCausalLM",
                  phi3[] = "Phi3ForCausalLM", glm4[] = "Glm4ForCausalLM";

/* The types of the layers, "FS.." with F full, S sliding, and a dot behind those without rope. */
static void assert_types(const char *architecture, const char *more, const char *expected)
{
    struct hf_config *c = open_good(architecture, more);
    char found[64] = "";
    double still;

    for (int64_t i = 0; strlen(found) < strlen(expected); i++) {
        assert_int_equal(hf_config_number_of(c, "layers_without_rope", i, &still, NULL), 0);
        strcat(found, hf_config_layer_type(c, i)[0] == 's' ? "S" : "F");
        strcat(found, still != 0 ? "." : "");
    }
    if (strcmp(found, expected))
        fail_msg("%s %s: layers %s, not %s", architecture, more, found, expected);
    hf_config_close(c);
}

#define EIGHT "\"num_hidden_layers\":8,\"num_key_value_heads\":2,"

static void test_types(void **state)
{
    (void)state;
    assert_types(gemma2, "{" EIGHT "\"sliding_window\":8}", "SFSFSFSF");
    assert_types(gemma3, "{" EIGHT "\"sliding_window\":8}", "SSSSSFSS");
    assert_types(gemma3, "{" EIGHT "\"sliding_window_pattern\":2}", "SFSFSFSF");
    assert_types(smollm3, "{" EIGHT "\"sliding_window\":8}", "FFFF.FFFF.");
    assert_types(smollm3, "{" EIGHT "\"sliding_window\":8,\"use_sliding_window\":true}",
                 "FFFS.FFFS.");
    assert_types(smollm3, "{" EIGHT "\"no_rope_layer_interval\":2}", "FF.FF.FF.FF.");
    assert_types(smollm3, "{" EIGHT "\"no_rope_layers\":[0,1,1,1,1,1,1,0]}", "F.FFFFFFF.");
    assert_types(ministral, "{" EIGHT "\"sliding_window\":8}", "SSSSSSSS");
    assert_types(ministral, "{" EIGHT "\"sliding_window\":null}", "FFFFFFFF");
    assert_types(exaone4, "{" EIGHT "\"sliding_window\":8}", "SSSF.SSSF.");
    assert_types(exaone4,
                 "{\"num_hidden_layers\":2,\"num_key_value_heads\":2,\"sliding_window\":null,"
                 "\"layer_types\":[\"full_attention\",\"full_attention\"]}",
                 "FF");
    assert_types(phi3, "{" EIGHT "\"sliding_window\":8}", "SSSSSSSS");
    assert_types(phi3, "{" EIGHT "\"sliding_window\":null}", "FFFFFFFF");
}

static void assert_rope_width(const char *architecture, const char *more, int64_t expected)
{
    struct hf_config *c = open_good(architecture, more);
    int64_t width = 0;

    assert_int_equal(hf_config_rope_width(c, &width, NULL), 0);
    if (width != expected)
        fail_msg("%s %s: rope turns %d, not %d", architecture, more, (int)width, (int)expected);
    hf_config_close(c);
}

static void assert_theta(const char *architecture, const char *more, enum rotary_layers layers,
                         double expected)
{
    struct hf_config *c = open_good(architecture, more);
    struct rope_config rope;

    assert_int_equal(hf_config_rope_of(c, layers, &rope, NULL), 0);
    if (rope.theta != expected)
        fail_msg("%s %s: theta is %g, not %g", architecture, more, rope.theta, expected);
    hf_config_close(c);
}

static void test_rope_of_classes(void **state)
{
    (void)state;
    assert_rope_width(llama, "{\"head_dim\":32}", 32);
    assert_rope_width(phi3, "{\"head_dim\":32}", 32);
    assert_rope_width(phi3, "{\"head_dim\":32,\"partial_rotary_factor\":0.75}", 24);
    assert_rope_width(glm4, "{\"head_dim\":32}", 16);
    assert_rope_width(glm4, "{\"head_dim\":32,\"rope_parameters\":{\"partial_rotary_factor\":1.0}}",
                      32);
    assert_theta(smollm3, "{}", ROTARY_ALL, 2000000);
    assert_theta(granite, "{}", ROTARY_ALL, 10000);
    assert_theta(gemma3, "{}", ROTARY_FULL, 1000000);
    assert_theta(gemma3, "{}", ROTARY_SLIDING, 10000);
    assert_theta(gemma3, "{\"rope_theta\":5000,\"rope_local_base_freq\":70}", ROTARY_FULL, 5000);
    assert_theta(gemma3, "{\"rope_theta\":5000,\"rope_local_base_freq\":70}", ROTARY_SLIDING, 70);
    assert_theta(gemma3, "{\"rope_parameters\":{\"sliding_attention\":{\"rope_theta\":9.0}}}",
                 ROTARY_SLIDING, 9);
    assert_number(granite, "{}", "attention_multiplier", 1);
    assert_number(seed_oss, "{\"num_key_value_heads\":2}", "attention_bias", 1);
    assert_number(gemma2, "{}", "query_pre_attn_scalar", 256);
}

static void test_derived_numbers(void **state)
{
    static const char many[] = "{\"num_attention_heads\":32}";

    (void)state;
    assert_number(qwen2, many, "num_key_value_heads", 32);
    assert_number(qwen2, "{\"num_key_value_heads\":null}", "num_key_value_heads", 4);
    assert_number(qwen2, "{\"num_key_value_heads\":2}", "num_key_value_heads", 2);
    assert_number(qwen3, many, "num_key_value_heads", 32);
    assert_number(llama, "{}", "num_key_value_heads", 4);
    assert_number(mistral, many, "num_key_value_heads", 8);
    assert_number(mistral, "{\"num_key_value_heads\":null}", "num_key_value_heads", 4);

    assert_number(llama, "{}", "head_dim", 16);
    assert_number(llama, "{\"head_dim\":null}", "head_dim", 16);
    assert_number(llama, "{\"head_dim\":8}", "head_dim", 8);
    assert_number(qwen2, many, "head_dim", 2);
    assert_number(qwen3, many, "head_dim", 128);
    assert_number(qwen3, "{\"head_dim\":24,\"num_key_value_heads\":2}", "head_dim", 24);

    assert_number(llama, "{}", "rms_norm_eps", 1e-6);
    assert_number(llama, "{\"rms_norm_eps\":1e-05}", "rms_norm_eps", 1e-5);
    assert_number(llama, "{}", "max_position_embeddings", 2048);
    assert_number(mistral, many, "max_position_embeddings", 131072);
    assert_number(gemma, "{\"num_attention_heads\":16}", "head_dim", 256);
    assert_number(gemma, "{\"num_attention_heads\":16}", "num_key_value_heads", 16);
    assert_number(gemma, "{\"num_key_value_heads\":1}", "tie_word_embeddings", 1);
    assert_number(gemma, "{\"num_key_value_heads\":1,\"hidden_act\":\"gelu\"}", "eos_token_id", 1);
    assert_number(llama, "{}", "tie_word_embeddings", 0);
    assert_number(llama, "{}", "attention_bias", 0);
    assert_number(llama, "{\"attention_bias\":true}", "attention_bias", 1);
    assert_number(llama, "{\"my_multiplier\":12.5}", "my_multiplier", 12.5);
}

/* What the cache keeps where config.json says these, and what is noticed. */
static void assert_cache_window(const char *architecture, const char *more, double window,
                                const char *notice)
{
    struct hf_config *c = open_good(architecture, more);
    double number = -1;

    assert_int_equal(hf_config_number(c, "cache_window", &number, NULL), 0);
    if (number != window)
        fail_msg("%s %s: a cache of %g, not %g", architecture, more, number, window);
    if (notice)
        assert_contains(hf_config_notice(c, 0), notice);
    else
        assert_null(hf_config_notice(c, 0));
    hf_config_close(c);
}

#define ALL(type) "\"layer_types\":[\"" type "\",\"" type "\",\"" type "\"]"

static void test_cache_window(void **state)
{
    static const char kept[] = "config.json: sliding_window: as in transformers 5.18, no mask of "
                               "LlamaForCausalLM follows it, but the cache keeps the last 15 keys";

    (void)state;
    assert_cache_window(llama, "{}", 0, NULL);
    assert_cache_window(llama, "{\"sliding_window\":null,\"attention_chunk_size\":null}", 0, NULL);
    assert_cache_window(llama, "{\"sliding_window\":16}", 16, kept);
    assert_cache_window(llama, "{\"sliding_window\":16,\"attention_chunk_size\":8}", 16, kept);
    assert_cache_window(llama, "{\"attention_chunk_size\":16}", 16, "attention_chunk_size");
    assert_cache_window(llama, "{\"sliding_window\":16," ALL("full_attention") "}", 0, NULL);
    assert_cache_window(llama, "{\"sliding_window\":16," ALL("sliding_attention") "}", 16, kept);
    assert_cache_window(llama, "{\"attention_chunk_size\":16," ALL("chunked_attention") "}", 16,
                        "attention_chunk_size");
    assert_cache_window(mistral, "{\"num_key_value_heads\":2}", 4096, NULL);
    assert_cache_window(
        mistral, "{\"num_key_value_heads\":2,\"sliding_window\":null,\"attention_chunk_size\":16}",
        16, NULL);
}

static void test_notices(void **state)
{
    static const struct {
        const char *architecture, *more, *says; /* NULL: nothing */
    } cases[] = {
        {llama, "{\"partial_rotary_factor\":0.5}",
         "config.json: partial_rotary_factor: not followed, as by transformers 5.18: "
         "LlamaForCausalLM turns all pairs"},
        {llama, "{\"rope_parameters\":{\"partial_rotary_factor\":0.5}}", "partial_rotary_factor"},
        {llama, "{\"rope_scaling\":{\"type\":\"default\",\"partial_rotary_factor\":0}}",
         "partial_rotary_factor"},
        {llama, "{\"partial_rotary_factor\":1.0,\"is_causal\":true}", NULL},
        {llama, "{\"partial_rotary_factor\":null,\"num_kv_shared_layers\":0}", NULL},
        {gemma, "{\"num_key_value_heads\":1,\"use_bidirectional_attention\":true}",
         "use_bidirectional_attention: not followed"},
        {gemma, "{\"num_key_value_heads\":1,\"use_bidirectional_attention\":false}", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hf_config *c = open_good(cases[i].architecture, cases[i].more);

        if (cases[i].says)
            assert_contains(hf_config_notice(c, 0), cases[i].says);
        else if (hf_config_notice(c, 0))
            fail_msg("%s: %s", cases[i].more, hf_config_notice(c, 0));
        hf_config_close(c);
    }
    scratch_text("generation_config.json", "{");
    struct hf_config *c = open_good(llama, "{}");
    assert_contains(hf_config_notice(c, 0), "generation_config.json: not followed, as it cannot");
    assert_string_equal(hf_config_generation_file(c), "config.json");
    hf_config_close(c);
    unlink(scratch_path("generation_config.json"));
}

static void assert_layers(const char *architecture, const char *more, const char *types,
                          double window)
{
    struct hf_config *c = open_good(architecture, more);
    double number = -1;

    for (int64_t i = 0; i < 3; i++)
        if (hf_config_layer_type(c, i)[0] != types[i])
            fail_msg("%s %s: layer %d is %s", architecture, more, (int)i,
                     hf_config_layer_type(c, i));
    assert_int_equal(hf_config_number(c, "sliding_window", &number, NULL), 0);
    assert_true(number == window);
    assert_string_equal(hf_config_layer_type(c, -1), "full_attention");
    assert_string_equal(hf_config_layer_type(c, 3), "full_attention");
    hf_config_close(c);
}

static void test_layer_types(void **state)
{
#define KV "\"num_key_value_heads\":2"
    (void)state;
    assert_layers(llama, "{" KV "}", "fff", 0);
    assert_layers(llama, "{" KV ",\"sliding_window\":null}", "fff", 0);
    assert_layers(llama, "{" KV ",\"sliding_window\":16}", "fff", 0);
    assert_layers(qwen2, "{" KV "}", "fff", 0);
    assert_layers(qwen2, "{" KV ",\"sliding_window\":16}", "fff", 0);
    assert_layers(qwen2, "{" KV ",\"use_sliding_window\":true}", "fff", 4096);
    assert_layers(qwen2, "{" KV ",\"use_sliding_window\":true,\"sliding_window\":null}", "fff", 0);
    assert_layers(
        qwen2, "{" KV ",\"use_sliding_window\":true,\"sliding_window\":9,\"max_window_layers\":1}",
        "fss", 9);
    assert_layers(
        qwen3, "{" KV ",\"use_sliding_window\":true,\"sliding_window\":9,\"max_window_layers\":2}",
        "ffs", 9);
    assert_layers(qwen3,
                  "{" KV ",\"use_sliding_window\":true,\"layer_types\":[\"sliding_attention\","
                  "\"full_attention\",\"sliding_attention\"]}",
                  "sfs", 4096);
    assert_layers(qwen2, "{" KV ",\"layer_types\":null}", "fff", 0);
    assert_layers(mistral, "{" KV "}", "sss", 4096);
    assert_layers(mistral, "{" KV ",\"sliding_window\":null}", "fff", 0);
    assert_layers(mistral, "{" KV ",\"sliding_window\":7}", "sss", 7);
    assert_layers(mistral,
                  "{" KV ",\"sliding_window\":null,\"layer_types\":[\"full_attention\","
                  "\"full_attention\",\"full_attention\"]}",
                  "fff", 0);
}

/* ---- rope ---- */

static void assert_rope(const char *more, enum rope_type type, double theta, double factor,
                        double original)
{
    struct hf_config *c = open_good(llama, more);
    struct rope_config rope;
    struct error err = {0};

    if (hf_config_rope(c, &rope, &err))
        fail_msg("%s: %s", more, err.text);
    assert_int_equal(rope.type, type);
    assert_true(rope.theta == theta);
    assert_true(rope.factor == factor);
    assert_true(rope.original_max_position_embeddings == original);
    assert_true(rope.low_freq_factor == (type == ROPE_LLAMA3 ? 1 : 0));
    assert_true(rope.high_freq_factor == (type == ROPE_LLAMA3 ? 4 : 0));
    hf_config_close(c);
}

#define LLAMA3                                                                                     \
    "\"rope_type\":\"llama3\",\"factor\":32.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0"
#define ORIGINAL ",\"original_max_position_embeddings\":"

static void test_rope(void **state)
{
    (void)state;
    assert_rope("{}", ROPE_DEFAULT, 10000, 0, 0);
    assert_rope("{\"rope_theta\":500000}", ROPE_DEFAULT, 500000, 0, 0);
    assert_rope("{\"rope_theta\":5e5,\"rope_scaling\":null}", ROPE_DEFAULT, 500000, 0, 0);
    assert_rope("{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", ROPE_LINEAR, 10000, 2, 0);
    assert_rope("{\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1e6}}",
                ROPE_DEFAULT, 1e6, 0, 0);
    assert_rope("{\"rope_theta\":5,\"rope_parameters\":{\"rope_theta\":1e6}}", ROPE_DEFAULT, 1e6, 0,
                0);
    assert_rope("{\"rope_theta\":5,\"rope_parameters\":{\"rope_type\":\"default\"}}", ROPE_DEFAULT,
                5, 0, 0);
    assert_rope("{\"rope_theta\":5,\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":4.0},"
                "\"rope_parameters\":{\"rope_theta\":7}}",
                ROPE_LINEAR, 5, 4, 0);
    assert_rope("{\"rope_scaling\":{},\"rope_parameters\":{\"rope_theta\":7}}", ROPE_DEFAULT, 7, 0,
                0);
    assert_rope("{\"rope_theta\":5e5,\"rope_scaling\":{" LLAMA3 ORIGINAL "8192}}", ROPE_LLAMA3,
                500000, 32, 8192);
    assert_rope("{\"rope_parameters\":{" LLAMA3 ORIGINAL "8192,\"rope_theta\":9}}", ROPE_LLAMA3, 9,
                32, 8192);
    assert_rope("{\"rope_scaling\":{" LLAMA3 "}}", ROPE_LLAMA3, 10000, 32, 2048);
    assert_rope("{\"rope_scaling\":{" LLAMA3 ORIGINAL "8192}" ORIGINAL "77}", ROPE_LLAMA3, 10000,
                32, 77);
    assert_rope("{\"partial_rotary_factor\":1.0}", ROPE_DEFAULT, 10000, 0, 0);
}

/* Attention factors as ROPE_INIT_FUNCTIONS of transformers 5.18 gives them. */
static void test_scaled_rope(void **state)
{
    static const struct {
        const char *more;
        double factor, attention_factor;
    } cases[] = {
        {"\"rope_type\":\"yarn\",\"factor\":4.0", 4, 1.138629436111989},
        {"\"rope_type\":\"yarn\",\"factor\":null" ORIGINAL "512", 4, 1.138629436111989},
        {"\"rope_type\":\"yarn\",\"factor\":4.0,\"attention_factor\":1.5", 4, 1.5},
        {"\"rope_type\":\"yarn\",\"factor\":4.0,\"attention_factor\":0,\"beta_fast\":0", 4, 0},
        {"\"rope_type\":\"yarn\",\"factor\":40,\"mscale\":0.7,\"mscale_all_dim\":0", 40,
         0.1 * 3.6888794541139363 + 1},
        {"\"rope_type\":\"yarn\",\"factor\":40,\"mscale\":1.0,\"mscale_all_dim\":1.0", 40, 1},
        {"\"rope_type\":\"yarn\",\"factor\":40,\"mscale\":0.707,\"mscale_all_dim\":1.0", 40,
         0.9210423553163399},
        {"\"rope_type\":\"yarn\",\"factor\":0.5", 0.5, 1},
        {"\"rope_type\":\"dynamic\",\"factor\":2.0", 2, 1},
        {"\"rope_type\":\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,1],"
         "\"long_factor\":[2,2,2,2,2,2,2,2]" ORIGINAL "64",
         32, 1.3540064007726602},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rope_config rope;
        struct hf_config *c;
        char more[256];

        snprintf(more, sizeof(more), "{\"rope_scaling\":{%s}}", cases[i].more);
        c = open_good(llama, more);
        assert_int_equal(hf_config_rope(c, &rope, NULL), 0);
        if (rope.factor != cases[i].factor ||
            fabs(rope.attention_factor - cases[i].attention_factor) > 1e-15)
            fail_msg("%s: factor %g, attention factor %.17g", more, rope.factor,
                     rope.attention_factor);
        hf_config_close(c);
    }
}

static void test_rope_refused(void **state)
{
    static const struct {
        const char *more, *says;
    } cases[] = {
        {"{\"rope_scaling\":{\"rope_type\":\"su\",\"factor\":2}}",
         "config.json: rope_scaling.rope_type: 'su' is not supported"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\"}}", "rope_scaling.factor: missing"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,\"beta_fast\":\"32\"}}",
         "rope_scaling.beta_fast: not a number"},
        {"{\"rope_scaling\":{\"type\":\"dynamic\"}}", "rope_scaling.factor: missing"},
        {"{\"rope_parameters\":{\"rope_type\":\"longrope\"}}",
         "rope_parameters.short_factor: not a list"},
        {"{\"rope_parameters\":{\"rope_type\":\"longrope\",\"short_factor\":[1,1],"
         "\"long_factor\":[1]}}",
         "rope_parameters.short_factor: not a number for every pair of head_dim"},
        {"{\"rope_parameters\":{\"rope_type\":\"longrope\",\"short_factor\":[1,0]}}",
         "rope_parameters.short_factor: not a list of numbers above 0"},
        {"{\"rope_parameters\":{\"rope_type\":1}}", "rope_parameters.rope_type: not a string"},
        {"{\"rope_scaling\":[1]}", "config.json: rope_scaling: not an object"},
        {"{\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1}}}",
         "rope_parameters: parameters by layer type are not supported"},
        {"{\"rope_scaling\":{\"type\":\"linear\"}}", "rope_scaling.factor: missing"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"2\"}}", "rope_scaling.factor: not a"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}}", "rope_scaling.factor: not a"},
        {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}",
         "rope_scaling.low_freq_factor: missing"},
        {"{\"rope_scaling\":{" LLAMA3 ORIGINAL "null}}", "rope_scaling.original_max_position_emb"},
        {"{\"rope_theta\":null}", "config.json: rope_theta: not a number above 0"},
        {"{\"rope_theta\":-1}", "config.json: rope_theta: not a number above 0"},
        {"{\"rope_theta\":\"1e4\"}", "config.json: rope_theta: not a number above 0"},
        {"{\"partial_rotary_factor\":0.5,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}",
         "config.json: partial_rotary_factor: only 1 is supported with rope_type linear"},
        {"{\"rope_parameters\":{\"partial_rotary_factor\":0.5,\"rope_type\":\"dynamic\",\"factor\":"
         "2}}",
         "config.json: partial_rotary_factor: only 1 is supported with rope_type dynamic"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,\"beta_fast\":-1}}",
         "rope_scaling.beta_fast: below 0"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,\"mscale\":\"1\"}}",
         "rope_scaling.mscale: not a number"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hf_config *c = open_good(llama, cases[i].more);
        struct rope_config rope;
        struct error err = {0};

        assert_int_equal(hf_config_rope(c, &rope, &err), -1);
        assert_int_equal(err.code, 400);
        assert_contains(err.text, cases[i].says);
        assert_contains(err.param, "config.json: ");
        hf_config_close(c);
    }
}

/* ---- what cannot be opened ---- */

static void test_refused(void **state)
{
    static const struct {
        const char *architecture, *more, *says;
    } cases[] = {
        {llama, "{\"hidden_act\":\"gelu_pytorch_tanh\"}", "(silu is)"},
        {gemma, "{\"num_key_value_heads\":1,\"hidden_act\":\"silu\"}", "(gelu_pytorch_tanh is)"},
        {llama, "{\"is_causal\":null}", "is_causal: attention to tokens that come later"},
        {llama, "{\"num_kv_shared_layers\":1}", "num_kv_shared_layers: is not supported"},
        {llama, "{\"transformers_weights\":\"a\"}", "transformers_weights: is not supported"},
        {llama, "{\"sliding_window\":\"wide\"}", "sliding_window: not a whole number"},
        {llama, "{\"sliding_window\":1}", "sliding_window: a window of 1 is not supported"},
        {llama, "{\"layer_types\":[\"full_attention\",\"full_attention\",\"sliding_attention\"]}",
         "layer_types: types that differ are not supported by LlamaForCausalLM"},
        {gemma2, "{\"hidden_activation\":\"silu\"}", "hidden_activation: 'silu' is not supported"},
        {gemma2, "{\"sliding_window\":null}", "sliding_window: null, and there are no layer_types"},
        {gemma3, "{\"final_logit_softcapping\":30.0}", "final_logit_softcapping: is not supported"},
        {gemma3, "{\"sliding_window_pattern\":0}", "sliding_window_pattern: 0 is not between"},
        {smollm3, "{\"no_rope_layers\":[1]}", "no_rope_layers: not a list of num_hidden_layers"},
        {smollm3, "{\"no_rope_layers\":[1,1,\"x\"]}", "no_rope_layers: [2] is not a whole number"},
        {smollm3, "{\"no_rope_layer_interval\":0}", "no_rope_layer_interval: 0 is not between"},
        {phi3, "{\"layer_types\":[\"sliding_attention\",\"full_attention\",\"full_attention\"]}",
         "layer_types: types that differ are not supported by Phi3ForCausalLM"},
        {gemma2, "{\"use_bidirectional_attention\":true}",
         "use_bidirectional_attention: is not supported"},
        {llama, "{\"architectures\":\"-\"}", "model_type: missing, and architectures names none"},
        {llama, "{\"architectures\":[]}", "model_type: missing, and architectures names none"},
        {llama, "{\"architectures\":[1]}", "model_type: missing, and architectures names none"},
        {llama, "{\"model_type\":\"odd\"}", "model_type: 'odd' is not supported"},
        {llama, "{\"model_type\":\"odd\",\"architectures\":null}", "model_type: 'odd' is not"},
        {llama, "{\"model_type\":\"LLAMA\"}", "model_type: 'LLAMA' is not supported"},
        {llama, "{\"model_type\":3}", "model_type: not a string"},
        {llama, "{\"model_type\":null}", "model_type: not a string"},
        {llama, "{\"quantization_config\":{\"quant_method\":\"gptq\"}}",
         "quantization_config: quantized checkpoints (gptq) are not supported"},
        {llama, "{\"quantization_config\":{}}", "quantization_config: quantized"},
        {llama, "{\"vocab_size\":\"-\"}", "vocab_size: missing"},
        {llama, "{\"hidden_size\":\"-\"}", "hidden_size: missing"},
        {llama, "{\"intermediate_size\":\"-\"}", "intermediate_size: missing"},
        {llama, "{\"num_hidden_layers\":\"-\"}", "num_hidden_layers: missing"},
        {llama, "{\"num_attention_heads\":\"-\"}", "num_attention_heads: missing"},
        {llama, "{\"num_hidden_layers\":0}", "num_hidden_layers: 0 is not between 1 and 2^31"},
        {llama, "{\"num_hidden_layers\":4097}", "num_hidden_layers: 4097 is more than 4096"},
        {llama, "{\"num_hidden_layers\":2.0}", "num_hidden_layers: not a whole number"},
        {llama, "{\"hidden_size\":-64}", "hidden_size: -64 is not between"},
        {llama, "{\"hidden_size\":2147483649}", "hidden_size: 2147483649 is not between"},
        {llama, "{\"hidden_size\":\"64\"}", "hidden_size: not a whole number"},
        {llama, "{\"hidden_size\":[64]}", "hidden_size: not a whole number"},
        {llama, "{\"hidden_size\":66}", "hidden_size: 66 is not a multiple of 4 attention heads"},
        {llama, "{\"vocab_size\":true}", "vocab_size: not a whole number"},
        {llama, "{\"num_key_value_heads\":3}", "num_key_value_heads: 4 attention heads cannot"},
        {llama, "{\"num_key_value_heads\":8}", "num_key_value_heads: 4 attention heads cannot"},
        {llama, "{\"num_key_value_heads\":0}", "num_key_value_heads: 0 is not between"},
        {qwen2, "{}", "num_key_value_heads: 4 attention heads cannot share 32"},
        {llama, "{\"head_dim\":15}", "head_dim: 15 is odd"},
        {llama, "{\"head_dim\":0}", "head_dim: 0 is not between"},
        {qwen3, "{\"num_key_value_heads\":2,\"head_dim\":null}", "head_dim: not a whole number"},
        {llama, "{\"head_dim\":2147483648}", "num_attention_heads x head_dim is more than 2^31"},
        {llama, "{\"num_attention_heads\":2147483648}", "head_dim: 0 is not between"},
        {llama, "{\"rms_norm_eps\":\"1e-6\"}", "rms_norm_eps: not a number"},
        {llama, "{\"rms_norm_eps\":true}", "rms_norm_eps: not a number"},
        {llama, "{\"rms_norm_eps\":1}", "rms_norm_eps: not a number from 0 with a point"},
        {llama, "{\"rms_norm_eps\":-1e-6}", "rms_norm_eps: not a number"},
        {llama, "{\"hidden_act\":\"gelu\"}", "hidden_act: 'gelu' is not supported"},
        {llama, "{\"hidden_act\":null}", "hidden_act: '?' is not supported"},
        {llama, "{\"attention_bias\":1}", "attention_bias: not true or false"},
        {llama, "{\"tie_word_embeddings\":\"yes\"}", "tie_word_embeddings: not true or false"},
        {mistral, "{\"num_key_value_heads\":2,\"sliding_window\":0}", "sliding_window: 0 is not"},
        {mistral, "{\"num_key_value_heads\":2,\"sliding_window\":1}", "sliding_window: a window"},
        {mistral,
         "{\"num_key_value_heads\":2,\"layer_types\":[\"full_attention\","
         "\"full_attention\",\"full_attention\"]}",
         "layer_types: [0] 'full_attention' does not fit sliding_window"},
        {llama, "{\"layer_types\":[\"full_attention\"]}", "layer_types: not a list of num_hidden"},
        {llama, "{\"layer_types\":7}", "layer_types: not a list of num_hidden"},
        {llama,
         "{\"layer_types\":[\"linear_attention\",\"linear_attention\",\"linear_attention\"]}",
         "layer_types: 'linear_attention' is not supported"},
        {qwen2,
         "{\"num_key_value_heads\":2,\"layer_types\":[\"full_attention\","
         "\"sliding_attention\",\"full_attention\"]}",
         "layer_types: [1] slides, but no sliding_window is in force"},
        {qwen2, "{\"num_key_value_heads\":2,\"max_window_layers\":\"2\"}",
         "max_window_layers: not"},
        {llama, "{\"eos_token_id\":2.0}", "eos_token_id: not a token id"},
        {llama, "{\"eos_token_id\":\"2\"}", "eos_token_id: not a token id"},
        {llama, "{\"eos_token_id\":[2,\"3\"]}", "eos_token_id: not a token id"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};

        if (open_with(cases[i].architecture, cases[i].more, &err))
            fail_msg("accepted: %s", cases[i].more);
        assert_int_equal(err.code, 400);
        assert_contains(err.text, scratch_path("config.json: "));
        assert_contains(err.text, cases[i].says);
    }
}

static void test_bad_files(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {{"", "config.json: line"},
                 {"[]", "config.json: not a JSON object"},
                 {"{\"a\":}", "config.json: line 1"},
                 {"{\"a\":\"\xff\"}", "config.json: line 1"}};
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error again = {0};

        scratch_text("config.json", cases[i].text);
        assert_null(hf_config_open(scratch, &again));
        assert_contains(again.text, cases[i].says);
    }
    assert_null(hf_config_open("/nowhere/at/all", &err));
    assert_contains(err.text, "/nowhere/at/all/config.json: No such file");
    assert_null(hf_config_open("/nowhere/at/all", NULL));
}

/* A config.json of an architecture without a row in hf_config_rules.c is read without checks; a key
 * that is missing or wrong is an error only where it is asked for. */
static void test_unknown_architecture(void **state)
{
    struct hf_config *c = open_good("GPT2LMHeadModel", "{\"hidden_size\":\"-\",\"n_head\":12}");
    struct error err = {0};
    int64_t count;

    (void)state;
    assert_string_equal(hf_config_architecture(c), "GPT2LMHeadModel");
    assert_int_equal(hf_config_count(c, "n_head", &count, NULL), 0);
    assert_int_equal(count, 12);
    assert_int_equal(hf_config_count(c, "hidden_size", &count, &err), -1);
    assert_contains(err.text, "config.json: hidden_size: missing");
    assert_string_equal(err.param, "config.json: hidden_size");
    hf_config_close(c);
}

static void assert_eos(const char *more, const char *generation, const char *expected)
{
    char text[128] = "";
    int64_t ids[4];
    struct hf_config *c;
    int count;

    unlink(scratch_path("generation_config.json"));
    if (generation)
        scratch_text("generation_config.json", generation);
    c = open_good(llama, more);
    count = hf_config_eos(c, ids, 4);
    for (int i = 0; i < count; i++)
        sprintf(text + strlen(text), "%lld ", (long long)ids[i]);
    assert_string_equal(text, expected);
    hf_config_close(c);
}

static void test_eos(void **state)
{
    struct error err = {0};

    (void)state;
    assert_eos("{}", NULL, "2 ");
    assert_eos("{\"eos_token_id\":7}", NULL, "7 ");
    assert_eos("{\"eos_token_id\":[7,8]}", NULL, "7 8 ");
    assert_eos("{\"eos_token_id\":null}", NULL, "");
    assert_eos("{\"eos_token_id\":-1}", NULL, "");
    assert_eos("{\"eos_token_id\":[7,-1,8]}", NULL, "7 8 ");
    assert_eos("{\"eos_token_id\":[]}", NULL, "");
    assert_eos("{\"eos_token_id\":7}", "{\"eos_token_id\":-1}", "");
    assert_eos("{\"eos_token_id\":7}", "{}", ""); /* as generate() of transformers has it */
    assert_eos("{\"eos_token_id\":7}", "{\"eos_token_id\":null}", "");
    assert_eos("{\"eos_token_id\":7}", "{\"eos_token_id\":9}", "9 ");
    assert_eos("{\"eos_token_id\":7}", "{\"eos_token_id\":[1,2,3,4,5,6]}", "1 2 3 4 ");
    scratch_text("generation_config.json", "{\"eos_token_id\":\"</s>\"}");
    assert_null(open_with(llama, "{}", &err));
    assert_contains(err.text, "generation_config.json: eos_token_id: not a token id");
    memset(&err, 0, sizeof(err));
    assert_eos("{\"eos_token_id\":7}", "{", "7 ");
    unlink(scratch_path("generation_config.json"));
}

/* AutoModelForCausalLM goes by model_type. */
static void test_model_type_decides(void **state)
{
    static const struct {
        const char *architectures, *type, *is;
    } cases[] = {{"[\"LlamaForCausalLM\"]", "\"llama\"", "LlamaForCausalLM"},
                 {"[\"LLaMAForCausalLM\"]", "\"llama\"", "LlamaForCausalLM"},
                 {"[\"Qwen2ForCausalLM\"]", "\"llama\"", "LlamaForCausalLM"},
                 {"null", "\"llama\"", "LlamaForCausalLM"},
                 {"[]", "\"mistral\"", "MistralForCausalLM"},
                 {"\"LlamaForCausalLM\"", "\"llama\"", "LlamaForCausalLM"},
                 {"5", "\"llama\"", "LlamaForCausalLM"},
                 {"[\"Qwen3Model\"]", "\"qwen3\"", "Qwen3ForCausalLM"},
                 {"[\"OddForCausalLM\"]", "\"odd\"", "OddForCausalLM"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char more[128];
        struct hf_config *c;

        snprintf(more, sizeof(more), "{\"architectures\":%s,\"model_type\":%s," KV "}",
                 cases[i].architectures, cases[i].type);
        c = open_good(llama, more);
        assert_string_equal(hf_config_architecture(c), cases[i].is);
        hf_config_close(c);
    }
}

/* Python's json module accepts what the JSON standard does not: NaN, Infinity, numbers out of range,
 * NUL characters and lone surrogates. */
static void test_read_as_python_reads(void **state)
{
    static const struct {
        const char *more, *text; /* keys of a config.json; what hf_config_text() gives for them */
    } cases[] = {
        {"\"a\":NaN,\"b\":[Infinity,-Infinity]",
         "\"a\":\"NaN\",\"b\":[\"Infinity\",\"-Infinity\"]"},
        {"\"a\":1e999,\"b\":-1e999", "\"a\":\"Infinity\",\"b\":\"-Infinity\""},
        {"\"a\":123456789012345678901234567890", "\"a\":1.2345678901234568e29"},
        {"\"a\":999999999999999999", "\"a\":999999999999999999"},
        {"\"a\":\"x\\u0000y\",\"k\\u0000\":1", "\"a\":\"x\xef\xbf\xbdy\",\"k\xef\xbf\xbd\":1"},
        {"\"a\":\"\\ud800 \\udc00 \\ud83d\\ude00\"",
         "\"a\":\"\xef\xbf\xbd \xef\xbf\xbd \xf0\x9f\x98\x80\""},
        {"\"a\":\"NaN \\\" Infinity\"", "\"a\":\"NaN \\\" Infinity\""},
    };
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];
        struct hf_config *c;

        snprintf(text, sizeof(text), "{\"architectures\":[\"Odd\"],%s}", cases[i].more);
        scratch_text("config.json", text);
        c = hf_config_open(scratch, &err);
        if (!c)
            fail_msg("%s: %s", cases[i].more, err.text);
        assert_contains(hf_config_text(c), cases[i].text);
        hf_config_close(c);
    }
    scratch_text("config.json", "{\"architectures\":[\"Odd\"],\n\"a\":NaNs}");
    assert_null(hf_config_open(scratch, &err));
    assert_contains(err.text, "config.json: line 2");
}

static void test_text_is_the_file(void **state)
{
    struct hf_config *c;

    (void)state;
    scratch_text("config.json", "{ \"architectures\" : [\"Odd\"],\n \"b\": 1e-05, \"a\": null }");
    c = hf_config_open(scratch, NULL);
    assert_non_null(c);
    assert_string_equal(hf_config_text(c),
                        "{\"architectures\":[\"Odd\"],\"b\":1.0000000000000001e-5,"
                        "\"a\":null}");
    assert_string_equal(hf_config_folder(c), scratch);
    hf_config_close(c);
}

static void test_mutations(void **state)
{
    static const char good[] =
        "{\"architectures\":[\"Qwen3ForCausalLM\"],\"vocab_size\":100,\"hidden_size\":64,"
        "\"intermediate_size\":96,\"num_hidden_layers\":3,\"num_attention_heads\":4,"
        "\"num_key_value_heads\":2,\"head_dim\":24,\"use_sliding_window\":true,"
        "\"sliding_window\":9,\"max_window_layers\":1,\"eos_token_id\":[1,2],"
        "\"rope_scaling\":{" LLAMA3 ORIGINAL "8192},\"rope_theta\":1e6}";
    uint64_t random = 7;
    int taken = 0;

    (void)state;
    for (int i = 0; i < 2000; i++) {
        char text[sizeof(good) + 64];
        struct rope_config rope;
        struct error err = {0};
        struct hf_config *c;

        memcpy(text, good, sizeof(good));
        scratch_write("config.json", text, mutate(text, sizeof(good) - 1, &random));
        c = hf_config_open(scratch, &err);
        if (c && !hf_config_rope(c, &rope, &err))
            taken++;
        else
            assert_contains(err.text, scratch_path("config.json: "));
        assert_true(c != NULL || err.code == 400);
        hf_config_close(c);
    }
    assert_in_range(taken, 20, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_rope_of_classes),
        cmocka_unit_test(test_derived_numbers),
        cmocka_unit_test(test_layer_types),
        cmocka_unit_test(test_cache_window),
        cmocka_unit_test(test_notices),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_scaled_rope),
        cmocka_unit_test(test_rope_refused),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_unknown_architecture),
        cmocka_unit_test(test_eos),
        cmocka_unit_test(test_model_type_decides),
        cmocka_unit_test(test_read_as_python_reads),
        cmocka_unit_test(test_text_is_the_file),
        cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
