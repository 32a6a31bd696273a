/* hf_config.c - see hf_config.h.  Opening and looking up. */
#include "server/model/hf_config_parts.h"
#include "kernels/base/json_memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/json_file.h"

int hf_config_bad(const struct hf_config *c, const char *key, struct error *err, const char *format,
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

int hf_config_truth(const json_t *value)
{
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_NULL:
    case JSON_FALSE:
        return 0;
    case JSON_TRUE:
        return 1;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(value) != 0;
    case JSON_STRING:
        return json_string_length(value) != 0;
    case JSON_ARRAY:
        return json_array_size(value) != 0;
    case JSON_OBJECT:
        return json_object_size(value) != 0;
    }
    return 1;
}

void hf_config_note(struct hf_config *c, const char *key, const char *format, ...)
{
    char what[192];
    va_list args;

    if (c->notice_count == HF_CONFIG_NOTICES)
        return;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    snprintf(c->notices[c->notice_count++], sizeof(c->notices[0]), "%s%.48s: %s",
             strstr(key, ".json") ? "" : "config.json: ", key, what);
}

const char *hf_config_notice(const struct hf_config *c, int i)
{
    return i < c->notice_count ? c->notices[i] : NULL;
}

/* ---- lookups ---- */

int hf_config_number(const struct hf_config *c, const char *key, double *out, struct error *err)
{
    return hf_config_number_of(c, key, -1, out, err);
}

int hf_config_number_of(const struct hf_config *c, const char *key, int64_t layer, double *out,
                        struct error *err)
{
    const json_t *value = json_object_get(c->values, key);

    if (json_is_array(value) && layer >= 0)
        if (!(value = json_array_get(value, (size_t)layer)))
            return hf_config_bad(c, key, err, "not a number for each layer");
    if (!value)
        return hf_config_bad(c, key, err, "missing");
    if (json_is_boolean(value))
        *out = json_is_true(value);
    else if (json_is_null(value) && strcmp(key, "sliding_window") == 0)
        *out = 0;
    else if (json_is_number(value))
        *out = json_number_value(value);
    else
        return hf_config_bad(c, key, err, "not a number");
    return 0;
}

int hf_config_count(const struct hf_config *c, const char *key, int64_t *out, struct error *err)
{
    const json_t *value = json_object_get(c->values, key);

    if (!value)
        return hf_config_bad(c, key, err, "missing");
    if (!json_is_integer(value))
        return hf_config_bad(c, key, err, "not a whole number");
    *out = json_integer_value(value);
    if (*out < 1 || *out > HF_CONFIG_LARGEST)
        return hf_config_bad(c, key, err, "%lld is not between 1 and 2^31", (long long)*out);
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

const json_t *hf_config_generation(const struct hf_config *c)
{
    return c->generation ? c->generation : c->values;
}

const char *hf_config_generation_file(const struct hf_config *c)
{
    return c->generation ? "generation_config.json" : "config.json";
}

const char *hf_config_text(const struct hf_config *c)
{
    return c->text;
}

static int copy_ids(const json_t *value, int64_t *ids, int most)
{
    const size_t n = json_is_array(value) ? json_array_size(value) : 1;
    int count = 0;

    for (size_t i = 0; i < n && count < most; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;

        if (json_is_integer(id) && json_integer_value(id) >= 0)
            ids[count++] = json_integer_value(id);
    }
    return count;
}

int hf_config_eos(const struct hf_config *c, int64_t *ids, int most)
{
    return copy_ids(json_object_get(hf_config_generation(c), "eos_token_id"), ids, most);
}

/* ---- opening: what every architecture has ---- */

/* AutoConfig and AutoModelForCausalLM go by model_type alone.  Files without one, which transformers
 * refuses, are taken by their architectures. */
static int read_architecture(struct hf_config *c, struct error *err)
{
    const json_t *type = json_object_get(c->root, "model_type");
    const json_t *first = json_array_get(json_object_get(c->root, "architectures"), 0);

    if (type && !json_is_string(type))
        return hf_config_bad(c, "model_type", err, "not a string");
    c->name = json_string_value(first);
    c->rules = type      ? hf_architecture_of_type(json_string_value(type))
               : c->name ? hf_architecture_find(c->name)
                         : NULL;
    if (c->rules)
        c->name = hf_architecture_name(c->rules);
    else if (type && (!c->name || hf_architecture_find(c->name)))
        return hf_config_bad(c, "model_type", err, "'%.60s' is not supported",
                             json_string_value(type));
    else if (!c->name)
        return hf_config_bad(c, "model_type", err, "missing, and architectures names none");
    return 0;
}

static int check_quantization(const struct hf_config *c, struct error *err)
{
    const json_t *value = json_object_get(c->root, "quantization_config");
    const char *method = json_string_value(json_object_get(value, "quant_method"));

    if (!value || json_is_null(value))
        return 0;
    return hf_config_bad(c, "quantization_config", err,
                         "quantized checkpoints (%.40s) are not supported",
                         method ? method : "unknown method");
}

/* Also one of more than 64 bits, which has become a real number. */
static int is_whole(const json_t *value)
{
    return json_is_integer(value) || fabs(json_real_value(value)) >= 0x1p63;
}

static int check_ids(const struct hf_config *c, const char *file, const json_t *value,
                     struct error *err)
{
    size_t n = json_array_size(value);
    int good = !value || json_is_null(value) || json_is_array(value) || is_whole(value);

    for (size_t i = 0; i < n; i++)
        good = good && is_whole(json_array_get(value, i));
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

/* ---- opening ---- */

/* transformers goes on without a generation_config.json that it cannot read. */
static int read_generation(struct hf_config *c, struct error *err)
{
    static const char name[] = "generation_config.json";
    struct error why = {0};

    c->generation = json_file_read(c->folder, name, JSON_FILE_OPTIONAL | JSON_FILE_PYTHON, &why);
    if (c->generation || !why.code)
        return 0;
    if (why.code != 400)
        return error_set(err, why.code, "%s", why.text);
    hf_config_note(c, name, "not followed, as it cannot be read: %.160s", why.text);
    return 0;
}

static int read_files(struct hf_config *c, struct error *err)
{
    c->root = json_file_read(c->folder, "config.json", JSON_FILE_PYTHON, err);
    if (!c->root)
        return -1;
    if (read_generation(c, err))
        return -1;
    c->values = json_deep_copy(c->root);
    c->text = json_memory_text(c->root, JSON_COMPACT);
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
        check_eos(c, err) || (c->rules && hf_config_apply_rules(c, err)))
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
