/* hf_config_rope.c - rope_theta with rope_scaling (transformers 4) or rope_parameters (5). */
#include "server/model/hf_config_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct rope_source {
    const char *key; /* "rope_scaling" or "rope_parameters", for errors */
    const json_t *parameters;
    const char *theta_key; /* of config.json, where the parameters have none */
    double theta;          /* where config.json has none either */
};

static int rope_bad(const struct hf_config *c, const struct rope_source *from, const char *key,
                    struct error *err, const char *what)
{
    char path[64];

    snprintf(path, sizeof(path), "%s.%s", from->key, key);
    return hf_config_bad(c, path, err, "%s", what);
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
static int find_rope_of_all(const struct hf_config *c, struct rope_source *out, struct error *err)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};

    out->parameters = NULL;
    out->key = keys[1];
    for (int i = 0; i < 2; i++) {
        const json_t *value = json_object_get(c->root, keys[i]);

        if (!hf_config_truth(value))
            continue;
        if (!json_is_object(value))
            return hf_config_bad(c, keys[i], err, "not an object");
        out->parameters = value;
        out->key = keys[i];
        break;
    }
    if (json_object_get(out->parameters, "full_attention") ||
        json_object_get(out->parameters, "sliding_attention"))
        return hf_config_bad(c, out->key, err, "parameters by layer type are not supported");
    return 0;
}

/* Gemma 3's: rope_scaling and rope_theta are of the full layers; those that slide have
 * rope_local_base_freq; rope_parameters has an object for either. */
static int find_rope(const struct hf_config *c, enum rotary_layers layers, struct rope_source *out,
                     struct error *err)
{
    const int full = layers == ROTARY_FULL;
    const json_t *both = json_object_get(c->root, "rope_parameters"), *own;

    out->theta_key = full || layers == ROTARY_ALL ? "rope_theta" : "rope_local_base_freq";
    out->theta = full ? 1e6 : layers == ROTARY_SLIDING ? 1e4 : hf_architecture_theta(c->rules);
    if (layers == ROTARY_ALL)
        return find_rope_of_all(c, out, err);
    own = json_object_get(both, full ? "full_attention" : "sliding_attention");
    out->key = full ? "rope_parameters.full_attention" : "rope_parameters.sliding_attention";
    out->parameters = own && !json_is_null(own) ? own : NULL;
    if ((both && !json_is_null(both) && !json_is_object(both)) ||
        (out->parameters && !json_is_object(own)))
        return hf_config_bad(c, out->parameters ? out->key : "rope_parameters", err,
                             "not an object");
    own = json_object_get(c->root, "rope_scaling");
    if (!full || !own || json_is_null(own))
        return 0;
    if (out->parameters || !json_is_object(own))
        return hf_config_bad(c, "rope_scaling", err,
                             out->parameters ? "beside rope_parameters it is not supported"
                                             : "not an object");
    out->parameters = own;
    out->key = "rope_scaling";
    return 0;
}

static int read_rope_type(const struct hf_config *c, const struct rope_source *from,
                          struct rope_config *out, struct error *err)
{
    static const char *const names[] = {
        [ROPE_DEFAULT] = "default", [ROPE_LINEAR] = "linear",     [ROPE_DYNAMIC] = "dynamic",
        [ROPE_YARN] = "yarn",       [ROPE_LONGROPE] = "longrope", [ROPE_LLAMA3] = "llama3"};
    const json_t *value = json_object_get(from->parameters, "rope_type");
    char what[128];

    if (!value)
        value = json_object_get(from->parameters, "type");
    if (json_is_string(value) && hf_architecture_takes_longrope(c->rules) &&
        (strcmp(json_string_value(value), "su") == 0 ||
         strcmp(json_string_value(value), "yarn") == 0)) {
        out->type = ROPE_LONGROPE;
        return 0;
    }
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
    snprintf(what, sizeof(what),
             "'%.40s' is not supported (default, linear, dynamic, yarn, longrope, llama3 are)",
             json_string_value(value));
    return rope_bad(c, from, "rope_type", err, what);
}

