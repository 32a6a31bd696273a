/* json.c - see json.h. */
#include "server/http/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/glob.h"
#include "kernels/base/json_memory.h"
#include "kernels/base/utf8.h"

const char *json_kind(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    default:
        return "null";
    }
}

json_t *json_object_read(const char *label, const char *text, size_t size, struct error *err)
{
    static const char mark[] = "\xef\xbb\xbf"; /* some editors and shells put it before UTF-8 */
    json_error_t fault;
    json_t *root;

    if (size >= 3 && memcmp(text, mark, 3) == 0) {
        text += 3;
        size -= 3;
    }
    if (!size) {
        error_param(err, 400, label, "%s is empty; a JSON object is expected", label);
        return NULL;
    }
    root = json_memory_read(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &fault);
    if (!root && json_memory_failed()) {
        error_param(err, 503, label, "no memory for %s", label);
    } else if (!root) {
        error_param(err, 400, label, "%s is no valid JSON: %s (line %d, column %d)", label,
                    fault.text, fault.line, fault.column);
    } else if (!json_is_object(root)) {
        error_param(err, 400, label, "%s is %s; a JSON object is expected", label, json_kind(root));
        json_decref(root);
        root = NULL;
    }
    return root;
}

static void list_known(const char *const known[], char *out, size_t size)
{
    size_t n = 0;

    *out = '\0';
    for (int i = 0; known[i] && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", known[i]);
}

int json_only(const json_t *object, const char *const known[], struct error *err)
{
    const char *key;
    json_t *value;
    char names[256];

    json_object_foreach ((json_t *)object, key, value) {
        int i = 0;

        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i]) {
            list_known(known, names, sizeof(names));
            return error_param(err, 400, *key ? key : "body",
                               "unknown field '%.200s'; known are: %s", key, names);
        }
    }
    return 0;
}

static json_t *field(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    return json_is_null(value) ? NULL : value;
}

static int int_check(const json_t *value, const char *param, int64_t least, int64_t most,
                     struct error *err)
{
    if (!json_is_integer(value))
        return error_param(err, 400, param, "%s is %s; a whole number is expected", param,
                           json_kind(value));
    if (json_integer_value(value) < least || json_integer_value(value) > most)
        return error_param(err, 400, param,
                           "%s is %" JSON_INTEGER_FORMAT "; it may be %" PRId64 " to %" PRId64,
                           param, json_integer_value(value), least, most);
    return 0;
}

static int name_check(const json_t *value, const char *param, struct error *err)
{
    if (!json_is_string(value))
        return error_param(err, 400, param, "%s is %s; a string is expected", param,
                           json_kind(value));
    if (!json_string_length(value))
        return error_param(err, 400, param, "%s is empty", param);
    if (strlen(json_string_value(value)) != json_string_length(value))
        return error_param(err, 400, param, "%s has a NUL character in it", param);
    if (json_string_length(value) > GLOB_MOST)
        return error_param(err, 400, param, "%s is %zu bytes long; the limit is %d", param,
                           json_string_length(value), GLOB_MOST);
    return 0;
}

int json_read_int(const json_t *object, const char *key, int64_t least, int64_t most, int64_t *out,
                  struct error *err)
{
    const json_t *value = field(object, key);

    if (!value)
        return 0;
    if (int_check(value, key, least, most, err))
        return -1;
    *out = json_integer_value(value);
    return 0;
}

int json_read_bool(const json_t *object, const char *key, int *out, struct error *err)
{
    const json_t *value = field(object, key);

    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return error_param(err, 400, key, "%s is %s; true or false is expected", key,
                           json_kind(value));
    *out = json_is_true(value);
    return 0;
}

int json_read_name(const json_t *object, const char *key, const char **out, struct error *err)
{
    const json_t *value = field(object, key);

    if (!value)
        return 0;
    if (name_check(value, key, err))
        return -1;
    *out = json_string_value(value);
    return 0;
}

static int list_check(const json_t *list, const char *key, struct error *err)
{
    if (!json_is_array(list))
        return error_param(err, 400, key, "%s is %s; a list is expected", key, json_kind(list));
    return 0;
}

int json_read_ints(const json_t *list, const char *key, int64_t least, int64_t most, int64_t **out,
                   int64_t *count, struct error *err)
{
    char param[64];
    size_t n = json_array_size(list);

    *out = NULL;
    *count = 0;
    if (list_check(list, key, err))
        return -1;
    *out = malloc((n + 1) * sizeof(**out));
    if (!*out)
        return error_set(err, 500, "no memory for %s", key);
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, i);

        snprintf(param, sizeof(param), "%s[%zu]", key, i);
        if (int_check(value, param, least, most, err)) {
            free(*out);
            *out = NULL;
            return -1;
        }
        (*out)[i] = json_integer_value(value);
    }
    *count = (int64_t)n;
    return 0;
}

int json_read_names(const json_t *list, const char *key, const char ***out, int64_t *count,
                    struct error *err)
{
    char param[64];
    size_t n = json_array_size(list);

    *out = NULL;
    *count = 0;
    if (list_check(list, key, err))
        return -1;
    *out = malloc((n + 1) * sizeof(**out));
    if (!*out)
        return error_set(err, 500, "no memory for %s", key);
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, i);

        snprintf(param, sizeof(param), "%s[%zu]", key, i);
        if (name_check(value, param, err)) {
            free(*out);
            *out = NULL;
            return -1;
        }
        (*out)[i] = json_string_value(value);
    }
    *count = (int64_t)n;
    return 0;
}

/* ---- writing ---- */

static void put_character(struct buffer *out, const char *bytes, size_t size)
{
    unsigned char c = (unsigned char)*bytes;

    if (c == '"' || c == '\\')
        buffer_format(out, "\\%c", c);
    else if (c == '\n')
        buffer_text(out, "\\n");
    else if (c < ' ' || c == 127)
        buffer_format(out, "\\u%04x", c);
    else
        buffer_append(out, bytes, size);
}

void json_put_text(struct buffer *out, const char *text, size_t size)
{
    buffer_text(out, "\"");
    while (size) {
        uint32_t point;
        int bad, n = utf8_next(text, size, &point, &bad, NULL);

        if (n) {
            put_character(out, text, (size_t)n);
        } else {
            buffer_text(out, "\xef\xbf\xbd");
            n = bad;
        }
        text += n;
        size -= (size_t)n;
    }
    buffer_text(out, "\"");
}

void json_put_name(struct buffer *out, const char *text)
{
    json_put_text(out, text, strlen(text));
}

void json_put_ints(struct buffer *out, const int64_t *ints, int64_t count)
{
    buffer_text(out, "[");
    for (int64_t i = 0; i < count; i++)
        buffer_format(out, "%s%" PRId64, i ? "," : "", ints[i]);
    buffer_text(out, "]");
}
