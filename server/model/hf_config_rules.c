/* hf_config_rules.c - the config classes of transformers 5.18: defaults and derived values.
 *
 * A new architecture whose config class has defaults of its own is a row of the table; one without
 * a row is read as it stands. */
#include "server/model/hf_config_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LAYERS = 4096 };

/* What an architecture's config class (transformers/models/<model_type>/configuration_*.py) does
 * where a key is missing.  Counts that make up the shape of a model have no default here: a
 * config.json without them is broken. */
enum window_rule {
    WINDOW_NONE,    /* the architecture has no sliding window */
    WINDOW_IF_USED, /* use_sliding_window, for layers from max_window_layers on */
    WINDOW_ALL,     /* sliding_window, when not null, for all layers */
    WINDOW_TYPES,   /* by layer_types; where they are missing all but every `full`-th layer slide */
    WINDOW_NO_ROPE, /* use_sliding_window, for layers without rope */
};

/* Which layers leave queries and keys as they are ("layers_without_rope" in `values`). */
enum still_rule {
    STILL_NONE,
    STILL_LISTED,         /* 0 in no_rope_layers, or every no_rope_layer_interval-th */
    STILL_FULL,           /* those of full attention */
    STILL_FULL_OF_WINDOW, /* likewise, where there is a sliding_window */
};

struct hf_architecture {
    const char *name, *model_type;
    int64_t kv_heads; /* 0: as many as attention heads */
    int64_t head_dim; /* 0: hidden_size / num_attention_heads */
    int64_t max_positions;
    int64_t eos; /* -1: none */
    enum window_rule window;
    const char *activation; /* of the mlp, which the family's rows have; the default too */
    const char *also;       /* another name that the config class takes for it, or the same */
    int ties;               /* tie_word_embeddings by default */
    int divides; /* hidden_size must be a multiple of the heads even with an explicit head_dim */
    /* ---- what most have not ---- */
    const char *more;        /* further defaults, as JSON; they come before the common ones */
    const char *activations; /* the key of the activation; NULL: hidden_act */
    const char *eps;         /* the key of the norms' eps; NULL: rms_norm_eps */
    const char *pattern;     /* the key that may say `full` */
    int64_t full;            /* of WINDOW_TYPES: 0 = all layers slide if there is a window */
    enum still_rule still;
    double theta;        /* rope_theta; 0: 10000 */
    double partial;      /* partial_rotary_factor by default; 0: only 1 is known */
    int longrope;        /* "su" and "yarn" are other names of longrope */
    int by_type;         /* rope parameters by layer type */
    const char *refuses; /* keys that must be absent, null or false, separated by spaces */
};

