/* hf_config.c - see hf_config.h.
 *
 * `root` is config.json as it is; `values` is the same with the defaults filled in and the derived
 * keys replaced, so that every later question is one lookup. */
#include "server/model/hf_config.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/model/json_file.h"

enum { MOST_LAYERS = 4096 };
static const int64_t largest_count = (int64_t)1 << 31;

/* What an architecture's config class (transformers/models/<model_type>/configuration_*.py) does
 * where a key is missing.  Counts that make up the shape of a model have no default here: a
 * config.json without them is broken. */
enum window_rule {
    WINDOW_NONE,    /* the architecture has no sliding window */
    WINDOW_IF_USED, /* use_sliding_window, for layers from max_window_layers on */
    WINDOW_ALL,     /* sliding_window, when not null, for all layers */
};

struct architecture {
    const char *name, *model_type;
    int64_t kv_heads; /* 0: as many as attention heads */
    int64_t head_dim; /* 0: hidden_size / num_attention_heads */
    int64_t max_positions;
    int64_t eos; /* -1: none */
    enum window_rule window;
    int divides; /* hidden_size must be a multiple of the heads even with an explicit head_dim */
};

static const struct architecture architectures[] = {
    {"Qwen2ForCausalLM", "qwen2", 32, 0, 32768, -1, WINDOW_IF_USED, 0},
    {"Qwen3ForCausalLM", "qwen3", 32, 128, 32768, -1, WINDOW_IF_USED, 0},
    {"LlamaForCausalLM", "llama", 0, 0, 2048, 2, WINDOW_NONE, 1},
    {"MistralForCausalLM", "mistral", 8, 0, 131072, 2, WINDOW_ALL, 0},
};

struct hf_config {
    char *folder, *path, *text;
    const char *name;                 /* of the architecture, in root */
    const struct architecture *rules; /* NULL: an architecture that is not in the table */
    json_t *root, *values, *generation;
    int64_t layers;
    unsigned char *sliding; /* by layer */
};

static int bad(const struct hf_config *c, const char *key, struct error *err, const char *format,
               ...) __attribute__((format(printf, 4, 5)));

static int bad(const struct hf_config *c, const char *key, struct error *err, const char *format,
               ...)
{
    char what[256], param[96];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    snprintf(param, sizeof(param), "config.json: %s", key);
    return error_param(err, 400, param, "%s: %.64s: %s", c->path, key, what);
}

static void put_integer(struct hf_config *c, const char *key, int64_t n)
{
    json_object_set_new(c->values, key, json_integer(n));
}

static void put_default(struct hf_config *c, const char *key, json_t *value)
{
    if (json_object_get(c->values, key))
        json_decref(value);
    else
        json_object_set_new(c->values, key, value);
}

/* ---- lookups ---- */

int hf_config_number(const struct hf_config *c, const char *key, double *out, struct error *err)
{
    const json_t *value = json_object_get(c->values, key);

    if (!value)
        return bad(c, key, err, "missing");
    if (json_is_boolean(value))
        *out = json_is_true(value);
    else if (json_is_null(value) && strcmp(key, "sliding_window") == 0)
        *out = 0;
    else if (json_is_number(value))
        *out = json_number_value(value);
    else
        return bad(c, key, err, "not a number");
    return 0;
}

int hf_config_count(const struct hf_config *c, const char *key, int64_t *out, struct error *err)
{
    const json_t *value = json_object_get(c->values, key);

    if (!value)
        return bad(c, key, err, "missing");
    if (!json_is_integer(value))
        return bad(c, key, err, "not a whole number");
    *out = json_integer_value(value);
    if (*out < 1 || *out > largest_count)
        return bad(c, key, err, "%lld is not between 1 and 2^31", (long long)*out);
    return 0;
}

