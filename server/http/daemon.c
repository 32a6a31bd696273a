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
#include "server/http/answers.h"
#include "server/http/door.h"
#include "server/http/head.h"
#include "server/http/inflate.h"
#include "server/http/listen.h"
#include "server/http/routes.h"
#include "server/http/tls.h"
#include "server/http/watch.h"

enum {
    THREADS = 4,        /* of the sockets: one may be taking a large body while others answer */
    ANSWERERS = 4,      /* what a request costs in memory while it is parsed, so many at once */
    BLOCK = 512 * 1024, /* asked of a stream at a time, where a reply's length is known */
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
    struct door *door;
    struct guard *guard;
    struct answers *answers;
    struct daemon_options options;
    int fd;
    atomic_int exchanges; /* begun and not completed */
    atomic_int asking;    /* of these, with the threads that answer */
    atomic_int stopping;
    atomic_llong held; /* bytes of bodies and replies */
    char address[160]; /* with its scheme */
};

/* A connection. */
struct guest {
    struct watched *watched;
    struct seat *seat;
};

/* One request and its reply. */
struct exchange {
    struct daemon *daemon;
    struct MHD_Connection *connection;
    struct guest *guest;
    char *method, *path;
    struct head head; /* its fields; no target */
    char who[64];     /* the token's name */
    int64_t began;
    struct buffer body;
    int64_t held; /* of the daemon's, by this one */
    uint64_t discarded;
    int discard;  /* the body is not wanted */
    int answered; /* reply is what to send */
    int close;    /* and the connection ends with it */
    int unclear;  /* its head is wrong */
    int old;      /* HTTP/1.0: no chunks */
    int streams;  /* the reply's stream is attached */
    struct answer ask;
    struct request request;
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
    const int64_t length = stream_length(x->reply.stream);
    struct MHD_Response *response;

    if (!s)
        return NULL;
    s->stream = stream_share(x->reply.stream);
    s->fd = socket_of(x->connection);
    s->by_close = length < 0 && x->old;
    response = MHD_create_response_from_callback(length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)length,
                                                 BLOCK, source_read, s, source_free);
    if (!response)
        source_free(s);
    return response;
}

static struct MHD_Response *body_response(struct exchange *x)
{
    struct buffer *b = &x->reply.body;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        b->size, b->data ? b->data : "", b->data ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);

    if (response)
        memset(b, 0, sizeof(*b)); /* it is the response's now */
    return response;
}

/* What a page of an allowed origin is told. */
static void put_sharing(struct exchange *x, struct MHD_Response *response)
{
    if (!guard_shares(x->daemon->guard, x->head.origin))
        return;
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, x->head.origin);
    MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, "Origin");
    if (x->reply.status != 204)
        return;
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, x->reply.allow);
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS,
                            "Accept, Authorization, Content-Type");
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_MAX_AGE, "600");
}

static enum MHD_Result send_reply(struct exchange *x)
{
    struct reply *r = &x->reply;
    struct MHD_Response *response = r->stream ? stream_response(x) : body_response(x);
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
    put_sharing(x, response);
    if (x->close)
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
        watch_stream(x->daemon->watch, x->guest->watched, NULL);
        stream_detach(x->reply.stream);
        set_error(x, &error);
        break;
    default:
        break;
    }
    return send_reply(x);
}

/* ---- memory of all ---- */

/* -1: bodies and replies would be more than all may be. */
static int hold(struct exchange *x, int64_t more)
{
    struct daemon *d = x->daemon;

    x->held += more;
    return atomic_fetch_add(&d->held, more) + more > d->server->settings.all_body_bytes ? -1 : 0;
}

static void let_go(struct exchange *x)
{
    atomic_fetch_sub(&x->daemon->held, x->held);
    x->held = 0;
}

static void refuse_memory(struct exchange *x, const char *what)
{
    struct error error = {0};

    error_set(&error, 503,
              "%s of all requests would be more than %" PRId64 " bytes (\"all_body_bytes\")", what,
              x->daemon->server->settings.all_body_bytes);
    set_error(x, &error);
}

/* ---- answering ---- */

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