static const struct hf_architecture architectures[] = {
    {"Qwen2ForCausalLM", "qwen2", 32, 0, 32768, -1, WINDOW_IF_USED, "silu", "swish", 0,
     .divides = 0},
    {"Qwen3ForCausalLM", "qwen3", 32, 128, 32768, -1, WINDOW_IF_USED, "silu", "swish", 0,
     .divides = 0},
    {"LlamaForCausalLM", "llama", 0, 0, 2048, 2, WINDOW_NONE, "silu", "swish", 0, .divides = 1},
    {"MistralForCausalLM", "mistral", 8, 0, 131072, 2, WINDOW_ALL, "silu", "swish", 0,
     .divides = 0},
    {"GemmaForCausalLM", "gemma", 16, 256, 8192, 1, WINDOW_NONE, "gelu_pytorch_tanh", "gelu", 1,
     .divides = 0},
    {"Gemma2ForCausalLM", "gemma2", 4, 256, 8192, 1, WINDOW_TYPES, "gelu_pytorch_tanh",
     "gelu_pytorch_tanh", 1, 1, .activations = "hidden_activation", .full = 2,
     .refuses = "use_bidirectional_attention",
     .more = "{\"query_pre_attn_scalar\":256,\"final_logit_softcapping\":30.0,"
             "\"attn_logit_softcapping\":50.0}"},
    {"Gemma3ForCausalLM", "gemma3_text", 4, 256, 131072, 1, WINDOW_TYPES, "gelu_pytorch_tanh",
     "gelu_pytorch_tanh", 1, 1, .activations = "hidden_activation", .full = 6,
     .pattern = "sliding_window_pattern", .by_type = 1,
     .refuses = "final_logit_softcapping use_bidirectional_attention",
     .more = "{\"query_pre_attn_scalar\":256}"},
    {"GraniteForCausalLM", "granite", 0, 0, 2048, 2, WINDOW_NONE, "silu", "swish", 0, 0,
     .more = "{\"embedding_multiplier\":1.0,\"logits_scaling\":1.0,\"residual_multiplier\":1.0,"
             "\"attention_multiplier\":1.0}"},
    {"SmolLM3ForCausalLM", "smollm3", 4, 0, 32768, 128001, WINDOW_NO_ROPE, "silu", "swish", 1, 0,
     .still = STILL_LISTED, .theta = 2000000.0,
     .more = "{\"sliding_window\":null,\"no_rope_layer_interval\":4}"},
    {"SeedOssForCausalLM", "seed_oss", 8, 128, 524288, 2, WINDOW_NONE, "silu", "swish", 0, 0,
     .more = "{\"attention_bias\":true,\"attention_out_bias\":false}"},
    {"MinistralForCausalLM", "ministral", 8, 0, 131072, 2, WINDOW_TYPES, "silu", "swish", 0,
     .divides = 0},
    {"Exaone4ForCausalLM", "exaone4", 32, 0, 2048, 2, WINDOW_TYPES, "silu", "swish", 0, 0,
     .still = STILL_FULL_OF_WINDOW, .pattern = "sliding_window_pattern", .full = 4,
     .more = "{\"rms_norm_eps\":1e-5}"},
    {"Phi3ForCausalLM", "phi3", 0, 0, 4096, 32000, WINDOW_ALL, "silu", "swish", 0, 0,
     .partial = 1.0, .longrope = 1,
     .more = "{\"sliding_window\":null,\"rms_norm_eps\":1e-5,"
             "\"original_max_position_embeddings\":4096}"},
    {"Glm4ForCausalLM", "glm4", 2, 128, 131072, -1, WINDOW_NONE, "silu", "swish", 0, 0,
     .partial = 0.5,
     .more = "{\"attention_bias\":true,\"rms_norm_eps\":1.5625e-7,"
             "\"eos_token_id\":[151329,151336,151338]}"},
    {"StableLmForCausalLM", "stablelm", 32, 0, 4096, 0, WINDOW_NONE, "silu", "swish", 0, 1,
     .partial = 0.25, .eps = "layer_norm_eps", .refuses = "qk_layernorm use_parallel_residual",
     .more = "{\"layer_norm_eps\":1e-5,\"use_qkv_bias\":false}"},
    {"Starcoder2ForCausalLM", "starcoder2", 2, 0, 4096, 50256, WINDOW_ALL, "gelu_pytorch_tanh",
     "gelu_pytorch_tanh", 1, 0, .eps = "norm_epsilon",
     .more = "{\"norm_epsilon\":1e-5,\"use_bias\":true,\"sliding_window\":null}"},
    {"Cohere2ForCausalLM", "cohere2", 0, 0, 8192, 255001, WINDOW_TYPES, "silu", "swish", 1, 0,
     .still = STILL_FULL, .pattern = "sliding_window_pattern", .full = 4, .eps = "layer_norm_eps",
     .more = "{\"layer_norm_eps\":1e-5,\"logit_scale\":0.0625}"},
};

const struct hf_architecture *hf_architecture_find(const char *name)
{
    for (size_t i = 0; i < sizeof(architectures) / sizeof(architectures[0]); i++)
        if (strcmp(architectures[i].name, name) == 0)
            return &architectures[i];
    return NULL;
}

const struct hf_architecture *hf_architecture_of_type(const char *model_type)
{
    for (size_t i = 0; i < sizeof(architectures) / sizeof(architectures[0]); i++)
        if (strcmp(architectures[i].model_type, model_type) == 0)
            return &architectures[i];
    return NULL;
}

const char *hf_architecture_name(const struct hf_architecture *a)
{
    return a->name;
}

double hf_architecture_theta(const struct hf_architecture *a)
{
    return a && a->theta > 0 ? a->theta : 10000.0;
}

double hf_architecture_partial(const struct hf_architecture *a)
{
    return a ? a->partial : 0;
}

