/* test_logits_processor.c - the keys of generation_config.json, and each processor on a few logits; the
 * bits are compared with transformers' by tests/parity/processors.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/logits_processor.h"

enum { VOCAB = 12, PROMPT = 4 };

static const int64_t text[PROMPT] = {3, 5, 3, 5};
/* Token 5 is the greatest, then 3, 9, 2 (end of text), 0. */
static const float row[VOCAB] = {1, -1, 2, 4, -2, 8, -3, -4, -5, 3, -6, -7};

static struct generation_config read_config(const char *json)
{
    struct generation_config config;
    struct error err = {0};
    json_t *object = json_loads(json, 0, NULL);

    assert_non_null(object);
    generation_config_init(&config, VOCAB);
    config.eos_token_id.at = calloc(1, sizeof(int64_t));
    config.eos_token_id.at[0] = 2;
    config.eos_token_id.count = 1;
    if (generation_config_read(&config, object, NULL, 1, &err))
        fail_msg("%s: %s", json, err.text);
    json_decref(object);
    return config;
}

/* The choice after PROMPT + more tokens of `text`, where max_new_tokens is 3. */
static int64_t choose(const char *json, int more)
{
    struct generation_config config = read_config(json);
    struct logits_processor *p =
        logits_processor_create(&config, PROMPT, 3, 1, numerics_at(0), NULL);
    int64_t ids[PROMPT + 3] = {3, 5, 3, 5, 5, 5, 5}, token;
    bf16 logits[VOCAB];

    assert_non_null(p);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = bf16_from_f32(row[i]);
    token = logits_processor_choose(p, ids, PROMPT + more, logits);
    logits_processor_free(p);
    generation_config_clear(&config);
    return token;
}

