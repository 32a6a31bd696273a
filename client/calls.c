/* calls.c - the daemon's routes, one function each, on top of client_stream().  See client.h. */
#include "client/client.h"
#include "kernels/base/json_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *client_health(struct client *c, struct error *err)
{
    return client_get(c, "/health", err);
}

json_t *client_model(struct client *c, struct error *err)
{
    return client_get(c, "/v1/model", err);
}

json_t *client_logits(struct client *c, const json_t *request, struct error *err)
{
    return client_post(c, "/v1/logits", request, err);
}

/* Returns the member of a reply, which must have it and of that type; frees the reply. */
static json_t *member_take(struct client *c, json_t *reply, const char *path, const char *key,
                           json_type type, struct error *err)
{
    json_t *value = json_object_get(reply, key);

    if (reply && (!value || json_typeof(value) != type)) {
        error_set(err, 502, "%s%s: the reply has no `%s`", client_url(c), path, key);
        value = NULL;
    }
    json_incref(value);
    json_decref(reply);
    return value;
}

/* Appends "?key=text" or "&key=text"; nothing where text is NULL. */
static int add_query(struct client *c, struct buffer *path, const char *key, const char *text,
                     struct error *err)
{
    char *escaped = text ? client_escape(c, text, err) : NULL;

    if (!text)
        return 0;
    if (!escaped)
        return -1;
    buffer_format(path, "%c%s=%s", strchr(path->data, '?') ? '&' : '?', key, escaped);
    free(escaped);
    return path->failed ? error_set(err, 500, "out of memory") : 0;
}

json_t *client_values(struct client *c, const char *attention, const char *glob, int64_t layer,
                      struct error *err)
{
    struct buffer path = {0};
    json_t *values = NULL;
    char number[32];

    snprintf(number, sizeof(number), "%lld", (long long)layer);
    buffer_text(&path, "/v1/values");
    if (path.failed)
        error_set(err, 500, "out of memory");
    else if (!add_query(c, &path, "attention", attention, err) &&
             !add_query(c, &path, "glob", glob, err) &&
             !add_query(c, &path, "layer", layer >= 0 ? number : NULL, err))
        values =
            member_take(c, client_get(c, path.data, err), "/v1/values", "values", JSON_ARRAY, err);
    buffer_clear(&path);
    return values;
}

json_t *client_tokenize(struct client *c, const char *text, json_t **pieces, struct error *err)
{
    json_t *request = json_pack("{s:s}", "text", text), *reply, *found;

    if (!request) {
        error_set(err, 400, "the text is not valid UTF-8");
        return NULL;
    }
    reply = client_post(c, "/v1/tokenize", request, err);
    json_decref(request);
    found = json_object_get(reply, "pieces");
    if (pieces)
        *pieces = json_is_array(found) ? json_incref(found) : NULL;
    return member_take(c, reply, "/v1/tokenize", "tokens", JSON_ARRAY, err);
}

char *client_detokenize(struct client *c, const json_t *ids, struct error *err)
{
    json_t *request = json_pack("{s:O}", "tokens", ids), *text;
    char *out = NULL;

    text = member_take(c, client_post(c, "/v1/detokenize", request, err), "/v1/detokenize", "text",
                       JSON_STRING, err);
    if (text) {
        out = strdup(json_string_value(text));
        if (!out)
            error_set(err, 500, "out of memory");
    }
    json_decref(text);
    json_decref(request);
    return out;
}

/* ---- generation: newline-delimited JSON ---- */

struct lines {
    struct client *client;
    struct buffer text; /* of the line that is coming */
    client_line *line;
    void *user;
    int done;
};

static int take_line(struct lines *l, struct error *err)
{
    json_error_t where;
    json_t *line;
    int rc = 0;

    if (l->text.size == 0)
        return 0;
    line = json_memory_read(l->text.data, l->text.size, JSON_ALLOW_NUL, &where);
    if (!line)
        return error_set(err, 502, "%s/v1/generate: a line is not JSON: %s", client_url(l->client),
                         where.text);
    if (json_object_get(line, "error"))
        rc = error_set(err, 502, "%s/v1/generate: %s", client_url(l->client),
                       json_string_value(json_object_get(json_object_get(line, "error"), "message"))
                           ?: "failed");
    l->done |= json_is_true(json_object_get(line, "done"));
    if (rc == 0)
        rc = l->line(l->user, line, err);
    json_decref(line);
    l->text.size = 0;
    return rc;
}