static int read_theta(const struct hf_config *c, const struct rope_source *from,
                      struct rope_config *out, struct error *err)
{
    const json_t *value = json_object_get(c->root, from->theta_key);

    if (json_object_get(from->parameters, "rope_theta"))
        return rope_number(c, from, "rope_theta", &out->theta, err);
    out->theta = value ? json_number_value(value) : from->theta;
    if (!isfinite(out->theta) || out->theta <= 0 || (value && !json_is_number(value)))
        return hf_config_bad(c, from->theta_key, err, "not a number above 0");
    return 0;
}

/* As in transformers: the key at the top level of config.json, else the one beside the factors, else
 * the model's own length. */
static int read_original(const struct hf_config *c, const struct rope_source *from,
                         struct rope_config *out, struct error *err)
{
    static const char *const original = "original_max_position_embeddings";
    int64_t positions;

    if (!json_object_get(c->values, original) && json_object_get(from->parameters, original))
        return rope_number(c, from, original, &out->original_max_position_embeddings, err);
    if (hf_config_count(c,
                        json_object_get(c->values, original) ? original : "max_position_embeddings",
                        &positions, err))
        return -1;
    out->original_max_position_embeddings = (double)positions;
    return 0;
}

static int read_llama3(const struct hf_config *c, const struct rope_source *from,
                       struct rope_config *out, struct error *err)
{
    if (rope_number(c, from, "factor", &out->factor, err) ||
        rope_number(c, from, "low_freq_factor", &out->low_freq_factor, err) ||
        rope_number(c, from, "high_freq_factor", &out->high_freq_factor, err))
        return -1;
    return read_original(c, from, out, err);
}

/* A key that may be missing or null; *out stays then.  Returns whether it was there. */
static int rope_optional(const struct hf_config *c, const struct rope_source *from, const char *key,
                         double *out, struct error *err)
{
    const json_t *value = json_object_get(from->parameters, key);

    if (!value || json_is_null(value))
        return 0;
    if (!json_is_number(value) || !isfinite(json_number_value(value)))
        return rope_bad(c, from, key, err, "not a number") && 0;
    *out = json_number_value(value);
    return 1;
}

/* `otherwise` also for 0, as Python's "or". */
static double rope_or(const struct hf_config *c, const struct rope_source *from, const char *key,
                      double otherwise, struct error *err)
{
    double value = 0;

    rope_optional(c, from, key, &value, err);
    if (value < 0)
        rope_bad(c, from, key, err, "below 0");
    return value == 0 ? otherwise : value;
}

/* `factor`, or the ratio of the two lengths where it is null (yarn) or missing (longrope). */
static int read_ratio(const struct hf_config *c, const struct rope_source *from,
                      struct rope_config *out, struct error *err)
{
    int64_t positions;

    if (hf_config_count(c, "max_position_embeddings", &positions, err) ||
        read_original(c, from, out, err))
        return -1;
    if (!rope_optional(c, from, "factor", &out->factor, err))
        out->factor = (double)positions / out->original_max_position_embeddings;
    if (!err->code && out->factor <= 0)
        rope_bad(c, from, "factor", err, "not a number above 0");
    return err->code ? -1 : 0;
}

/* get_mscale of modeling_rope_utils.py. */
static double yarn_mscale(double scale, double mscale)
{
    return scale <= 1 ? 1.0 : 0.1 * mscale * log(scale) + 1.0;
}

static int read_yarn(const struct hf_config *c, const struct rope_source *from,
                     struct rope_config *out, struct error *err)
{
    const json_t *truncate = json_object_get(from->parameters, "truncate");
    double mscale = 0, mscale_all_dim = 0;