int hf_architecture_takes_longrope(const struct hf_architecture *a)
{
    return a && a->longrope;
}

int hf_architecture_rope_by_type(const struct hf_architecture *a)
{
    return a && a->by_type;
}

static void put_integer(struct hf_config *c, const char *key, int64_t n)
{
    c->no_memory |= json_object_set_new(c->values, key, json_integer(n)) != 0;
}

static void put_default(struct hf_config *c, const char *key, json_t *value)
{
    if (json_object_get(c->values, key))
        json_decref(value);
    else
        c->no_memory |= json_object_set_new(c->values, key, value) != 0;
}

static const char *activation_key(const struct hf_config *c)
{
    return c->rules->activations ? c->rules->activations : "hidden_act";
}

static const char *eps_key(const struct hf_config *c)
{
    return c->rules->eps ? c->rules->eps : "rms_norm_eps";
}

static int check_booleans(const struct hf_config *c, struct error *err)
{
    static const char *const keys[] = {
        "tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window",
        "attention_out_bias",  "use_qkv_bias",   "use_bias"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (!json_is_boolean(json_object_get(c->values, keys[i])))
            return hf_config_bad(c, keys[i], err, "not true or false");
    return 0;
}

/* The defaults that only this architecture has. */
static void fill_more(struct hf_config *c)
{
    json_t *more = c->rules->more ? json_loads(c->rules->more, 0, NULL) : json_object(), *value;
    const char *key;

    c->no_memory |= !more;
    json_object_foreach (more, key, value)
        put_default(c, key, json_incref(value));
    json_decref(more);
}

static void fill_defaults(struct hf_config *c)
{
    fill_more(c);
    put_default(c, "attention_out_bias", json_false());
    put_default(c, "use_qkv_bias", json_false());
    put_default(c, "use_bias", json_false());
    put_default(c, "tie_word_embeddings", json_boolean(c->rules->ties));
    put_default(c, "attention_bias", json_false());
    put_default(c, "mlp_bias", json_false());
    put_default(c, "use_sliding_window", json_false());
    put_default(c, activation_key(c), json_string(c->rules->activation));
    put_default(c, "rms_norm_eps", json_real(1e-6));
    put_default(c, "max_position_embeddings", json_integer(c->rules->max_positions));
    put_default(c, "max_window_layers", json_integer(28));
    if (c->rules->window != WINDOW_NONE)
        put_default(c, "sliding_window", json_integer(4096));
    if (c->rules->kv_heads)
        put_default(c, "num_key_value_heads", json_integer(c->rules->kv_heads));
    if (c->rules->head_dim)
        put_default(c, "head_dim", json_integer(c->rules->head_dim));
    if (c->rules->eos >= 0)
        put_default(c, "eos_token_id", json_integer(c->rules->eos));
}

static int is_absent(const struct hf_config *c, const char *key)
{
    const json_t *value = json_object_get(c->values, key);

    return !value || json_is_null(value);
}

static int derive_heads(struct hf_config *c, struct error *err)
{
    int64_t hidden, heads, kv_heads, head_dim;

    if (hf_config_count(c, "hidden_size", &hidden, err) ||
        hf_config_count(c, "num_attention_heads", &heads, err))
        return -1;
    if (is_absent(c, "num_key_value_heads"))
        put_integer(c, "num_key_value_heads", heads);
    if (is_absent(c, "head_dim") && !c->rules->head_dim)
        put_integer(c, "head_dim", hidden / heads);
    if (hf_config_count(c, "num_key_value_heads", &kv_heads, err) ||
        hf_config_count(c, "head_dim", &head_dim, err))
        return -1;
    if (heads % kv_heads)
        return hf_config_bad(c, "num_key_value_heads", err,
                             "%lld attention heads cannot share %lld key-value heads",
                             (long long)heads, (long long)kv_heads);
    if (c->rules->divides && hidden % heads)
        return hf_config_bad(c, "hidden_size", err,
                             "%lld is not a multiple of %lld attention heads", (long long)hidden,
                             (long long)heads);
    if (head_dim % 2)
        return hf_config_bad(c, "head_dim", err, "%lld is odd, and rope turns pairs",
                             (long long)head_dim);
    if (heads * head_dim > HF_CONFIG_LARGEST)
        return hf_config_bad(c, "head_dim", err,
                             "num_attention_heads x head_dim is more than 2^31");
    return 0;
}

static int check_sizes(struct hf_config *c, struct error *err)
{
    int64_t n;
    double eps;

    if (hf_config_count(c, "vocab_size", &n, err) ||
        hf_config_count(c, "intermediate_size", &n, err) ||
        hf_config_count(c, "max_position_embeddings", &n, err) ||
        hf_config_count(c, "num_hidden_layers", &c->layers, err))
        return -1;
    if (c->layers > MOST_LAYERS)
        return hf_config_bad(c, "num_hidden_layers", err, "%lld is more than %d",
                             (long long)c->layers, MOST_LAYERS);
    /* The config classes declare a float, and take no int for it. */
    if (!json_is_real(json_object_get(c->values, eps_key(c))) ||
        hf_config_number(c, eps_key(c), &eps, err) || eps < 0)
        return hf_config_bad(c, eps_key(c), err,
                             "not a number from 0 with a point or an exponent (a float)");
    return 0;
}

static int check_activation(const struct hf_config *c, struct error *err)
{
    const char *name = json_string_value(json_object_get(c->values, activation_key(c)));

    if (name && (strcmp(name, c->rules->activation) == 0 || strcmp(name, c->rules->also) == 0))
        return 0;
    return hf_config_bad(c, activation_key(c), err, "'%.40s' is not supported (%s is)",
                         name ? name : "?", c->rules->activation);
}

/* Keys that the config classes do not declare and that change what transformers does all the same.
 * (masking_utils.py goes by the truth of is_causal, also by that of null.) */
static int check_foreign(const struct hf_config *c, struct error *err)
{
    static const char *const keys[] = {"num_kv_shared_layers", "transformers_weights",
                                       "fusion_config", "per_layer_config"};
    const json_t *causal = json_object_get(c->values, "is_causal");

    if (causal && !hf_config_truth(causal))
        return hf_config_bad(c, "is_causal", err,
                             "attention to tokens that come later is not supported");
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (hf_config_truth(json_object_get(c->values, keys[i])))
            return hf_config_bad(c, keys[i], err, "is not supported");
    return 0;
}

/* The class declares it, its modeling code does not read it. */
static void note_bidirectional(struct hf_config *c)
{
    if (hf_config_truth(json_object_get(c->values, "use_bidirectional_attention")))
        hf_config_note(c, "use_bidirectional_attention",
                       "not followed, as by transformers 5.18: no token sees a later one");
}

/* The type that all of layer_types have, NULL where there is no such list; 400 where they differ. */
static int common_layer_type(const struct hf_config *c, const char **out, struct error *err)
{
    const json_t *list = json_object_get(c->root, "layer_types");
    const char *first = json_string_value(json_array_get(list, 0));

    *out = NULL;
    if (!list || json_is_null(list))
        return 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *type = json_string_value(json_array_get(list, i));

        if (!first || !type || strcmp(type, first) != 0)
            return hf_config_bad(c, "layer_types", err, "types that differ are not supported by %s",
                                 c->name);
    }
    if (json_array_size(list) != (size_t)c->layers)
        return hf_config_bad(c, "layer_types", err,
                             "not a list of num_hidden_layers (%lld) strings",
                             (long long)c->layers);
    *out = first;
    return 0;
}