static int split_lines(void *user, const void *bytes, size_t size, struct error *err)
{
    struct lines *l = user;
    const char *at = bytes, *end = at + size, *newline;

    while ((newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        buffer_append(&l->text, at, (size_t)(newline - at));
        if (take_line(l, err))
            return -1;
        at = newline + 1;
    }
    buffer_append(&l->text, at, (size_t)(end - at));
    return l->text.failed ? error_set(err, 500, "out of memory") : 0;
}

int client_generate(struct client *c, const json_t *request, client_line *line, void *user,
                    struct error *err)
{
    struct lines lines = {.client = c, .line = line, .user = user};
    json_t *body = json_copy((json_t *)request);
    struct client_piece piece;
    char *text;
    int rc = -1;

    json_object_set_new(body, "stream", json_true());
    text = json_memory_text(body, JSON_COMPACT);
    if (!text) {
        error_set(err, 400, "the request is not valid UTF-8");
        goto out;
    }
    piece = (struct client_piece){text, strlen(text)};
    rc = client_stream(c, "/v1/generate", "application/json", &piece, 1, "application/x-ndjson",
                       split_lines, &lines, err);
    if (rc == 0)
        rc = take_line(&lines, err);
    if (rc == 0 && !lines.done)
        rc = error_set(err, 502, "%s/v1/generate: the text broke off", client_url(c));
out:
    buffer_clear(&lines.text);
    json_decref(body);
    free(text);
    return rc;
}

/* ---- traces ---- */

/* The body of a trace with replacements: a safetensors file whose metadata holds the request. */
static int replace_header(const json_t *request, const struct client_replace *replace, int count,
                          struct buffer *out, struct error *err)
{
    struct safetensors_spec *specs = calloc((size_t)count, sizeof(*specs));
    char *text = json_memory_text(request, JSON_COMPACT);
    json_t *metadata = text ? json_pack("{s:s}", "request", text) : NULL;
    int rc = -1;

    if (!specs || !metadata) {
        error_set(err, 500, "out of memory");
        goto out;
    }
    for (int i = 0; i < count; i++) {
        const struct tensor *t = &replace[i].tensor;

        specs[i] = (struct safetensors_spec){replace[i].name, t->dtype, t->rank, {0}};
        memcpy(specs[i].shape, t->shape, sizeof(specs[i].shape));
    }
    rc = safetensors_header(out, specs, count, metadata, err);
out:
    json_decref(metadata);
    free(text);
    free(specs);
    return rc;
}

static int ask_replacing(struct client *c, const char *path, const json_t *request,
                         const struct client_replace *replace, int count, const char *accept,
                         client_sink *sink, void *user, struct error *err)
{
    struct client_piece *pieces = calloc((size_t)count + 1, sizeof(*pieces));
    struct buffer header = {0};
    int rc = -1;

    if (!pieces) {
        error_set(err, 500, "out of memory");
        goto out;
    }
    if (replace_header(request, replace, count, &header, err))
        goto out;
    pieces[0] = (struct client_piece){header.data, header.size};
    for (int i = 0; i < count; i++)
        pieces[i + 1] =
            (struct client_piece){replace[i].tensor.data, tensor_bytes(&replace[i].tensor)};
    rc = client_stream(c, path, "application/octet-stream", pieces, count + 1, accept, sink, user,
                       err);
out:
    buffer_clear(&header);
    free(pieces);
    return rc;
}

static int ask_plainly(struct client *c, const char *path, const json_t *request, client_sink *sink,
                       void *user, struct error *err)
{
    struct client_piece piece;
    char *text = json_memory_text(request, JSON_COMPACT);
    int rc;

    if (!text)
        return error_set(err, 400, "the request is not valid UTF-8");
    piece = (struct client_piece){text, strlen(text)};
    rc = client_stream(c, path, "application/json", &piece, 1, "application/octet-stream", sink,
                       user, err);
    free(text);
    return rc;
}

int client_trace(struct client *c, const json_t *request, const struct client_replace *replace,
                 int replace_count, client_sink *sink, void *user, struct error *err)
{
    if (replace_count)
        return ask_replacing(c, "/v1/trace", request, replace, replace_count,
                             "application/octet-stream", sink, user, err);
    return ask_plainly(c, "/v1/trace", request, sink, user, err);
}

int client_isolate(struct client *c, const json_t *request, const struct client_replace *given,
                   int given_count, client_sink *sink, void *user, struct error *err)
{
    return ask_replacing(c, "/v1/isolate", request, given, given_count, "application/octet-stream",
                         sink, user, err);
}

int client_logits_stream(struct client *c, const json_t *request, client_sink *sink, void *user,
                         struct error *err)
{
    return ask_plainly(c, "/v1/logits", request, sink, user, err);
}

json_t *client_digests(struct client *c, const json_t *request,
                       const struct client_replace *replace, int replace_count, struct error *err)
{
    json_t *asked = json_copy((json_t *)request), *reply = NULL;
    struct buffer body = {0};

    json_object_set_new(asked, "format", json_string("digest"));
    if (!replace_count) {
        reply = client_post(c, "/v1/trace", asked, err);
    } else if (ask_replacing(c, "/v1/trace", asked, replace, replace_count, "application/json",
                             client_into_buffer, &body, err) == 0) {
        reply = json_memory_read(body.data ? body.data : "", body.size, JSON_ALLOW_NUL, NULL);
        if (!reply)
            error_set(err, 502, "%s/v1/trace did not answer with JSON", client_url(c));
    }
    buffer_clear(&body);
    json_decref(asked);
    return reply;
}