    if (!json_object_get(from->parameters, "factor"))
        return rope_bad(c, from, "factor", err, "missing");
    if (read_ratio(c, from, out, err))
        return -1;
    out->beta_fast = rope_or(c, from, "beta_fast", 32, err);
    out->beta_slow = rope_or(c, from, "beta_slow", 1, err);
    rope_optional(c, from, "mscale", &mscale, err);
    rope_optional(c, from, "mscale_all_dim", &mscale_all_dim, err);
    out->truncate = !truncate || hf_config_truth(truncate);
    if (!rope_optional(c, from, "attention_factor", &out->attention_factor, err))
        out->attention_factor =
            mscale != 0 && mscale_all_dim != 0
                ? yarn_mscale(out->factor, mscale) / yarn_mscale(out->factor, mscale_all_dim)
                : yarn_mscale(out->factor, 1);
    return err->code ? -1 : 0;
}

static int read_factors(const struct hf_config *c, const struct rope_source *from, const char *key,
                        float *out, int *count, struct error *err)
{
    const json_t *list = json_object_get(from->parameters, key);
    const size_t n = json_array_size(list);

    if (!n || n > ROPE_MOST_PAIRS)
        return rope_bad(c, from, key, err, "not a list of 1 to 256 numbers");
    for (size_t i = 0; i < n; i++) {
        const json_t *number = json_array_get(list, i);

        out[i] = (float)json_number_value(number);
        if (!json_is_number(number) || !(out[i] > 0) || !isfinite(out[i]))
            return rope_bad(c, from, key, err, "not a list of numbers above 0");
    }
    *count = (int)n;
    return 0;
}

static int read_longrope(const struct hf_config *c, const struct rope_source *from,
                         struct rope_config *out, struct error *err)
{
    const double *original = &out->original_max_position_embeddings;
    int64_t head_dim;
    int longs;

    if (read_factors(c, from, "short_factor", out->short_factor, &out->factors, err) ||
        read_factors(c, from, "long_factor", out->long_factor, &longs, err) ||
        hf_config_rope_width(c, &head_dim, err) || read_ratio(c, from, out, err))
        return -1;
    if (out->factors != head_dim / 2 || longs != head_dim / 2)
        return rope_bad(c, from, out->factors != head_dim / 2 ? "short_factor" : "long_factor", err,
                        "not a number for every pair of head_dim that rope turns");
    if (!rope_optional(c, from, "attention_factor", &out->attention_factor, err))
        out->attention_factor =
            out->factor <= 1 ? 1.0 : sqrt(1 + log(out->factor) / log(*original));
    return err->code ? -1 : 0;
}

static int read_dynamic(const struct hf_config *c, const struct rope_source *from,
                        struct rope_config *out, struct error *err)
{
    int64_t positions;

    if (rope_number(c, from, "factor", &out->factor, err) ||
        hf_config_count(c, "max_position_embeddings", &positions, err))
        return -1;
    out->max_position_embeddings = (double)positions;
    return 0;
}

/* Whether partial_rotary_factor asks for fewer pairs than there are, here or at the top level. */
static int asks_for_part(const struct hf_config *c, const struct rope_source *from)
{
    static const char key[] = "partial_rotary_factor";
    const json_t *inner = json_object_get(from->parameters, key);
    const json_t *outer = json_object_get(c->root, key);

    return (inner && !json_is_null(inner) && json_number_value(inner) != 1.0) ||
           (outer && !json_is_null(outer) && json_number_value(outer) != 1.0);
}

/* The classes that we know turn all pairs: compute_default_rope_parameters of their modeling files does
 * not read the factor, and with what ROPE_INIT_FUNCTIONS make of it transformers fails in forward(). */
static int check_partial(const struct hf_config *c, const struct rope_source *from,
                         const struct rope_config *rope, struct error *err)
{
    if (hf_architecture_partial(c->rules) > 0 || rope->type == ROPE_DEFAULT ||
        !asks_for_part(c, from))
        return 0;
    return hf_config_bad(c, "partial_rotary_factor", err,
                         "only 1 is supported with rope_type %s: transformers cannot run it either",
                         json_string_value(json_object_get(from->parameters, "rope_type")
                                               ? json_object_get(from->parameters, "rope_type")
                                               : json_object_get(from->parameters, "type")));
}

