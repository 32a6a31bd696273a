/* replace.c - see replace.h. */
#include "server/http/replace.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/glob.h"
#include "server/http/json.h"
#include "server/http/negotiate.h"
#include "server/http/number.h"
#include "kernels/base/safetensors.h"

/* A nested list on its way into a tensor. */
struct nested {
    const char *name;
    struct tensor shape; /* rank and shape; no data */
    bf16 *next;
    size_t index[TENSOR_MAX_RANK]; /* where we are, for errors */
};

void replacements_clear(struct replacements *r)
{
    for (int64_t i = 0; i < r->count; i++) {
        free((char *)r->at[i].name);
        free(r->at[i].value.data);
    }
    free(r->at);
    memset(r, 0, sizeof(*r));
}

/* Takes over data, also after an error. */
static int add(struct replacements *r, const char *name, struct tensor value, struct error *err)
{
    char *copy = strdup(name);

    if (!copy || !value.data) {
        free(copy);
        free(value.data);
        return error_set(err, 500, "no memory for the value of '%.100s'", name);
    }
    for (int64_t i = 0; i < r->count; i++)
        if (strcmp(r->at[i].name, name) == 0) {
            free(copy);
            free(value.data);
            return error_param(err, 400, name,
                               "'%.200s' is replaced twice: in JSON and as a tensor", name);
        }
    r->at[r->count++] = (struct run_replace){.name = copy, .value = value};
    return 0;
}

/* Before any of them is looked at: their names are compared with each other. */
static int reserve(struct replacements *r, size_t count, struct error *err)
{
    if (count > RUN_REPLACEMENTS)
        return error_param(err, 400, "replace", "%zu values; more than %d cannot be replaced",
                           count, RUN_REPLACEMENTS);
    r->at = calloc(count + 1, sizeof(*r->at));
    return r->at ? 0 : error_set(err, 500, "no memory for %zu replacements", count);
}

/* ---- nested lists ---- */

static int fault(const struct nested *n, int depth, const char *what, struct error *err)
{
    char param[sizeof(err->param)];
    size_t size = (size_t)snprintf(param, sizeof(param), "replace.%s", n->name);

    for (int i = 0; i < depth && size < sizeof(param); i++)
        size += (size_t)snprintf(param + size, sizeof(param) - size, "[%zu]", n->index[i]);
    return error_param(err, 400, param, "%s: %s", param, what);
}

static int number_read(const json_t *value, long double *out)
{
    const char *word = json_string_value(value);

    if (json_is_integer(value))
        *out = (long double)json_integer_value(value);
    else if (json_is_real(value))
        *out = (long double)json_real_value(value);
    else if (word && strcmp(word, "NaN") == 0)
        *out = (long double)NAN;
    else if (word && strcmp(word, "Infinity") == 0)
        *out = (long double)INFINITY;
    else if (word && strcmp(word, "-Infinity") == 0)
        *out = -(long double)INFINITY;
    else
        return -1;
    return 0;
}

/* The shape of the list's first elements, which all others must have. */
static int measure(struct nested *n, const json_t *value, struct error *err)
{
    while (json_is_array(value)) {
        if (n->shape.rank == TENSOR_MAX_RANK)
            return fault(n, 0, "nested deeper than any value of a model", err);
        if (!json_array_size(value))
            return fault(n, n->shape.rank, "an empty list", err);
        n->shape.shape[n->shape.rank++] = (int64_t)json_array_size(value);
        value = json_array_get(value, 0);
    }
    return n->shape.rank ? 0 : fault(n, 0, "a nested list of numbers is expected", err);
}

static int fill(struct nested *n, const json_t *value, int depth, struct error *err)
{
    char what[96];
    long double x;

    if (depth == n->shape.rank) {
        if (number_read(value, &x))
            return fault(n, depth, "a number, \"NaN\", \"Infinity\" or \"-Infinity\" is expected",
                         err);
        *n->next++ = number_to_bf16(x);
        return 0;
    }
    if (!json_is_array(value))
        return fault(n, depth, "ragged: a list is expected, as before it", err);
    if ((int64_t)json_array_size(value) != n->shape.shape[depth]) {
        snprintf(what, sizeof(what), "ragged: %zu elements where the first list has %" PRId64,
                 json_array_size(value), n->shape.shape[depth]);
        return fault(n, depth, what, err);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        n->index[depth] = i;
        if (fill(n, json_array_get(value, i), depth + 1, err))
            return -1;
    }
    return 0;
}