/* The key that DynamicCache takes the window of all layers from (get_layer_types_and_kwargs of
 * cache_utils.py): it looks at the keys, whether or not the class knows them.  NULL: no window. */
static const char *cache_window_key(const struct hf_config *c, const char *type)
{
    static const char sliding[] = "sliding_window", chunks[] = "attention_chunk_size";

    if (type)
        return strcmp(type, "sliding_attention") == 0   ? sliding
               : strcmp(type, "chunked_attention") == 0 ? chunks
                                                        : NULL;
    return !is_absent(c, sliding) ? sliding : !is_absent(c, chunks) ? chunks : NULL;
}

/* Puts cache_window: how many keys a call sees that are its own or those before it, 0 for all.  Where the
 * class has no window the mask hides none of them, so that only what is no longer kept is not seen. */
static int derive_cache_window(struct hf_config *c, struct error *err)
{
    const char *type, *key;
    int64_t window = 0;

    if (c->rules->window != WINDOW_NONE && c->rules->window != WINDOW_ALL)
        return 0;
    if (common_layer_type(c, &type, err))
        return -1;
    if (type && !cache_window_key(c, type) && strcmp(type, "full_attention") != 0)
        return hf_config_bad(c, "layer_types", err, "'%.40s' is not supported", type);
    key = cache_window_key(c, type);
    if (key && hf_config_count(c, key, &window, err))
        return -1;
    if (window == 1) /* which keeps all: see derive_window */
        return hf_config_bad(c, key, err, "a window of 1 is not supported");
    if (key && c->rules->window == WINDOW_NONE)
        hf_config_note(c, key,
                       "as in transformers 5.18, no mask of %s follows it, but the cache keeps the "
                       "last %lld keys: a call sees these and its own tokens",
                       c->name, (long long)window - 1);
    put_integer(c, "cache_window", window);
    return 0;
}