void hf_config_note_rope(struct hf_config *c)
{
    struct rope_config rope = {0};
    struct rope_source from;
    struct error own = {0};

    if (hf_architecture_partial(c->rules) == 0 && !hf_architecture_rope_by_type(c->rules) &&
        !find_rope(c, ROTARY_ALL, &from, &own) && !read_rope_type(c, &from, &rope, &own) &&
        rope.type == ROPE_DEFAULT && asks_for_part(c, &from))
        hf_config_note(c, "partial_rotary_factor",
                       "not followed, as by transformers 5.18: %s turns all pairs", c->name);
}

/* partial_rotary_factor: of the parameters, else of config.json, else the config class's own. */
static int read_partial(const struct hf_config *c, const struct rope_source *from, double *out,
                        struct error *err)
{
    static const char key[] = "partial_rotary_factor";
    const json_t *inner = json_object_get(from->parameters, key);
    const json_t *outer = json_object_get(c->root, key);
    const double own = hf_architecture_partial(c->rules);
    const int is_inner = inner && !json_is_null(inner);
    const json_t *value = is_inner ? inner : outer && !json_is_null(outer) ? outer : NULL;
    const char *wrong = NULL;

    *out = value ? json_number_value(value) : own ? own : 1.0;
    if (own == 0)
        *out = 1.0; /* see check_partial */
    else if ((value && !json_is_number(value)) || !(*out > 0) || *out > 1)
        wrong = "not a number above 0, at most 1";
    if (!wrong)
        return 0;
    return is_inner ? rope_bad(c, from, key, err, wrong) : hf_config_bad(c, key, err, "%s", wrong);
}

int hf_config_rope_width(const struct hf_config *c, int64_t *out, struct error *err)
{
    const int by_type = hf_architecture_rope_by_type(c->rules);
    struct rope_source from;
    int64_t head_dim;
    double factor;

    if (find_rope(c, by_type ? ROTARY_FULL : ROTARY_ALL, &from, err) ||
        read_partial(c, &from, &factor, err) || hf_config_count(c, "head_dim", &head_dim, err))
        return -1;
    *out = (int64_t)((double)head_dim * factor);
    if (*out < 2 || *out % 2)
        return hf_config_bad(c, "partial_rotary_factor", err, "%g of head_dim %lld are not pairs",
                             factor, (long long)head_dim);
    return 0;
}

int hf_config_rope(const struct hf_config *c, struct rope_config *out, struct error *err)
{
    return hf_config_rope_of(c, ROTARY_ALL, out, err);
}

int hf_config_rope_of(const struct hf_config *c, enum rotary_layers layers, struct rope_config *out,
                      struct error *err)
{
    double partial;
    struct rope_source from;
    struct error own = {0};

    if (!err)
        err = &own;
    memset(out, 0, sizeof(*out));
    out->attention_factor = 1;
    if (find_rope(c, layers, &from, err) || read_rope_type(c, &from, out, err) ||
        check_partial(c, &from, out, err) || read_partial(c, &from, &partial, err) ||
        read_theta(c, &from, out, err))
        return -1;
    switch (out->type) {
    case ROPE_DEFAULT:
        return 0;
    case ROPE_LINEAR:
        return rope_number(c, &from, "factor", &out->factor, err);
    case ROPE_DYNAMIC:
        return read_dynamic(c, &from, out, err);
    case ROPE_YARN:
        return read_yarn(c, &from, out, err);
    case ROPE_LONGROPE:
        return read_longrope(c, &from, out, err);
    case ROPE_LLAMA3:
        return read_llama3(c, &from, out, err);
    }
    return -1;
}