/* On any thread; the connection is not touched meanwhile. */
static void answer(struct exchange *x)
{
    struct request *r = &x->request;
    struct error error = {0};

    if (atomic_load(&x->daemon->stopping)) {
        error_set(&error, 503, "the daemon is stopping");
        set_error(x, &error);
    } else if (x->body.failed) {
        error_set(&error, 503, "no memory for the body");
        set_error(x, &error);
    } else if (r->query_count > REQUEST_QUERIES) {
        error_param(&error, 400, "query", "more than %d query parameters", REQUEST_QUERIES);
        set_error(x, &error);
    } else if (inflate_body(&x->body, x->head.encoding, r->server->settings.body_bytes, &error)) {
        set_error(x, &error);
    } else {
        r->body = x->body.data ? x->body.data : "";
        r->body_size = x->body.size;
        routes_answer(r, &x->reply);
        x->answered = 1;
    }
    buffer_clear(&x->body);
    let_go(x);
    /* A short one, an error too, is always given. */
    if (hold(x, (int64_t)x->reply.body.size) && x->reply.body.size > BLOCK) {
        refuse_memory(x, "the replies");
        let_go(x);
    }
}

static void answer_and_resume(void *user)
{
    struct exchange *x = user;

    answer(x);
    atomic_fetch_sub(&x->daemon->asking, 1);
    MHD_resume_connection(x->connection);
}

/* Health is answered at once; for all else the connection sleeps. */
static void ask(struct exchange *x)
{
    struct daemon *d = x->daemon;

    x->request =
        (struct request){.server = d->server,
                         .engine = atomic_load(&d->server->engine),
                         .method = x->method,
                         .path = x->path,
                         .accept = header(x->connection, MHD_HTTP_HEADER_ACCEPT),
                         .content_type = header(x->connection, MHD_HTTP_HEADER_CONTENT_TYPE),
                         .deadline = clock_ns() + d->server->settings.seconds * CLOCK_SECOND};
    watch_deadline(d->watch, x->guest->watched, x->request.deadline + grace);
    door_stage(d->door, x->guest->seat, DOOR_BUSY);
    MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, add_query, &x->request);
    if (routes_is_quick(x->path)) {
        answer(x);
        return;
    }
    x->ask = (struct answer){.work = answer_and_resume, .user = x};
    atomic_fetch_add(&d->asking, 1);
    MHD_suspend_connection(x->connection);
    answers_ask(d->answers, &x->ask);
}

static void begin_stream(struct exchange *x)
{
    if (!x->reply.stream)
        return;
    stream_attach(x->reply.stream, sleep_connection, wake_connection, x->connection);
    watch_stream(x->daemon->watch, x->guest->watched, x->reply.stream);
}

/* ---- receiving ---- */

static void refuse_size(struct exchange *x)
{
    struct error error = {0};

    error_param(&error, 413, "body", "the body is larger than %" PRId64 " bytes (\"body_bytes\")",
                x->daemon->server->settings.body_bytes);
    set_error(x, &error);
}

static void take_body(struct exchange *x, const char *bytes, size_t size)
{
    if (x->discard) {
        x->discarded += size;
        return;
    }
    if (x->body.size + size > (uint64_t)x->daemon->server->settings.body_bytes)
        refuse_size(x);
    else if (hold(x, (int64_t)size))
        refuse_memory(x, "the bodies");
    else
        buffer_append(&x->body, bytes, size);
    if (x->answered) {
        x->discard = 1;
        buffer_clear(&x->body);
        let_go(x);
    }
}

static enum MHD_Result add_field(void *user, enum MHD_ValueKind kind, const char *key,
                                 size_t key_size, const char *value, size_t value_size)
{
    void **both = user;

    (void)kind;
    return head_field(both[0], key, key_size, value ? value : "", value_size, both[1]) ? MHD_NO
                                                                                       : MHD_YES;
}

static int read_head(struct exchange *x, struct error *err)
{
    void *both[] = {&x->head, err};

    head_begin(&x->head);
    x->head.minor = !x->old;
    MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, add_field, both);
    return err->code ? -1 : head_check(&x->head, err);
}

/* A page asks whether it may ask. */
static int is_preflight(struct exchange *x)
{
    return strcmp(x->method, "OPTIONS") == 0 &&
           *header(x->connection, MHD_HTTP_HEADER_ACCESS_CONTROL_REQUEST_METHOD) &&
           guard_shares(x->daemon->guard, x->head.origin);
}

