/* daemon.c - see daemon.h. */
#include "server/http/daemon.h"

#include <inttypes.h>
#include <microhttpd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "server/http/listen.h"
#include "server/http/routes.h"
#include "server/http/watch.h"

enum {
    THREADS = 4,             /* one may be reading a large body while others answer */
    SPARE = 4 * THREADS,     /* connections beyond the limit, which are told so */
    BLOCK = 512 * 1024,      /* asked of a stream at a time, where a reply's length is known */
    CONNECTION = 512 * 1024, /* its memory; half of it is a chunk's, where it is not known */
    DISCARD =
        64 << 20,  /* bytes of a body that is too large that are still taken before the reply */
    STOP_MS = 1500 /* for replies to leave when stopping */
};

/* Beyond the deadline of the reply itself, so that its error can still leave. */
static const int64_t grace = 2 * (int64_t)CLOCK_SECOND;

struct daemon {
    struct server *server;
    struct MHD_Daemon *mhd;
    struct watch *watch;
    atomic_int exchanges; /* begun and not completed */
    char address[128];
};

/* One request and its reply. */
struct exchange {
    struct daemon *daemon;
    struct MHD_Connection *connection;
    struct watched *watched;
    char *method, *path;
    int64_t began;
    struct buffer body;
    uint64_t discarded;
    int discard;  /* the body is not wanted */
    int answered; /* reply is what to send */
    int overload; /* the connection is one too many */
    int old;      /* HTTP/1.0: no chunks */
    struct reply reply;
};

/* What a streamed response reads from. */
struct source {
    struct stream *stream;
    int fd;
    int by_close; /* the client sees the end of the reply by the connection's end only */
};

static const char *header(struct MHD_Connection *c, const char *name)
{
    const char *value = MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);

    return value ? value : "";
}

static int socket_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);

    return info ? info->connect_fd : -1;
}

/* ---- sending ---- */

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

static struct MHD_Response *stream_response(struct exchange *x)
{
    struct source *s = calloc(1, sizeof(*s));
    uint64_t size = x->reply.stream_size < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)x->reply.stream_size;
    struct MHD_Response *response;

    if (!s)
        return NULL;
    s->stream = stream_share(x->reply.stream);
    s->fd = socket_of(x->connection);
    s->by_close = x->reply.stream_size < 0 && x->old;
    response = MHD_create_response_from_callback(size, BLOCK, source_read, s, source_free);
    if (!response)
        source_free(s);
    return response;
}

static struct MHD_Response *body_response(struct exchange *x)
{
    struct buffer *b = &x->reply.body;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(b->size, b->data ? b->data : "", MHD_RESPMEM_MUST_COPY);

    buffer_clear(b);
    return response;
}

static enum MHD_Result send_reply(struct exchange *x)
{
    struct reply *r = &x->reply;
    struct MHD_Response *response = r->stream ? stream_response(x) : body_response(x);
    enum MHD_Result result;
    char seconds[16];

    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->type);
    if (r->allow)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, r->allow);
    if (r->status == 503) {
        snprintf(seconds, sizeof(seconds), "%d", r->retry_seconds ? r->retry_seconds : 1);
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    if (x->overload)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    result = MHD_queue_response(x->connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
    return result;
}

static void set_error(struct exchange *x, const struct error *error)
{
    reply_error(&x->reply, error);
    x->answered = 1;
}

/* ---- a computed reply, up to its first byte ---- */

static void sleep_connection(void *user)
{
    MHD_suspend_connection(user);
}

static void wake_connection(void *user)
{
    MHD_resume_connection(user);
}

/* Its status is known when its first byte is there; until then the connection sleeps. */
static enum MHD_Result send_stream(struct exchange *x)
{
    struct error error = {0};

    switch (stream_first(x->reply.stream, &error)) {
    case STREAM_WAITING:
        return MHD_YES;
    case STREAM_FAILED:
        if (error.code == 499)
            return MHD_NO;
        watch_stream(x->daemon->watch, x->watched, NULL);
        stream_detach(x->reply.stream);
        set_error(x, &error);
        break;
    default:
        break;
    }
    return send_reply(x);
}

/* ---- receiving ---- */

static enum MHD_Result add_query(void *user, enum MHD_ValueKind kind, const char *key,
                                 const char *value)
{
    struct request *r = user;

    (void)kind;
    if (r->query_count < REQUEST_QUERIES) {
        r->query[r->query_count].key = key ? key : "";
        r->query[r->query_count].value = value ? value : "";
    }
    r->query_count++;
    return MHD_YES;
}

static void answer(struct exchange *x)
{
    struct server *server = x->daemon->server;
    struct request r = {.server = server,
                        .engine = atomic_load(&server->engine),
                        .method = x->method,
                        .path = x->path,
                        .accept = header(x->connection, MHD_HTTP_HEADER_ACCEPT),
                        .content_type = header(x->connection, MHD_HTTP_HEADER_CONTENT_TYPE),
                        .body = x->body.data ? x->body.data : "",
                        .body_size = x->body.size,
                        .deadline = clock_ns() + server->settings.seconds * CLOCK_SECOND};
    struct error error = {0};

    watch_deadline(x->daemon->watch, x->watched, r.deadline + grace);
    MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, add_query, &r);
    if (x->body.failed) {
        error_set(&error, 503, "no memory for the body");
        set_error(x, &error);
    } else if (r.query_count > REQUEST_QUERIES) {
        error_param(&error, 400, "query", "more than %d query parameters", REQUEST_QUERIES);
        set_error(x, &error);
    } else {
        routes_answer(&r, &x->reply);
        x->answered = 1;
    }
    buffer_clear(&x->body);
    if (x->reply.stream) {
        stream_attach(x->reply.stream, sleep_connection, wake_connection, x->connection);
        watch_stream(x->daemon->watch, x->watched, x->reply.stream);
    }
}