static void test_each_processor(void **state)
{
    static const struct {
        const char *json;
        int more;
        int64_t token;
    } cases[] = {
        {"{}", 0, 5},
        {"{\"repetition_penalty\":1.5}", 0, 5},
        {"{\"repetition_penalty\":4.0}", 0, 9},
        {"{\"no_repeat_ngram_size\":1}", 0, 9},
        {"{\"no_repeat_ngram_size\":2}", 0, 5}, /* 5 3 is banned, 5 5 is not */
        {"{\"no_repeat_ngram_size\":3}", 0, 5}, /* 3 5 3 is */
        {"{\"no_repeat_ngram_size\":2}", 2, 9}, /* 5 5 and 5 3 are */
        {"{\"bad_words_ids\":[[5]]}", 0, 3},
        {"{\"bad_words_ids\":[[3,5,5]]}", 0, 3},
        {"{\"bad_words_ids\":[[5,3,5]]}", 0, 5},
        {"{\"sequence_bias\":[[[2],7.5]]}", 0, 2},
        {"{\"sequence_bias\":[[[2],4.0],[[2],4.0]]}", 0, 5}, /* the last of one token counts */
        {"{\"sequence_bias\":[[[2],7.5]],\"bad_words_ids\":[[2]]}", 0,
         2}, /* an end of text stays */
        {"{\"sequence_bias\":[[[2],7.5]],\"min_new_tokens\":1}", 0, 5},
        {"{\"sequence_bias\":[[[2],7.5]],\"min_new_tokens\":1}", 1, 2},
        {"{\"sequence_bias\":[[[2],7.5]],\"min_length\":5}", 0, 5},
        {"{\"sequence_bias\":[[[2],7.5]],\"min_length\":5,\"min_new_tokens\":0}", 0, 2},
        {"{\"forced_eos_token_id\":7}", 1, 5},
        {"{\"forced_eos_token_id\":7}", 2, 7},
        {"{\"suppress_tokens\":[5,3]}", 1, 9},
        {"{\"begin_suppress_tokens\":[5]}", 0, 3},
        {"{\"begin_suppress_tokens\":[5]}", 1, 5},
        {"{\"exponential_decay_length_penalty\":[0,5.0]}", 0, 5},
        {"{\"exponential_decay_length_penalty\":[0,5.0]}", 1, 2},
        {"{\"do_sample\":true,\"top_k\":1}", 0, 5},
        {"{\"do_sample\":true,\"top_k\":0,\"top_p\":0.1}", 0, 5},
        {"{\"do_sample\":true,\"top_k\":0,\"min_p\":0.5}", 0, 5},
        {"{\"do_sample\":true,\"top_k\":0,\"temperature\":0.01}", 0, 5},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (choose(cases[i].json, cases[i].more) != cases[i].token)
            fail_msg("%s after %d more: %lld, not %lld", cases[i].json, cases[i].more,
                     (long long)choose(cases[i].json, cases[i].more), (long long)cases[i].token);
}

/* Over many seeds the draws have the probabilities: here tokens 5 and 3, 0.982 to 0.018. */
static void test_draws(void **state)
{
    struct generation_config config = read_config("{\"do_sample\":true,\"top_k\":2}");
    int count[VOCAB] = {0};
    bf16 logits[VOCAB];

    (void)state;
    for (int i = 0; i < VOCAB; i++)
        logits[i] = bf16_from_f32(row[i]);
    for (uint64_t seed = 0; seed < 20000; seed++) {
        struct logits_processor *p =
            logits_processor_create(&config, PROMPT, 3, seed, numerics_at(0), NULL);

        count[logits_processor_choose(p, text, PROMPT, logits)]++;
        logits_processor_free(p);
    }
    assert_int_equal(count[5] + count[3], 20000);
    assert_in_range(count[3], 300, 420);
    generation_config_clear(&config);
}

/* GENERATION_KEYS and the tables of generation_config.c name the same keys: each is looked at. */
static void test_every_key_is_looked_at(void **state)
{
    static const char *const keys[] = {GENERATION_KEYS};
    const int count = sizeof(keys) / sizeof(keys[0]);
    int read = 0;

    (void)state;
    for (int i = 0; i < count; i++) {
        json_t *object = json_pack("{s:{}}", keys[i]);
        struct generation_config config;
        struct error err = {0};

        generation_config_init(&config, VOCAB);
        if (generation_config_read(&config, object, NULL, 1, &err))
            read++;
        else if (generation_config_check(NULL, NULL, object, 1, &err) == 0)
            fail_msg("%s is passed over", keys[i]);
        assert_string_equal(err.param, keys[i]);
        generation_config_clear(&config);
        json_decref(object);
    }
    for (int i = 0; i < read; i++)
        assert_non_null(generation_config_key(i, 1));
    assert_null(generation_config_key(read, 1));
}

/* What a folder may say of keys that are not mirrored without another choice. */
static void test_words(void **state)
{
    static const char *const fine[] = {"dynamic", "offloaded", "hybrid"};
    static const char *const others[] = {"static", "quantized", "sliding_window", ""};

    (void)state;
    for (int i = 0; i < 3 + 4; i++) {
        json_t *file = json_pack("{s:s}", "cache_implementation", i < 3 ? fine[i] : others[i - 3]);

        assert_int_equal(generation_config_check(file, "config.json", NULL, 0, NULL),
                         i < 3 ? 0 : -1);
        json_decref(file);
    }
}

static void test_whose_key_is_at_fault(void **state)
{
    json_t *file = json_pack("{s:i,s:f}", "num_beams", 4, "typical_p", 0.5);
    json_t *request = json_pack("{s:n}", "num_beams");
    struct error err = {0};

    (void)state;
    assert_int_equal(generation_config_check(file, "config.json", NULL, 0, &err), -1);
    assert_string_equal(err.param, "config.json");
    assert_int_equal(generation_config_check(file, "config.json", request, 0, NULL), 0);
    assert_int_equal(generation_config_check(file, "config.json", request, 1, NULL),
                     -1); /* typical_p */
    json_decref(file);
    json_decref(request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_processor),         cmocka_unit_test(test_draws),
        cmocka_unit_test(test_every_key_is_looked_at), cmocka_unit_test(test_words),
        cmocka_unit_test(test_whose_key_is_at_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