/* What can be said before the body comes. */
static void judge_head(struct exchange *x)
{
    struct daemon *d = x->daemon;
    struct error error = {0};

    if (read_head(x, &error)) {
        x->close = x->unclear = 1;
        set_error(x, &error);
    } else if (atomic_load(&d->stopping)) {
        error_set(&error, 503, "the daemon is stopping");
        set_error(x, &error);
    } else if (x->close && !routes_is_quick(x->path)) {
        error_set(&error, 503, "more than %" PRId64 " connections (\"connections\")",
                  d->server->settings.connections);
        set_error(x, &error);
    } else if (is_preflight(x)) {
        x->reply.status = 204;
        x->reply.allow = "GET, HEAD, POST";
        x->answered = 1;
    } else if (guard_check(d->guard, &x->head, x->path,
                           header(x->connection, MHD_HTTP_HEADER_AUTHORIZATION), x->who, &error) ||
               routes_check(x->method, x->path, &x->reply, &error)) {
        set_error(x, &error);
    } else if (x->head.length > d->server->settings.body_bytes) {
        refuse_size(x);
    }
    x->discard = x->answered;
}

static struct guest *guest_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

static enum MHD_Result begin(struct daemon *d, struct MHD_Connection *connection, const char *path,
                             const char *method, const char *version, void **user)
{
    struct exchange *x = calloc(1, sizeof(*x));

    if (!x)
        return MHD_NO;
    *user = x;
    atomic_fetch_add(&d->exchanges, 1);
    x->daemon = d;
    x->connection = connection;
    x->guest = guest_of(connection);
    x->began = clock_ns();
    x->old = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
    path += head_path(path, strlen(path));
    x->method = strdup(method);
    x->path = strdup(*path ? path : "/");
    if (!x->guest || !x->method || !x->path)
        return MHD_NO;
    x->close = door_is_spare(x->guest->seat);
    door_stage(d->door, x->guest->seat, DOOR_SENDING);
    watch_deadline(d->watch, x->guest->watched,
                   x->began + d->server->settings.receive_seconds * CLOCK_SECOND);
    judge_head(x);
    /* A client that asks first, or one that would send without end, is answered before its body; and
     * one whose body cannot be told from what follows it. */
    if (x->answered && (x->head.expects || x->head.length > DISCARD || x->unclear))
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
    if (!x->answered) {
        ask(x);
        if (!routes_is_quick(x->path))
            return MHD_YES; /* and called again when it is answered */
    }
    if (x->reply.stream && !x->streams) {
        x->streams = 1;
        begin_stream(x);
    }
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
    log_line("%s %.200s %d %.1f ms%s%s%s", x->method ? x->method : "?", x->path ? x->path : "?",
             x->reply.status, (double)(clock_ns() - x->began) / 1e6,
             how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : " (cut)", *x->who ? " by " : "",
             x->who);
    if (x->guest) {
        watch_stream(d->watch, x->guest->watched, NULL);
        watch_deadline(d->watch, x->guest->watched,
                       clock_ns() + d->server->settings.idle_seconds * CLOCK_SECOND);
        door_stage(d->door, x->guest->seat, DOOR_IDLE);
    }
    if (x->reply.stream)
        stream_detach(x->reply.stream);
    reply_clear(&x->reply);
    buffer_clear(&x->body);
    let_go(x);
    free(x->method);
    free(x->path);
    free(x);
    atomic_fetch_sub(&d->exchanges, 1);
}

static void guest_free(struct daemon *d, struct guest *g)
{
    if (!g)
        return;
    watch_remove(d->watch, g->watched);
    if (g->seat)
        door_leave(d->door, g->seat);
    free(g);
}

static struct guest *guest_create(struct daemon *d, int fd)
{
    struct guest *g = calloc(1, sizeof(*g));

    if (!g)
        return NULL;
    g->seat = door_enter(d->door, fd);
    g->watched =
        watch_add(d->watch, fd, clock_ns() + d->server->settings.receive_seconds * CLOCK_SECOND);
    if (g->seat && g->watched)
        return g;
    guest_free(d, g);
    return NULL;
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct daemon *d = user;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = guest_create(d, socket_of(connection));
    } else {
        guest_free(d, *context);
        *context = NULL;
    }
}

