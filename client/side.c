/* side.c - see side.h. */
#include "client/side.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/json_memory.h"

/* Returns the number i of a name "<kind>i/...", 0 for a name that begins in another way. */
static int call_of(const char *name, const char *kind)
{
    const size_t n = strlen(kind);
    char *end;
    long call;

    if (strncmp(name, kind, n) != 0 || !isdigit((unsigned char)name[n]))
        return 0;
    call = strtol(name + n, &end, 10);
    return *end == '/' && call > 0 && call < 1000000000 ? (int)call : 0;
}

int side_step_of(const char *name)
{
    return call_of(name, "step_");
}

int side_chunk_of(const char *name)
{
    return call_of(name, "chunk_");
}

const char *side_base_name(const char *name)
{
    return side_step_of(name) || side_chunk_of(name) ? strchr(name, '/') + 1 : name;
}

const char *side_text(const struct side *s, const char *key)
{
    return json_string_value(json_object_get(s->metadata, key));
}

json_t *side_fact(const struct side *s, const char *key)
{
    json_t *value = json_object_get(s->metadata, key), *parsed;

    if (!json_is_string(value))
        return json_incref(value);
    parsed = json_memory_read(json_string_value(value), json_string_length(value), JSON_DECODE_ANY,
                              NULL);
    return parsed ? parsed : json_incref(value);
}

json_t *side_left_out(const json_t *metadata)
{
    json_t *value = json_object_get(metadata, "left_out");

    if (json_is_string(value))
        return json_memory_read(json_string_value(value), json_string_length(value), 0, NULL);
    return json_incref(value);
}

json_t *side_prompt_tokens(const struct side *s)
{
    json_t *value = json_object_get(s->metadata, "prompt_tokens"), *ids;
    const char *text = json_string_value(value);
    char *end;

    if (json_is_array(value))
        return json_incref(value);
    if (!text || !*text)
        return NULL;
    ids = json_memory_read(text, strlen(text), 0, NULL);
    if (ids && json_is_array(ids))
        return ids;
    json_decref(ids);
    ids = json_array();
    for (; *text; text = *end == ',' ? end + 1 : end) {
        json_int_t id = strtoll(text, &end, 10);

        if (end == text || (*end && *end != ',')) {
            json_decref(ids);
            return NULL;
        }
        json_array_append_new(ids, json_integer(id));
    }
    return ids;
}

/* Returns the aliases of the metadata that stand for one value, as {"alias": "path"}.  The metadata
 * has {"alias": ["path"]} or {"alias": "path"}, or a string with that JSON. */
static json_t *read_aliases(json_t *metadata)
{
    json_t *value = json_object_get(metadata, "aliases"), *parsed = NULL, *map = json_object();
    json_t *path;
    const char *alias;

    if (json_is_string(value))
        value = parsed =
            json_memory_read(json_string_value(value), json_string_length(value), 0, NULL);
    json_object_foreach (value, alias, path) {
        if (json_array_size(path) == 1)
            path = json_array_get(path, 0);
        if (json_is_string(path))
            json_object_set(map, alias, path);
    }
    json_decref(parsed);
    return map;
}

static char *canonical_of(const char *name, const json_t *aliases)
{
    const char *base = side_base_name(name);
    const char *path = json_string_value(json_object_get(aliases, base));
    size_t prefix = (size_t)(base - name);
    char *out;

    if (!path)
        return strdup(name);
    out = malloc(prefix + strlen(path) + 1);
    if (out) {
        memcpy(out, name, prefix);
        strcpy(out + prefix, path);
    }
    return out;
}

/* Fills in canonical names and the index; exact names win over resolved ones. */
static int finish(struct side *s, struct error *err)
{
    s->aliases = read_aliases(s->metadata);
    s->index = json_object();
    for (int i = 0; i < s->count; i++) {
        s->values[i].canonical = canonical_of(s->values[i].name, s->aliases);
        if (!s->values[i].canonical ||
            json_object_set_new(s->index, s->values[i].name, json_integer(i)))
            goto fail;
    }
    for (int i = 0; i < s->count; i++)
        if (!json_object_get(s->index, s->values[i].canonical) &&
            json_object_set_new(s->index, s->values[i].canonical, json_integer(i)))
            goto fail;
    return 0;
fail:
    return error_set(err, 500, "%s: out of memory", s->label);
}

static struct side *side_new(const char *label, const json_t *metadata, int count,
                             struct error *err)
{
    struct side *s = calloc(1, sizeof(*s));

    if (!s)
        goto fail;
    s->label = strdup(label);
    s->metadata = metadata ? json_deep_copy(metadata) : json_object();
    s->values = calloc((size_t)count + 1, sizeof(*s->values));
    if (!s->label || !s->metadata || !s->values)
        goto fail;
    return s;
fail:
    side_free(s);
    error_set(err, 500, "%s: out of memory", label);
    return NULL;
}

void side_free(struct side *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->count; i++) {
        free(s->values[i].name);
        free(s->values[i].canonical);
    }
    free(s->values);
    json_decref(s->metadata);
    json_decref(s->index);
    json_decref(s->aliases);
    safetensors_close(s->file);
    free(s->tokens.name);
    free(s->ids);
    free(s->label);
    free(s);
}

static void value_from_entry(struct side_value *v, const struct safetensors_entry *e)
{
    int known = e->supported && e->tensor.rank <= TENSOR_MAX_RANK;

    v->name = strdup(e->name);
    memcpy(v->dtype, e->dtype_text, sizeof(v->dtype));
    v->rank = known ? e->tensor.rank : -1;
    for (int k = 0; k < v->rank; k++)
        v->shape[k] = e->tensor.shape[k];
    v->entry = e;
}