static void refuse_size(struct exchange *x)
{
    struct error error = {0};

    error_param(&error, 413, "body", "the body is larger than %" PRId64 " bytes (\"body_bytes\")",
                x->daemon->server->settings.body_bytes);
    buffer_clear(&x->body);
    x->discard = 1;
    set_error(x, &error);
}

static void take_body(struct exchange *x, const char *bytes, size_t size)
{
    if (x->discard)
        x->discarded += size;
    else if (x->body.size + size > (uint64_t)x->daemon->server->settings.body_bytes)
        refuse_size(x);
    else
        buffer_append(&x->body, bytes, size);
}

/* What can be said before the body comes. */
static void judge_head(struct exchange *x, uint64_t length)
{
    struct daemon *d = x->daemon;
    struct error error = {0};

    x->overload = watch_connections(d->watch) > d->server->settings.connections;
    if (x->overload) {
        error_set(&error, 503, "more than %" PRId64 " connections (\"connections\")",
                  d->server->settings.connections);
        set_error(x, &error);
    } else if (routes_check(x->method, x->path, &x->reply, &error)) {
        set_error(x, &error);
    } else if (length > (uint64_t)d->server->settings.body_bytes) {
        refuse_size(x);
    }
    x->discard = x->answered;
}

static enum MHD_Result begin(struct daemon *d, struct MHD_Connection *connection, const char *path,
                             const char *method, const char *version, void **user)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct exchange *x = calloc(1, sizeof(*x));
    uint64_t length = strtoull(header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH), NULL, 10);

    if (!x)
        return MHD_NO;
    *user = x;
    atomic_fetch_add(&d->exchanges, 1);
    x->daemon = d;
    x->connection = connection;
    x->watched = info ? info->socket_context : NULL;
    x->began = clock_ns();
    x->old = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
    x->method = strdup(method);
    x->path = strdup(path);
    if (!x->watched || !x->method || !x->path)
        return MHD_NO;
    watch_deadline(d->watch, x->watched,
                   x->began + d->server->settings.receive_seconds * CLOCK_SECOND);
    judge_head(x, length);
    /* A client that asks first, or one that would send without end, is answered before its body. */
    if (x->answered && (*header(connection, MHD_HTTP_HEADER_EXPECT) || length > DISCARD))
        return send_reply(x);
    return MHD_YES;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *size, void **request)
{
    struct exchange *x = *request;

    if (!x)
        return begin(user, connection, path, method, version, request);
    if (*size) {
        take_body(x, bytes, *size);
        *size = 0;
        return x->discarded > DISCARD ? MHD_NO : MHD_YES;
    }
    if (!x->answered)
        answer(x);
    return x->reply.stream ? send_stream(x) : send_reply(x);
}

/* ---- ends and beginnings ---- */

static void on_completed(void *user, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode how)
{
    struct daemon *d = user;
    struct exchange *x = *request;

    (void)connection;
    if (!x)
        return;
    *request = NULL;
    log_line("%s %.200s %d %.1f ms%s", x->method ? x->method : "?", x->path ? x->path : "?",
             x->reply.status, (double)(clock_ns() - x->began) / 1e6,
             how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : " (cut)");
    watch_stream(d->watch, x->watched, NULL);
    watch_deadline(d->watch, x->watched,
                   clock_ns() + d->server->settings.idle_seconds * CLOCK_SECOND);
    if (x->reply.stream)
        stream_detach(x->reply.stream);
    reply_clear(&x->reply);
    buffer_clear(&x->body);
    free(x->method);
    free(x->path);
    free(x);
    atomic_fetch_sub(&d->exchanges, 1);
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct daemon *d = user;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = watch_add(d->watch, socket_of(connection),
                             clock_ns() + d->server->settings.receive_seconds * CLOCK_SECOND);
    } else {
        watch_remove(d->watch, *context);
        *context = NULL;
    }
}

static struct MHD_Daemon *start(struct daemon *d, int fd, int v6)
{
    const unsigned most = (unsigned)d->server->settings.connections + SPARE;

    return MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | (v6 ? MHD_USE_IPv6 : 0u), 0, NULL,
        NULL, on_request, d, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE,
        (unsigned)THREADS, MHD_OPTION_CONNECTION_LIMIT, most, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION, MHD_OPTION_NOTIFY_COMPLETED, on_completed, d,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, d, MHD_OPTION_END);
}

struct daemon *daemon_start(struct server *server, const char *address, struct error *err)
{
    struct daemon *d = calloc(1, sizeof(*d));
    int v6, fd = -1;

    if (!d) {
        error_set(err, 500, "no memory for the daemon");
        return NULL;
    }
    d->server = server;
    d->watch = watch_create(err);
    if (!d->watch)
        goto fail;
    fd = listen_open(address, d->address, sizeof(d->address), &v6, err);
    if (fd < 0)
        goto fail;
    d->mhd = start(d, fd, v6);
    if (d->mhd)
        return d;
    error_set(err, 500, "%s: libmicrohttpd does not start", d->address);
    close(fd);
fail:
    watch_free(d->watch);
    free(d);
    return NULL;
}

const char *daemon_address(const struct daemon *d)
{
    return d->address;
}

void daemon_stop(struct daemon *d)
{
    MHD_socket fd;

    if (!d)
        return;
    fd = MHD_quiesce_daemon(d->mhd);
    watch_stop_streams(d->watch);
    for (int i = 0; i < STOP_MS / 10 && atomic_load(&d->exchanges); i++)
        usleep(10000);
    MHD_stop_daemon(d->mhd);
    if (fd != MHD_INVALID_SOCKET)
        close(fd);
    watch_free(d->watch);
    free(d);
}