static int check_absent(const struct hf_config *c, const char *key, struct error *err)
{
    return hf_config_truth(json_object_get(c->values, key))
               ? hf_config_bad(c, key, err, "is not supported")
               : 0;
}

/* What would compute otherwise than the family's rows. */
static int check_refused(const struct hf_config *c, struct error *err)
{
    const char *at = c->rules->refuses ? c->rules->refuses : "";
    char key[64];

    for (; *at; at += strspn(at, " ")) {
        snprintf(key, sizeof(key), "%.*s", (int)strcspn(at, " "), at);
        at += strcspn(at, " ");
        if (check_absent(c, key, err))
            return -1;
    }
    return 0;
}

/* Replaces sliding_window by the window that is in force, 0 for none, as the config class does. */
static int derive_window(struct hf_config *c, struct error *err)
{
    int64_t window;

    if (c->rules->window == WINDOW_NONE || is_absent(c, "sliding_window") ||
        ((c->rules->window == WINDOW_IF_USED || c->rules->window == WINDOW_NO_ROPE) &&
         !hf_config_bool(c, "use_sliding_window", 0))) {
        put_integer(c, "sliding_window", 0);
        return 0;
    }
    if (hf_config_count(c, "sliding_window", &window, err))
        return -1;
    /* DynamicSlidingWindowLayer keeps the last window - 1 keys: of a window of 1, all of them. */
    return window < 2 ? hf_config_bad(c, "sliding_window", err, "a window of 1 is not supported")
                      : 0;
}

/* Whether layer i has no rope, as no_rope_layers says; where it is not given, every n-th. */
static int listed_still(const struct hf_config *c, int64_t i)
{
    const json_t *list = json_object_get(c->values, "no_rope_layers");
    const json_t *interval = json_object_get(c->values, "no_rope_layer_interval");

    if (json_is_array(list))
        return json_integer_value(json_array_get(list, (size_t)i)) == 0;
    return (i + 1) % json_integer_value(interval) == 0;
}

static int check_no_rope(const struct hf_config *c, struct error *err)
{
    const json_t *list = json_object_get(c->values, "no_rope_layers");
    int64_t interval;

    if (c->rules->still != STILL_LISTED)
        return 0;
    if (!list || json_is_null(list))
        return hf_config_count(c, "no_rope_layer_interval", &interval, err);
    if (json_array_size(list) < (size_t)c->layers)
        return hf_config_bad(c, "no_rope_layers", err,
                             "not a list of num_hidden_layers (%lld) numbers",
                             (long long)c->layers);
    for (int64_t i = 0; i < c->layers; i++)
        if (!json_is_integer(json_array_get(list, (size_t)i)))
            return hf_config_bad(c, "no_rope_layers", err, "[%lld] is not a whole number",
                                 (long long)i);
    return 0;
}

static void derive_still(struct hf_config *c)
{
    json_t *list = json_array();
    const int64_t window = json_integer_value(json_object_get(c->values, "sliding_window"));

    for (int64_t i = 0; i < c->layers; i++) {
        const enum still_rule rule = c->rules->still;
        const int still = rule == STILL_LISTED           ? listed_still(c, i)
                          : rule == STILL_FULL           ? !c->sliding[i]
                          : rule == STILL_FULL_OF_WINDOW ? window > 0 && !c->sliding[i]
                                                         : 0;

        c->no_memory |= json_array_append_new(list, json_integer(still)) != 0;
    }
    c->no_memory |= json_object_set_new(c->values, "layers_without_rope", list) != 0;
}