/* Adds what could not be read, whose dtype is the first word of what it is. */
static int add_left_out(struct side *s, const json_t *left_out)
{
    const char *name;
    json_t *what;

    json_object_foreach ((json_t *)left_out, name, what) {
        struct side_value *v = &s->values[s->count];
        const char *text = json_is_string(what) ? json_string_value(what) : "?";

        v->name = strdup(name);
        if (!v->name)
            return -1;
        v->rank = -1;
        snprintf(v->dtype, sizeof(v->dtype), "%.*s", (int)strcspn(text, " "), text);
        s->count++;
    }
    return 0;
}

struct side *side_from_file_take(const char *label, struct safetensors *file, struct error *err)
{
    json_t *left_out = side_left_out(file->metadata);
    struct side *s =
        side_new(label, file->metadata, file->count + (int)json_object_size(left_out), err);

    if (!s) {
        json_decref(left_out);
        safetensors_close(file);
        return NULL;
    }
    s->file = file;
    s->ordered = side_text(s, "numerics") != NULL;
    for (; s->count < file->count; s->count++) {
        value_from_entry(&s->values[s->count], &file->entries[s->count]);
        if (!s->values[s->count].name) {
            error_set(err, 500, "%s: out of memory", label);
            goto fail;
        }
    }
    if (add_left_out(s, left_out)) {
        error_set(err, 500, "%s: out of memory", label);
        goto fail;
    }
    if (finish(s, err))
        goto fail;
    json_decref(left_out);
    return s;
fail:
    json_decref(left_out);
    side_free(s);
    return NULL;
}

static int value_from_digest(struct side_value *v, const char *name, const json_t *row,
                             const char *label, struct error *err)
{
    const char *dtype = json_string_value(json_object_get(row, "dtype"));
    const char *digest = json_string_value(json_object_get(row, "sha256"));
    json_t *shape = json_object_get(row, "shape"), *extent;
    int64_t elements = 1;
    size_t k;

    if (!dtype || !digest || strlen(dtype) >= sizeof(v->dtype) ||
        strlen(digest) != sizeof(v->sha256) - 1 || !json_is_array(shape) ||
        json_array_size(shape) > TENSOR_MAX_RANK)
        return error_set(err, 502, "%s: %s: not a digest with shape, dtype and sha256", label,
                         name);
    strcpy(v->dtype, dtype);
    strcpy(v->sha256, digest);
    v->rank = (int)json_array_size(shape);
    json_array_foreach (shape, k, extent) {
        v->shape[k] = json_integer_value(extent);
        if (v->shape[k] < 0 ||
            __builtin_mul_overflow(elements, v->shape[k] ? v->shape[k] : 1, &elements))
            return error_set(err, 502, "%s: %s: a shape that no value has", label, name);
    }
    v->name = strdup(name);
    return v->name ? 0 : error_set(err, 500, "%s: out of memory", label);
}

static int tokens_from_ids(struct side *s, const json_t *ids, struct error *err)
{
    int64_t count = (int64_t)json_array_size(ids);

    s->ids = calloc((size_t)count + 1, sizeof(*s->ids));
    s->tokens.name = strdup("tokens");
    if (!s->ids || !s->tokens.name)
        return error_set(err, 500, "%s: out of memory", s->label);
    for (int64_t i = 0; i < count; i++)
        s->ids[i] = json_integer_value(json_array_get(ids, (size_t)i));
    s->tokens.supported = 1;
    strcpy(s->tokens.dtype_text, "I64");
    s->tokens.tensor = tensor_make(DTYPE_I64, 1, &count, s->ids);
    value_from_entry(&s->values[s->count], &s->tokens);
    return s->values[s->count++].name ? 0 : error_set(err, 500, "%s: out of memory", s->label);
}

struct side *side_from_digests(const char *label, const json_t *reply, struct error *err)
{
    json_t *values = json_object_get(reply, "values"), *ids = json_object_get(reply, "tokens"),
           *row;
    struct side *s;
    const char *name;

    if (!json_is_object(values) || !json_is_array(ids)) {
        error_set(err, 502, "%s: the reply has no digests of values and tokens", label);
        return NULL;
    }
    s = side_new(label, NULL, (int)json_object_size(values) + 1, err);
    if (!s)
        return NULL;
    json_object_update(s->metadata, (json_t *)reply);
    json_object_del(s->metadata, "values");
    s->ordered = 1;
    json_object_foreach (values, name, row)
        if (value_from_digest(&s->values[s->count++], name, row, label, err))
            goto fail;
    if (tokens_from_ids(s, ids, err) || finish(s, err))
        goto fail;
    return s;
fail:
    side_free(s);
    return NULL;
}

struct side_value *side_find(const struct side *s, const char *name)
{
    json_t *at = json_object_get(s->index, name);
    char *path;

    if (!at && json_object_get(s->aliases, side_base_name(name))) {
        path = canonical_of(name, s->aliases);
        at = path ? json_object_get(s->index, path) : NULL;
        free(path);
    }
    return at ? &s->values[json_integer_value(at)] : NULL;
}

int side_attach_take(struct side *s, struct safetensors *file, struct error *err)
{
    if (s->file) {
        safetensors_close(file);
        return error_set(err, 500, "%s: already has its numbers", s->label);
    }
    s->file = file;
    for (int i = 0; i < file->count; i++) {
        struct side_value *v = side_find(s, file->entries[i].name);

        if (v && !v->entry)
            v->entry = &file->entries[i];
    }
    return 0;
}