static int check_name(const char *name, struct error *err)
{
    if (strlen(name) <= GLOB_MOST)
        return 0;
    return error_param(err, 400, "replace", "a name of %zu bytes; the limit is %d", strlen(name),
                       GLOB_MOST);
}

static int add_nested(struct replacements *r, const char *name, const json_t *value,
                      struct error *err)
{
    struct nested n = {.name = name};
    struct tensor t;
    int64_t count = 1;

    if (check_name(name, err) || measure(&n, value, err))
        return -1;
    /* A ragged list could claim a size that its text does not have; a list is at most as long as
     * the body, so no product of two such numbers overflows. */
    for (int i = 0; i < n.shape.rank; i++) {
        count *= n.shape.shape[i];
        if (count > (int64_t)1 << 31)
            return fault(&n, 0, "too large for JSON", err);
    }
    t = tensor_make(DTYPE_BF16, n.shape.rank, n.shape.shape, NULL);
    t.data = n.next = calloc((size_t)count, sizeof(bf16));
    if (!t.data)
        return error_set(err, 500, "no memory for the value of '%.100s'", name);
    if (fill(&n, value, 0, err)) {
        free(t.data);
        return -1;
    }
    return add(r, name, t, err);
}

static int add_json(struct replacements *r, const json_t *root, struct error *err)
{
    json_t *object = json_object_get(root, "replace"), *value;
    const char *name;

    if (!object || json_is_null(object))
        return 0;
    if (!json_is_object(object))
        return error_param(err, 400, "replace",
                           "replace is %s; an object of nested lists is expected",
                           json_kind(object));
    json_object_foreach (object, name, value) {
        if (add_nested(r, name, value, err))
            return -1;
    }
    return 0;
}

/* ---- tensors ---- */

static int add_tensor(struct replacements *r, const struct safetensors_entry *e, struct error *err)
{
    struct tensor t = e->tensor;

    if (check_name(e->name, err))
        return -1;
    if (!e->supported || e->tensor.dtype == DTYPE_I64)
        return error_param(err, 400, e->name,
                           "tensor '%.200s' is %s; BF16, F16, F32 or F64 is expected", e->name,
                           e->dtype_text);
    /* A copy, since the file's data need not be aligned and the body does not live as long. */
    t.data = malloc(tensor_bytes(&t) + 1);
    if (t.data)
        memcpy(t.data, e->tensor.data, tensor_bytes(&t));
    return add(r, e->name, t, err);
}

static int check_header(const struct request *r, struct error *err)
{
    uint64_t size = 0;

    for (int i = 7; i >= 0 && r->body_size >= 8; i--)
        size = size << 8 | (unsigned char)r->body[i];
    if (size > (uint64_t)r->server->settings.json_bytes)
        return error_param(err, 413, "body",
                           "a safetensors header of %" PRIu64 " bytes; the limit is %" PRId64
                           " (\"json_bytes\")",
                           size, r->server->settings.json_bytes);
    return 0;
}

static int read_binary(const struct request *r, json_t **root, struct replacements *out,
                       struct error *err)
{
    struct safetensors *file = NULL;
    const char *text;
    json_t *json;
    int rc = -1;

    if (check_header(r, err))
        return -1;
    file = safetensors_open_memory("body", r->body, r->body_size, err);
    if (!file) {
        if (err && !*err->param)
            strcpy(err->param, "body");
        return -1;
    }
    json = json_object_get(file->metadata, "request");
    text = json_string_value(json);
    if (!text) {
        error_param(err, 400, "body", "the safetensors body has no \"request\" in its metadata");
        goto out;
    }
    *root = json_object_read("request", text, json_string_length(json), err);
    if (!*root ||
        reserve(out, (size_t)file->count + json_object_size(json_object_get(*root, "replace")),
                err) ||
        add_json(out, *root, err))
        goto out;
    for (int i = 0; i < file->count; i++)
        if (add_tensor(out, &file->entries[i], err))
            goto out;
    rc = 0;
out:
    safetensors_close(file);
    return rc;
}

int body_read(const struct request *r, json_t **root, struct replacements *out, struct error *err)
{
    *root = NULL;
    memset(out, 0, sizeof(*out));
    if (content_is_binary(r->content_type))
        return read_binary(r, root, out, err);
    if (!request_is_json(r))
        return error_param(err, 415, "Content-Type", "Content-Type is '%.100s'; %s takes %s or %s",
                           r->content_type, r->path, TYPE_JSON, TYPE_BINARY);
    *root = request_json(r, err);
    if (!*root || reserve(out, json_object_size(json_object_get(*root, "replace")), err))
        return -1;
    return add_json(out, *root, err);
}