int hf_config_bool(const struct hf_config *c, const char *key, int otherwise)
{
    const json_t *value = json_object_get(c->values, key);

    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

const char *hf_config_layer_type(const struct hf_config *c, int64_t layer)
{
    int sliding = layer >= 0 && layer < c->layers && c->sliding[layer];

    return sliding ? "sliding_attention" : "full_attention";
}

const char *hf_config_folder(const struct hf_config *c)
{
    return c->folder;
}

const char *hf_config_architecture(const struct hf_config *c)
{
    return c->name;
}

const char *hf_config_text(const struct hf_config *c)
{
    return c->text;
}

static int copy_ids(const json_t *value, int64_t *ids, int most)
{
    int count = 0;

    if (json_is_integer(value) && most > 0)
        ids[count++] = json_integer_value(value);
    for (size_t i = 0; i < json_array_size(value) && count < most; i++)
        ids[count++] = json_integer_value(json_array_get(value, i));
    return count;
}

int hf_config_eos(const struct hf_config *c, int64_t *ids, int most)
{
    const json_t *value = json_object_get(c->generation, "eos_token_id");

    if (!value || json_is_null(value))
        value = json_object_get(c->values, "eos_token_id");
    return copy_ids(value, ids, most);
}

/* ---- rope ---- */

struct rope_source {
    const char *key; /* "rope_scaling" or "rope_parameters", for errors */
    const json_t *parameters;
};

static int rope_bad(const struct hf_config *c, const struct rope_source *from, const char *key,
                    struct error *err, const char *what)
{
    char path[64];

    snprintf(path, sizeof(path), "%s.%s", from->key, key);
    return bad(c, path, err, "%s", what);
}

static int rope_number(const struct hf_config *c, const struct rope_source *from, const char *key,
                       double *out, struct error *err)
{
    const json_t *value = json_object_get(from->parameters, key);

    if (!value)
        return rope_bad(c, from, key, err, "missing");
    *out = json_number_value(value);
    if (!json_is_number(value) || !isfinite(*out) || *out <= 0)
        return rope_bad(c, from, key, err, "not a number above 0");
    return 0;
}

/* rope_scaling wins over rope_parameters unless it is null or empty; the key of either may be
 * missing. */
static int find_rope(const struct hf_config *c, struct rope_source *out, struct error *err)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};

    out->parameters = NULL;
    out->key = keys[1];
    for (int i = 0; i < 2; i++) {
        const json_t *value = json_object_get(c->root, keys[i]);

        if (!value || json_is_null(value))
            continue;
        if (!json_is_object(value))
            return bad(c, keys[i], err, "not an object");
        if (json_object_size(value) == 0)
            continue;
        out->parameters = value;
        out->key = keys[i];
        break;
    }
    if (json_object_get(out->parameters, "full_attention") ||
        json_object_get(out->parameters, "sliding_attention"))
        return bad(c, out->key, err, "parameters by layer type are not supported");
    return 0;
}