/* %00 stays as it is: decoded it would end the path, and /health%00x be /health. */
static size_t unescape(void *user, struct MHD_Connection *connection, char *text)
{
    char *out = text;

    (void)user;
    (void)connection;
    for (const char *s = text; *s; s++) {
        int n = 0;
        unsigned byte;

        if (*s == '%' && s[1] && strchr("0123456789abcdefABCDEF", s[1]) &&
            sscanf(s + 1, "%2x%n", &byte, &n) == 1 && n == 2 && byte) {
            *out++ = (char)byte;
            s += 2;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
    return (size_t)(out - text);
}

static int let_in(void *user, int fd, const struct sockaddr *address, socklen_t size)
{
    struct daemon *d = user;

    return MHD_add_connection(d->mhd, fd, address, size) == MHD_YES ? 0 : -1;
}

/* Every thread may have all connections: how many there are the door decides. */
static struct MHD_Daemon *start(struct daemon *d)
{
    const unsigned most = ((unsigned)d->server->settings.connections + DOOR_SPARE) * THREADS;
    const int sealed = d->options.certificate != NULL;
    static char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
    const struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(uintptr_t)tls_retrieve},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, priorities},
        {MHD_OPTION_END, 0, NULL}};
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};

    return MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET |
            MHD_USE_ITC | (sealed ? MHD_USE_TLS : 0u),
        0, NULL, NULL, on_request, d, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS,
        MHD_OPTION_CONNECTION_LIMIT, most, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, d, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        d, MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_ARRAY, sealed ? tls : none,
        MHD_OPTION_END);
}

static int open_door(struct daemon *d, struct error *err)
{
    const struct settings *s = &d->server->settings;
    const struct door_rules rules = {.fd = d->fd,
                                     .sealed = d->options.certificate != NULL,
                                     .places = (int)s->connections,
                                     .outside = (int)s->arriving,
                                     .each = (int)s->connections_each,
                                     .nanoseconds = s->receive_seconds * CLOCK_SECOND,
                                     .body = s->body_bytes,
                                     .let_in = let_in,
                                     .user = d};

    return door_open(&d->door, &rules, err);
}

static void free_all(struct daemon *d)
{
    answers_free(d->answers);
    door_free(d->door);
    if (d->fd >= 0)
        listen_close(d->fd);
    watch_free(d->watch);
    guard_free(d->guard);
    free(d);
}

static int listen_on(struct daemon *d, struct error *err)
{
    const char *scheme = d->options.certificate ? "https://" : "http://";
    size_t n;

    if (listen_is_local(d->options.address))
        scheme = ""; /* unix:PATH */
    n = strlen(scheme);
    memcpy(d->address, scheme, n);
    d->fd = listen_open(d->options.address, d->address + n, sizeof(d->address) - n, err);
    return d->fd < 0 ? -1 : 0;
}

static int load_certificate(struct daemon *d, struct error *err)
{
    return d->options.certificate ? tls_load(d->options.certificate, d->options.key, err) : 0;
}

struct daemon *daemon_start(struct server *server, const struct daemon_options *options,
                            struct error *err)
{
    struct daemon *d = calloc(1, sizeof(*d));

    if (!d) {
        error_set(err, 500, "no memory for the daemon");
        return NULL;
    }
    d->server = server;
    d->options = *options;
    d->fd = -1;
    d->guard = guard_create(&options->guard, err);
    if (d->guard && !load_certificate(d, err))
        d->watch = watch_create(err);
    if (d->watch)
        d->answers = answers_create(ANSWERERS, err);
    if (d->answers && !listen_on(d, err) && !(d->mhd = start(d)))
        error_set(err, 500, "%s: libmicrohttpd does not start", d->address);
    if (d->mhd && !open_door(d, err))
        return d;
    if (d->mhd)
        MHD_stop_daemon(d->mhd);
    free_all(d);
    return NULL;
}

const char *daemon_address(const struct daemon *d)
{
    return d->address;
}

int daemon_reload(struct daemon *d, struct error *err)
{
    const int tokens = guard_reload(d->guard, err);

    return load_certificate(d, err) || tokens ? -1 : 0;
}

void daemon_stop(struct daemon *d)
{
    if (!d)
        return;
    door_close(d->door);
    atomic_store(&d->stopping, 1);
    watch_stop_streams(d->watch);
    for (int i = 0; i < STOP_MS / 10 && atomic_load(&d->exchanges); i++)
        usleep(10000);
    /* A connection that sleeps must not be there when the library stops. */
    while (atomic_load(&d->asking))
        usleep(10000);
    MHD_stop_daemon(d->mhd);
    free_all(d);
}
