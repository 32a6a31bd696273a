/* family_attr.c - see family_attr.h. */
#include "server/model/family_attr.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static int read_key(const struct attr_spec *spec, struct family_value *v, const char *text,
                    struct error *err)
{
    const char *key = text, *plus = NULL;

    v->kind = VALUE_KEY;
    if (strncmp(text, "sqrt ", 5) == 0) {
        v->kind = VALUE_SQRT;
        key = text + 5;
    } else if (strncmp(text, "rsqrt ", 6) == 0) {
        v->kind = VALUE_RSQRT;
        key = text + 6;
    }
    if (v->kind == VALUE_KEY && (plus = strstr(text, " + ")))
        v->plus = strdup(plus + 3);
    v->key = plus ? strndup(key, (size_t)(plus - text)) : strdup(key);
    if (!v->key || (plus && !v->plus))
        return error_set(err, 500, "no memory");
    if (!*v->key || strchr(v->key, ' ') || (plus && (!*v->plus || strchr(v->plus, ' '))))
        return error_set(err, 400,
                         "attribute '%s': '%.80s' is none of KEY, KEY + KEY, sqrt KEY, rsqrt KEY",
                         spec->key, text);
    return 0;
}

static int read_word(const struct attr_spec *spec, struct family_value *v, const json_t *value,
                     struct error *err)
{
    const char *word = json_string_value(value);
    int index = word ? attr_word(spec, word) : -1;

    if (index < 0)
        return error_set(err, 400, "attribute '%s': '%.60s' is none of its words", spec->key,
                         word ? word : "?");
    v->kind = VALUE_WORD;
    v->number = index;
    return 0;
}

static int read_value(const struct attr_spec *spec, struct family_value *v, const json_t *value,
                      struct error *err)
{
    if (spec->kind == ATTR_NAME)
        return read_word(spec, v, value, err);
    if (json_is_string(value))
        return read_key(spec, v, json_string_value(value), err);
    if (!json_is_number(value))
        return error_set(err, 400, "attribute '%s': not a number or a key of config.json",
                         spec->key);
    v->kind = VALUE_NUMBER;
    v->number = json_number_value(value);
    return 0;
}

static int read_choice(struct family_attr *out, json_t *choice, struct error *err)
{
    const char *layer_type;
    json_t *value;

    if (json_object_size(choice) == 0)
        return error_set(err, 400, "attribute '%s': no layer types to choose from", out->spec->key);
    json_object_foreach (choice, layer_type, value) {
        struct family_value *v = &out->values[out->count++];

        v->layer_type = strdup(layer_type);
        if (!v->layer_type)
            return error_set(err, 500, "no memory");
        if (read_value(out->spec, v, value, err))
            return -1;
    }
    return 0;
}

int family_attr_read(struct family_attr *out, enum op op, const char *key, const json_t *value,
                     struct error *err)
{
    size_t ways = json_is_object(value) ? json_object_size(value) : 1;

    out->spec = attr_find(op, key);
    if (!out->spec)
        return error_set(err, 400, "%s has no attribute '%.60s'", op_name(op), key);
    out->values = calloc(ways + 1, sizeof(*out->values));
    if (!out->values)
        return error_set(err, 500, "no memory");
    if (json_is_object(value))
        return read_choice(out, (json_t *)(uintptr_t)value, err);
    out->count = 1;
    return read_value(out->spec, out->values, value, err);
}

void family_attr_clear(struct family_attr *a)
{
    for (int i = 0; i < a->count; i++) {
        free(a->values[i].layer_type);
        free(a->values[i].key);
        free(a->values[i].plus);
    }
    free(a->values);
    memset(a, 0, sizeof(*a));
}

/* ---- resolving ---- */

static const struct family_value *choose(const struct family_attr *a, const char *layer_type,
                                         struct error *err)
{
    for (int i = 0; i < a->count; i++)
        if (!a->values[i].layer_type || strcmp(a->values[i].layer_type, layer_type) == 0)
            return &a->values[i];
    error_set(err, 400, "attribute '%s': nothing said for layers of type '%.60s'", a->spec->key,
              layer_type);
    return NULL;
}

static int compute(const struct family_value *v, const struct hf_config *config, int64_t layer,
                   double *out, struct error *err)
{
    double more = 0;

    *out = v->number;
    if (!v->key)
        return 0;
    if (hf_config_number_of(config, v->key, layer, out, err) ||
        (v->plus && hf_config_number_of(config, v->plus, layer, &more, err)))
        return -1;
    *out += more;
    /* Python's n**0.5 and n**-0.5: pow, not sqrt and a division. */
    if (v->kind == VALUE_SQRT)
        *out = pow(*out, 0.5);
    if (v->kind == VALUE_RSQRT)
        *out = pow(*out, -0.5);
    return isfinite(*out) ? 0
                          : error_set(err, 400, "'%.60s' of config.json gives no number", v->key);
}

static int store(const struct attr_spec *spec, double number, struct op_attrs *out,
                 struct error *err)
{
    char *field = (char *)out + spec->offset;
    int64_t count;
    int word;

    switch (spec->kind) {
    case ATTR_NUMBER:
        memcpy(field, &number, sizeof(number));
        return 0;
    case ATTR_INTEGER:
        if (number < 0 || number > 2147483648.0 || number != floor(number))
            return error_set(err, 400, "attribute '%s': %g is not a whole number from 0 to 2^31",
                             spec->key, number);
        count = (int64_t)number;
        memcpy(field, &count, sizeof(count));
        return 0;
    case ATTR_NAME:
        word = (int)number; /* the fields are enums, which are as wide as int */
        memcpy(field, &word, sizeof(word));
        return 0;
    }
    return error_set(err, 500, "attribute '%s' is of an unknown kind", spec->key);
}

int family_attr_resolve(const struct family_attr *a, const struct hf_config *config, int64_t layer,
                        struct op_attrs *out, struct error *err)
{
    const struct family_value *v = choose(a, hf_config_layer_type(config, layer), err);
    double number;

    if (!v || compute(v, config, layer, &number, err))
        return -1;
    return store(a->spec, number, out, err);
}
