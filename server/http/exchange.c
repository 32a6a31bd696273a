/* exchange.c - see exchange.h. */
#include "server/http/exchange.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "server/http/head.h"
#include "server/http/inflate.h"
#include "server/http/response.h"
#include "server/http/routes.h"

/* Bytes of a body that is too large that are still taken before the reply. */
enum { DISCARD = 64 << 20 };

/* Beyond the deadline of the reply itself, so that its error can still leave. */
static const int64_t grace = 2 * (int64_t)CLOCK_SECOND;

/* One request and its reply. */
struct exchange {
    struct exchanges *all;
    struct MHD_Connection *connection;
    struct guest *guest;
    char *method, *path;
    struct head head; /* its fields; no target */
    char who[64];     /* the token's name */
    int64_t began;
    struct buffer body;
    int64_t held; /* of all->held, by this one */
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

static const char *header(struct MHD_Connection *c, const char *name)
{
    const char *value = MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);

    return value ? value : "";
}

static void set_error(struct exchange *x, const struct error *error)
{
    reply_error(&x->reply, error);
    x->answered = 1;
}

static enum MHD_Result send_reply(struct exchange *x)
{
    const struct response_rules rules = {
        .old = x->old,
        .close = x->close,
        .origin = guard_shares(x->all->guard, x->head.origin) ? x->head.origin : NULL};

    return response_send(x->connection, &x->reply, &rules);
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
        watch_stream(x->all->places.watch, x->guest->watched, NULL);
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
    struct exchanges *all = x->all;

    x->held += more;
    return atomic_fetch_add(&all->held, more) + more > all->server->settings.all_body_bytes ? -1
                                                                                            : 0;
}

static void let_go(struct exchange *x)
{
    atomic_fetch_sub(&x->all->held, x->held);
    x->held = 0;
}

static void refuse_memory(struct exchange *x, const char *what)
{
    struct error error = {0};

    error_set(&error, 503,
              "%s of all requests would be more than %" PRId64 " bytes (\"all_body_bytes\")", what,
              x->all->server->settings.all_body_bytes);
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

    if (atomic_load(&x->all->stopping)) {
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
    if (hold(x, (int64_t)x->reply.body.size) && x->reply.body.size > RESPONSE_BLOCK) {
        refuse_memory(x, "the replies");
        let_go(x);
    }
}

static void answer_and_resume(void *user)
{
    struct exchange *x = user;

    answer(x);
    atomic_fetch_sub(&x->all->asking, 1);
    MHD_resume_connection(x->connection);
}

/* Health is answered at once; for all else the connection sleeps. */
static void ask(struct exchange *x)
{
    struct exchanges *all = x->all;

    x->request =
        (struct request){.server = all->server,
                         .engine = atomic_load(&all->server->engine),
                         .method = x->method,
                         .path = x->path,
                         .accept = header(x->connection, MHD_HTTP_HEADER_ACCEPT),
                         .content_type = header(x->connection, MHD_HTTP_HEADER_CONTENT_TYPE),
                         .deadline = clock_ns() + all->server->settings.seconds * CLOCK_SECOND};
    watch_deadline(all->places.watch, x->guest->watched, x->request.deadline + grace);
    door_stage(all->places.door, x->guest->seat, DOOR_BUSY);
    MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, add_query, &x->request);
    if (routes_is_quick(x->path)) {
        answer(x);
        return;
    }
    x->ask = (struct answer){.work = answer_and_resume, .user = x};
    atomic_fetch_add(&all->asking, 1);
    MHD_suspend_connection(x->connection);
    answers_ask(all->answers, &x->ask);
}

static void begin_stream(struct exchange *x)
{
    if (!x->reply.stream)
        return;
    stream_attach(x->reply.stream, sleep_connection, wake_connection, x->connection);
    watch_stream(x->all->places.watch, x->guest->watched, x->reply.stream);
}

/* ---- receiving ---- */

static void refuse_size(struct exchange *x)
{
    struct error error = {0};

    error_param(&error, 413, "body", "the body is larger than %" PRId64 " bytes (\"body_bytes\")",
                x->all->server->settings.body_bytes);
    set_error(x, &error);
}

static void take_body(struct exchange *x, const char *bytes, size_t size)
{
    if (x->discard) {
        x->discarded += size;
        return;
    }
    if (x->body.size + size > (uint64_t)x->all->server->settings.body_bytes)
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
           guard_shares(x->all->guard, x->head.origin);
}

/* What can be said before the body comes. */
static void judge_head(struct exchange *x)
{
    struct exchanges *all = x->all;
    struct error error = {0};

    if (read_head(x, &error)) {
        x->close = x->unclear = 1;
        set_error(x, &error);
    } else if (atomic_load(&all->stopping)) {
        error_set(&error, 503, "the daemon is stopping");
        set_error(x, &error);
    } else if (x->close && !routes_is_quick(x->path)) {
        error_set(&error, 503, "more than %" PRId64 " connections (\"connections\")",
                  all->server->settings.connections);
        set_error(x, &error);
    } else if (is_preflight(x)) {
        x->reply.status = 204;
        x->reply.allow = "GET, HEAD, POST";
        x->answered = 1;
    } else if (guard_check(all->guard, &x->head, x->path,
                           header(x->connection, MHD_HTTP_HEADER_AUTHORIZATION), x->who, &error) ||
               routes_check(x->method, x->path, &x->reply, &error)) {
        set_error(x, &error);
    } else if (x->head.length > all->server->settings.body_bytes) {
        refuse_size(x);
    }
    x->discard = x->answered;
}

static enum MHD_Result begin(struct exchanges *all, struct MHD_Connection *connection,
                             const char *path, const char *method, const char *version, void **user)
{
    struct exchange *x = calloc(1, sizeof(*x));

    if (!x)
        return MHD_NO;
    *user = x;
    atomic_fetch_add(&all->begun, 1);
    x->all = all;
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
    door_stage(all->places.door, x->guest->seat, DOOR_SENDING);
    watch_deadline(all->places.watch, x->guest->watched,
                   x->began + all->server->settings.receive_seconds * CLOCK_SECOND);
    judge_head(x);
    /* A client that asks first, or one that would send without end, is answered before its body; and
     * one whose body cannot be told from what follows it. */
    if (x->answered && (x->head.expects || x->head.length > DISCARD || x->unclear))
        return send_reply(x);
    return MHD_YES;
}

enum MHD_Result exchange_on_request(void *user, struct MHD_Connection *connection, const char *path,
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

void exchange_on_completed(void *user, struct MHD_Connection *connection, void **request,
                           enum MHD_RequestTerminationCode how)
{
    struct exchanges *all = user;
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
        watch_stream(all->places.watch, x->guest->watched, NULL);
        watch_deadline(all->places.watch, x->guest->watched,
                       clock_ns() + all->server->settings.idle_seconds * CLOCK_SECOND);
        door_stage(all->places.door, x->guest->seat, DOOR_IDLE);
    }
    if (x->reply.stream)
        stream_detach(x->reply.stream);
    reply_clear(&x->reply);
    buffer_clear(&x->body);
    let_go(x);
    free(x->method);
    free(x->path);
    free(x);
    atomic_fetch_sub(&all->begun, 1);
}
