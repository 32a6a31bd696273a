/* request.c - see request.h. */
#include "server/http/request.h"

#include <inttypes.h>
#include <string.h>

#include "server/http/json.h"
#include "server/http/negotiate.h"

void reply_error(struct reply *r, const struct error *error)
{
    int status = error->code >= 400 && error->code <= 599 ? error->code : 500;
    const char *allow = r->allow;
    const int retry_seconds = r->retry_seconds;

    reply_clear(r);
    r->allow = allow;
    r->retry_seconds = retry_seconds;
    r->status = status;
    r->type = TYPE_JSON;
    buffer_text(&r->body, "{\"error\":{\"message\":");
    json_put_name(&r->body, error->text);
    buffer_text(&r->body, ",\"param\":");
    if (*error->param)
        json_put_name(&r->body, error->param);
    else
        buffer_text(&r->body, "null");
    buffer_format(&r->body, ",\"code\":%d}}\n", status);
    if (r->body.failed) { /* response_send has words of its own for that */
        buffer_clear(&r->body);
        r->status = 503;
    }
}

void reply_json(struct reply *r)
{
    struct error error = {0};

    r->status = 200;
    r->type = TYPE_JSON;
    if (r->body.failed) {
        error_set(&error, 500, "no memory for the reply");
        reply_error(r, &error);
    }
}

void reply_clear(struct reply *r)
{
    buffer_clear(&r->body);
    stream_release(r->stream);
    memset(r, 0, sizeof(*r));
}

const char *reply_phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } known[] = {{400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {408, "Request Timeout"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {431, "Request Header Fields Too Large"},
                 {501, "Not Implemented"},
                 {503, "Service Unavailable"},
                 {505, "HTTP Version Not Supported"}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].status == status)
            return known[i].phrase;
    return "Error";
}

int request_query(const struct request *r, const char *key, const char **value)
{
    for (int i = 0; i < r->query_count; i++)
        if (strcmp(r->query[i].key, key) == 0) {
            *value = r->query[i].value;
            return 1;
        }
    return 0;
}

int request_only(const struct request *r, const char *const known[], struct error *err)
{
    for (int i = 0; i < r->query_count; i++) {
        int k = 0;

        while (known[k] && strcmp(known[k], r->query[i].key) != 0)
            k++;
        if (!known[k])
            return error_param(err, 400, *r->query[i].key ? r->query[i].key : "query",
                               "%s takes no query parameter '%.200s'", r->path, r->query[i].key);
        for (int j = 0; j < i; j++)
            if (strcmp(r->query[i].key, r->query[j].key) == 0)
                return error_param(err, 400, r->query[i].key, "query parameter '%s' is given twice",
                                   r->query[i].key);
    }
    return 0;
}

int request_is_json(const struct request *r)
{
    size_t at = 0;

    if (*r->content_type)
        return content_is_json(r->content_type);
    while (at < r->body_size && strchr(" \t\r\n\xef\xbb\xbf", r->body[at]) && r->body[at])
        at++;
    return at == r->body_size || strchr("{[\"", r->body[at]) != NULL;
}

json_t *request_json(const struct request *r, struct error *err)
{
    if (!request_is_json(r)) {
        error_param(err, 415, "Content-Type", "Content-Type is '%.100s'; %s takes %s",
                    r->content_type, r->path, TYPE_JSON);
        return NULL;
    }
    if ((int64_t)r->body_size > r->server->settings.json_bytes) {
        error_param(err, 413, "body",
                    "%zu bytes of JSON; the limit is %" PRId64 " (\"json_bytes\")", r->body_size,
                    r->server->settings.json_bytes);
        return NULL;
    }
    return json_object_read("body", r->body, r->body_size, err);
}

int request_takes_json(const struct request *r, struct error *err)
{
    if (!accept_quality(r->accept, TYPE_JSON))
        return error_param(err, 406, "Accept", "%s answers with %s, which Accept does not allow",
                           r->path, TYPE_JSON);
    return 0;
}
