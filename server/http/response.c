/* response.c - see response.h. */
#include "server/http/response.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server/http/guest.h"

/* What a streamed response reads from. */
struct source {
    struct stream *stream;
    int fd;
    int by_close; /* the client sees the end of the reply by the connection's end only */
};

static void source_free(void *user)
{
    struct source *s = user;

    stream_release(s->stream);
    free(s);
}

static ssize_t source_read(void *user, uint64_t position, char *out, size_t most)
{
    struct source *s = user;
    ssize_t n = stream_read(s->stream, out, most);

    (void)position;
    if (n == STREAM_COMPLETE)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n != STREAM_BROKEN)
        return n;
    if (s->by_close) {
        const struct linger reset = {.l_onoff = 1};

        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

static struct MHD_Response *stream_response(struct MHD_Connection *c, struct reply *r, int old)
{
    struct source *s = calloc(1, sizeof(*s));
    const int64_t length = stream_length(r->stream);
    struct MHD_Response *response;

    if (!s)
        return NULL;
    s->stream = stream_share(r->stream);
    s->fd = guest_socket(c);
    s->by_close = length < 0 && old;
    response = MHD_create_response_from_callback(length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)length,
                                                 RESPONSE_BLOCK, source_read, s, source_free);
    if (!response)
        source_free(s);
    return response;
}

static struct MHD_Response *body_response(struct reply *r)
{
    static char none[] = "", short_of_memory[] =
                                 "{\"error\":{\"message\":\"no memory for the reply\","
                                 "\"param\":null,\"code\":503}}\n";
    struct buffer *b = &r->body;
    char *words = r->status == 503 ? short_of_memory : none;
    struct MHD_Response *response =
        b->data ? MHD_create_response_from_buffer(b->size, b->data, MHD_RESPMEM_MUST_FREE)
                : MHD_create_response_from_buffer(strlen(words), words, MHD_RESPMEM_PERSISTENT);

    if (response)
        memset(b, 0, sizeof(*b)); /* it is the response's now */
    return response;
}

/* What a page of an allowed origin is told. */
static void put_sharing(const struct reply *r, const char *origin, struct MHD_Response *response)
{
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, "Origin");
    if (r->status != 204)
        return;
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, r->allow);
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS,
                            "Accept, Authorization, Content-Type");
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_MAX_AGE, "600");
}

enum MHD_Result response_send(struct MHD_Connection *c, struct reply *r,
                              const struct response_rules *rules)
{
    struct MHD_Response *response =
        r->stream ? stream_response(c, r, rules->old) : body_response(r);
    enum MHD_Result result;
    char seconds[16];

    if (!response)
        return MHD_NO;
    if (r->type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->type);
    if (r->allow)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, r->allow);
    if (r->status == 503) {
        snprintf(seconds, sizeof(seconds), "%d", r->retry_seconds ? r->retry_seconds : 1);
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    if (r->status == 401)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (rules->origin)
        put_sharing(r, rules->origin, response);
    if (rules->close)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    result = MHD_queue_response(c, (unsigned)r->status, response);
    MHD_destroy_response(response);
    return result;
}