static int read_rope_type(const struct hf_config *c, const struct rope_source *from,
                          struct rope_config *out, struct error *err)
{
    static const char *const names[] = {
        [ROPE_DEFAULT] = "default", [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3"};
    const json_t *value = json_object_get(from->parameters, "rope_type");
    char what[128];

    if (!value)
        value = json_object_get(from->parameters, "type");
    out->type = ROPE_DEFAULT;
    if (!value)
        return 0;
    if (!json_is_string(value))
        return rope_bad(c, from, "rope_type", err, "not a string");
    for (int i = 0; i < (int)(sizeof(names) / sizeof(names[0])); i++)
        if (strcmp(json_string_value(value), names[i]) == 0) {
            out->type = (enum rope_type)i;
            return 0;
        }
    snprintf(what, sizeof(what), "'%.40s' is not supported (default, linear, llama3 are)",
             json_string_value(value));
    return rope_bad(c, from, "rope_type", err, what);
}

static int read_theta(const struct hf_config *c, const struct rope_source *from,
                      struct rope_config *out, struct error *err)
{
    const json_t *value = json_object_get(c->root, "rope_theta");

    if (json_object_get(from->parameters, "rope_theta"))
        return rope_number(c, from, "rope_theta", &out->theta, err);
    out->theta = value ? json_number_value(value) : 10000.0;
    if (!isfinite(out->theta) || out->theta <= 0 || (value && !json_is_number(value)))
        return bad(c, "rope_theta", err, "not a number above 0");
    return 0;
}

static int read_llama3(const struct hf_config *c, const struct rope_source *from,
                       struct rope_config *out, struct error *err)
{
    static const char *const original = "original_max_position_embeddings";
    int64_t positions;

    if (rope_number(c, from, "low_freq_factor", &out->low_freq_factor, err) ||
        rope_number(c, from, "high_freq_factor", &out->high_freq_factor, err))
        return -1;
    if (out->high_freq_factor <= out->low_freq_factor)
        return rope_bad(c, from, "high_freq_factor", err, "not above low_freq_factor");
    /* The top-level key wins, then the one beside the factors, then the model's own length. */
    if (!json_object_get(c->root, original) && json_object_get(from->parameters, original))
        return rope_number(c, from, original, &out->original_max_position_embeddings, err);
    if (hf_config_count(c,
                        json_object_get(c->root, original) ? original : "max_position_embeddings",
                        &positions, err))
        return -1;
    out->original_max_position_embeddings = (double)positions;
    return 0;
}

static int check_partial(const struct hf_config *c, const struct rope_source *from,
                         struct error *err)
{
    const json_t *inner = json_object_get(from->parameters, "partial_rotary_factor");
    const json_t *outer = json_object_get(c->root, "partial_rotary_factor");

    if (inner && !json_is_null(inner) && json_number_value(inner) != 1.0)
        return rope_bad(c, from, "partial_rotary_factor", err, "only 1 is supported");
    if (outer && !json_is_null(outer) && json_number_value(outer) != 1.0)
        return bad(c, "partial_rotary_factor", err, "only 1 is supported");
    return 0;
}

int hf_config_rope(const struct hf_config *c, struct rope_config *out, struct error *err)
{
    struct rope_source from;

    memset(out, 0, sizeof(*out));
    if (find_rope(c, &from, err) || read_rope_type(c, &from, out, err) ||
        check_partial(c, &from, err) || read_theta(c, &from, out, err))
        return -1;
    if (out->type != ROPE_DEFAULT && rope_number(c, &from, "factor", &out->factor, err))
        return -1;
    return out->type == ROPE_LLAMA3 ? read_llama3(c, &from, out, err) : 0;
}

/* ---- opening: what every architecture has ---- */

static int read_architecture(struct hf_config *c, struct error *err)
{
    const json_t *list = json_object_get(c->root, "architectures");
    const json_t *type = json_object_get(c->root, "model_type");

    c->name = json_string_value(json_array_get(list, 0));
    if (!list)
        return bad(c, "architectures", err, "missing");
    if (!c->name)
        return bad(c, "architectures", err, "not a list of strings");
    for (size_t i = 0; i < sizeof(architectures) / sizeof(architectures[0]); i++)
        if (strcmp(architectures[i].name, c->name) == 0)
            c->rules = &architectures[i];
    if (type && !json_is_string(type))
        return bad(c, "model_type", err, "not a string");
    if (type && c->rules && strcmp(json_string_value(type), c->rules->model_type) != 0)
        return bad(c, "model_type", err, "'%.60s' is not the model_type of %s, which is '%s'",
                   json_string_value(type), c->name, c->rules->model_type);
    return 0;
}

static int check_quantization(const struct hf_config *c, struct error *err)
{
    const json_t *value = json_object_get(c->root, "quantization_config");
    const char *method = json_string_value(json_object_get(value, "quant_method"));

    if (!value || json_is_null(value))
        return 0;
    return bad(c, "quantization_config", err, "quantized checkpoints (%.40s) are not supported",
               method ? method : "unknown method");
}

static int check_ids(const struct hf_config *c, const char *file, const json_t *value,
                     struct error *err)
{
    size_t n = json_array_size(value);
    int good = !value || json_is_null(value) || json_is_array(value) ||
               (json_is_integer(value) && json_integer_value(value) >= 0);

    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(value, i);

        good = good && json_is_integer(id) && json_integer_value(id) >= 0;
    }
    if (good)
        return 0;
    return error_param(err, 400, "eos_token_id",
                       "%s/%s: eos_token_id: not a token id or a list of them", c->folder, file);
}

static int check_eos(const struct hf_config *c, struct error *err)
{
    if (check_ids(c, "config.json", json_object_get(c->root, "eos_token_id"), err))
        return -1;
    return check_ids(c, "generation_config.json", json_object_get(c->generation, "eos_token_id"),
                     err);
}

/* ---- opening: the rules of a known architecture ---- */

static int check_booleans(const struct hf_config *c, struct error *err)
{
    static const char *const keys[] = {"tie_word_embeddings", "attention_bias", "mlp_bias",
                                       "use_sliding_window"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (!json_is_boolean(json_object_get(c->values, keys[i])))
            return bad(c, keys[i], err, "not true or false");
    return 0;
}

static void fill_defaults(struct hf_config *c)
{
    put_default(c, "tie_word_embeddings", json_false());
    put_default(c, "attention_bias", json_false());
    put_default(c, "mlp_bias", json_false());
    put_default(c, "use_sliding_window", json_false());
    put_default(c, "hidden_act", json_string("silu"));
    put_default(c, "rms_norm_eps", json_real(1e-6));
    put_default(c, "max_position_embeddings", json_integer(c->rules->max_positions));
    put_default(c, "max_window_layers", json_integer(28));
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
        return bad(c, "num_key_value_heads", err,
                   "%lld attention heads cannot share %lld key-value heads", (long long)heads,
                   (long long)kv_heads);
    if (c->rules->divides && hidden % heads)
        return bad(c, "hidden_size", err, "%lld is not a multiple of %lld attention heads",
                   (long long)hidden, (long long)heads);
    if (head_dim % 2)
        return bad(c, "head_dim", err, "%lld is odd, and rope turns pairs", (long long)head_dim);
    if (heads * head_dim > largest_count)
        return bad(c, "head_dim", err, "num_attention_heads x head_dim is more than 2^31");
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
        return bad(c, "num_hidden_layers", err, "%lld is more than %d", (long long)c->layers,
                   MOST_LAYERS);
    if (!json_is_number(json_object_get(c->values, "rms_norm_eps")) ||
        hf_config_number(c, "rms_norm_eps", &eps, err) || !isfinite(eps) || eps < 0)
        return bad(c, "rms_norm_eps", err, "not a number from 0");
    return 0;
}

static int check_activation(const struct hf_config *c, struct error *err)
{
    const char *name = json_string_value(json_object_get(c->values, "hidden_act"));

    if (name && (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0))
        return 0;
    return bad(c, "hidden_act", err, "'%.40s' is not supported (silu is)", name ? name : "?");
}

/* Replaces sliding_window by what the config class makes of it: 0 where it is not in force. */
static int derive_window(struct hf_config *c, struct error *err)
{
    int written = json_object_get(c->root, "sliding_window") && !is_absent(c, "sliding_window");
    int64_t window;

    if (c->rules->window == WINDOW_NONE && written)
        return bad(c, "sliding_window", err, "%s has none", c->name);
    if (c->rules->window == WINDOW_NONE || is_absent(c, "sliding_window") ||
        (c->rules->window == WINDOW_IF_USED && !hf_config_bool(c, "use_sliding_window", 0))) {
        put_integer(c, "sliding_window", 0);
        return 0;
    }
    if (hf_config_count(c, "sliding_window", &window, err))
        return -1;
    /* DynamicSlidingWindowLayer keeps the last window - 1 keys: of a window of 1, all of them. */
    return window < 2 ? bad(c, "sliding_window", err, "a window of 1 is not supported") : 0;
}

static int derive_layer_types(struct hf_config *c, struct error *err)
{
    const json_t *value = json_object_get(c->values, "max_window_layers");
    double window = 0;
    int64_t first = json_integer_value(value);

    if (c->rules->window == WINDOW_IF_USED && !json_is_integer(value))
        return bad(c, "max_window_layers", err, "not a whole number");
    if (c->rules->window == WINDOW_ALL)
        first = 0;
    if (hf_config_number(c, "sliding_window", &window, err))
        return -1;
    for (int64_t i = 0; i < c->layers; i++)
        c->sliding[i] = window > 0 && i >= first;
    return 0;
}

/* An explicit layer_types.  Only the qwen classes obey it in the mask and in the cache alike; of
 * the others we take what says nothing new. */
static int read_layer_types(struct hf_config *c, const json_t *list, struct error *err)
{
    if (json_array_size(list) != (size_t)c->layers)
        return bad(c, "layer_types", err, "not a list of num_hidden_layers (%lld) strings",
                   (long long)c->layers);
    for (int64_t i = 0; i < c->layers; i++) {
        const char *type = json_string_value(json_array_get(list, (size_t)i));
        int sliding = type && strcmp(type, "sliding_attention") == 0;

        if (!type || (!sliding && strcmp(type, "full_attention") != 0))
            return bad(c, "layer_types", err, "[%lld] '%.40s' is not supported", (long long)i,
                       type ? type : "?");
        if (sliding && json_integer_value(json_object_get(c->values, "sliding_window")) == 0)
            return bad(c, "layer_types", err, "[%lld] slides, but no sliding_window is in force",
                       (long long)i);
        if (c->rules->window != WINDOW_IF_USED && sliding != c->sliding[i])
            return bad(c, "layer_types", err, "[%lld] '%s' does not fit sliding_window of %s",
                       (long long)i, type, c->name);
        c->sliding[i] = (unsigned char)sliding;
    }
    return 0;
}

static int apply_rules(struct hf_config *c, struct error *err)
{
    const json_t *types = json_object_get(c->root, "layer_types");

    fill_defaults(c);
    if (check_booleans(c, err) || check_sizes(c, err) || derive_heads(c, err) ||
        check_activation(c, err) || derive_window(c, err))
        return -1;
    c->sliding = calloc((size_t)c->layers, 1);
    if (!c->sliding)
        return error_set(err, 500, "%s: no memory", c->path);
    if (derive_layer_types(c, err))
        return -1;
    return types && !json_is_null(types) ? read_layer_types(c, types, err) : 0;
}

/* ---- opening ---- */

static int read_files(struct hf_config *c, struct error *err)
{
    c->root = json_file_read(c->folder, "config.json", 0, err);
    if (!c->root)
        return -1;
    c->generation = json_file_read(c->folder, "generation_config.json", JSON_FILE_OPTIONAL, err);
    if (!c->generation && err->code)
        return -1;
    c->values = json_deep_copy(c->root);
    c->text = json_dumps(c->root, JSON_COMPACT);
    return c->values && c->text ? 0 : error_set(err, 500, "%s: no memory", c->path);
}

struct hf_config *hf_config_open(const char *folder, struct error *err)
{
    struct hf_config *c = calloc(1, sizeof(*c));
    struct error own = {0};

    if (!err)
        err = &own;
    if (!c || !(c->folder = strdup(folder)) || asprintf(&c->path, "%s/config.json", folder) < 0) {
        error_set(err, 500, "%s: no memory", folder);
        goto fail;
    }
    if (read_files(c, err) || read_architecture(c, err) || check_quantization(c, err) ||
        check_eos(c, err) || (c->rules && apply_rules(c, err)))
        goto fail;
    return c;
fail:
    hf_config_close(c);
    return NULL;
}

void hf_config_close(struct hf_config *c)
{
    if (!c)
        return;
    json_decref(c->root);
    json_decref(c->values);
    json_decref(c->generation);
    free(c->sliding);
    free(c->folder);
    free(c->path);
    free(c->text);
    free(c);
}