/* layer_types of WINDOW_TYPES where config.json has none: every n-th layer is full. */
static int derive_pattern(struct hf_config *c, struct error *err)
{
    const json_t *given = json_object_get(c->root, "layer_types");
    const char *key = c->rules->pattern;
    int64_t every = c->rules->full, window;

    if (given && !json_is_null(given))
        return 0;
    if (key && json_object_get(c->root, key) && hf_config_count(c, key, &every, err))
        return -1;
    window = json_integer_value(json_object_get(c->values, "sliding_window"));
    if (every && !window)
        return hf_config_bad(c, "sliding_window", err, "null, and there are no layer_types");
    for (int64_t i = 0; i < c->layers; i++)
        c->sliding[i] = (unsigned char)(every ? (i + 1) % every != 0 : window > 0);
    return 0;
}

static int derive_layer_types(struct hf_config *c, struct error *err)
{
    const json_t *value = json_object_get(c->values, "max_window_layers");
    double window = 0;
    int64_t first = json_integer_value(value);

    if (c->rules->window == WINDOW_IF_USED && !json_is_integer(value))
        return hf_config_bad(c, "max_window_layers", err, "not a whole number");
    if (c->rules->window == WINDOW_TYPES)
        return derive_pattern(c, err);
    if (c->rules->window == WINDOW_ALL)
        first = 0;
    if (hf_config_number(c, "sliding_window", &window, err))
        return -1;
    for (int64_t i = 0; i < c->layers; i++)
        c->sliding[i] =
            window > 0 && (c->rules->window == WINDOW_NO_ROPE ? listed_still(c, i) : i >= first);
    return 0;
}

/* An explicit layer_types.  Mistral's class and Phi-3's obey it in the cache alone, not in the mask: of
 * these we take what says nothing new. */
static int read_layer_types(struct hf_config *c, const json_t *list, struct error *err)
{
    if (json_array_size(list) != (size_t)c->layers)
        return hf_config_bad(c, "layer_types", err,
                             "not a list of num_hidden_layers (%lld) strings",
                             (long long)c->layers);
    for (int64_t i = 0; i < c->layers; i++) {
        const char *type = json_string_value(json_array_get(list, (size_t)i));
        int sliding = type && strcmp(type, "sliding_attention") == 0;

        if (!type || (!sliding && strcmp(type, "full_attention") != 0))
            return hf_config_bad(c, "layer_types", err, "[%lld] '%.40s' is not supported",
                                 (long long)i, type ? type : "?");
        if (sliding && json_integer_value(json_object_get(c->values, "sliding_window")) == 0)
            return hf_config_bad(c, "layer_types", err,
                                 "[%lld] slides, but no sliding_window is in force", (long long)i);
        if ((c->rules->window == WINDOW_NONE || c->rules->window == WINDOW_ALL) &&
            sliding != c->sliding[i])
            return hf_config_bad(c, "layer_types", err,
                                 "[%lld] '%s' does not fit sliding_window of %s", (long long)i,
                                 type, c->name);
        c->sliding[i] = (unsigned char)sliding;
    }
    return 0;
}

int hf_config_apply_rules(struct hf_config *c, struct error *err)
{
    const json_t *types = json_object_get(c->root, "layer_types");

    fill_defaults(c);
    if (check_booleans(c, err) || check_sizes(c, err) || derive_heads(c, err) ||
        check_activation(c, err) || check_foreign(c, err) || check_refused(c, err) ||
        check_no_rope(c, err) || derive_cache_window(c, err) || derive_window(c, err))
        return -1;
    note_bidirectional(c);
    hf_config_note_rope(c);
    c->sliding = calloc((size_t)c->layers, 1);
    if (!c->sliding || c->no_memory)
        return error_set(err, 500, "%s: no memory", c->path);
    if (derive_layer_types(c, err) ||
        (types && !json_is_null(types) && c->rules->window != WINDOW_NONE &&
         read_layer_types(c, types, err)))
        return -1;
    derive_still(c);
    return c->no_memory ? error_set(err, 500, "%s: no memory", c->path) : 0;
}
