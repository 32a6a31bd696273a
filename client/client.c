/* client.c - see client.h.  The only file that knows libcurl. */
#include "client/client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kernels/base/json_memory.h"

enum { ERROR_BODY = 65536, DEFAULT_PATIENCE = 600, CONNECT_SECONDS = 10 };

struct client {
    CURL *curl;
    char *url;                          /* without a trailing slash */
    char *socket, *token, *authorities; /* NULL: none */
    long patience;
    int (*poll)(void *user);
    void *user;
    char curl_error[CURL_ERROR_SIZE];
};

/* One exchange. */
struct call {
    struct client *client;
    const struct client_piece *body;
    int pieces, piece;
    size_t piece_at;
    client_sink *sink;
    void *user;
    struct buffer error_body; /* of a reply that is not 200 */
    struct error *err;
};

static const char local[] = "unix:";

int client_is_url(const char *text)
{
    return strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0 ||
           strncmp(text, local, strlen(local)) == 0;
}

struct client *client_open(const char *url, struct error *err)
{
    struct client *c;
    size_t n = strlen(url);

    if (!client_is_url(url)) {
        error_param(err, 400, "url",
                    "%s: not the address of a daemon (http://host:port, unix:PATH)", url);
        return NULL;
    }
    while (n > 0 && url[n - 1] == '/')
        n--;
    c = calloc(1, sizeof(*c));
    if (!c)
        goto fail;
    c->patience = DEFAULT_PATIENCE;
    c->url = strndup(url, n);
    c->curl = curl_easy_init();
    if (strncmp(url, local, strlen(local)) == 0)
        c->socket = strdup(url + strlen(local));
    if (!c->url || !c->curl || (strncmp(url, local, strlen(local)) == 0 && !c->socket))
        goto fail;
    return c;
fail:
    error_set(err, 500, "%s: out of memory", url);
    client_close(c);
    return NULL;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    curl_easy_cleanup(c->curl);
    free(c->url);
    free(c->socket);
    free(c->token);
    free(c->authorities);
    free(c);
}

const char *client_url(const struct client *c)
{
    return c->url;
}

static int set_text(char **out, const char *text, struct error *err)
{
    char *copy = text ? strdup(text) : NULL;

    if (text && !copy)
        return error_set(err, 500, "out of memory");
    free(*out);
    *out = copy;
    return 0;
}

int client_set_token(struct client *c, const char *token, struct error *err)
{
    return set_text(&c->token, token, err);
}

int client_set_authorities(struct client *c, const char *path, struct error *err)
{
    return set_text(&c->authorities, path, err);
}

void client_set_patience(struct client *c, long seconds)
{
    c->patience = seconds;
}

void client_set_poll(struct client *c, int (*poll)(void *user), void *user)
{
    c->poll = poll;
    c->user = user;
}

/* ---- one exchange ---- */

static size_t send_body(char *out, size_t size, size_t count, void *user)
{
    struct call *call = user;
    size_t room = size * count, done = 0;

    while (done < room && call->piece < call->pieces) {
        const struct client_piece *p = &call->body[call->piece];
        size_t n = p->size - call->piece_at < room - done ? p->size - call->piece_at : room - done;

        if (n)
            memcpy(out + done, (const char *)p->data + call->piece_at, n);
        done += n;
        call->piece_at += n;
        if (call->piece_at == p->size) {
            call->piece++;
            call->piece_at = 0;
        }
    }
    return done;
}

/* curl sends a body again when a kept connection turns out to be closed. */
static int rewind_body(void *user, curl_off_t offset, int origin)
{
    struct call *call = user;

    if (offset != 0 || origin != SEEK_SET)
        return CURL_SEEKFUNC_CANTSEEK;
    call->piece = 0;
    call->piece_at = 0;
    return CURL_SEEKFUNC_OK;
}

static size_t take_reply(char *bytes, size_t size, size_t count, void *user)
{
    struct call *call = user;
    size_t n = size * count;
    long status = 0;

    curl_easy_getinfo(call->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        if (call->error_body.size < ERROR_BODY)
            buffer_append(
                &call->error_body, bytes,
                n < ERROR_BODY - call->error_body.size ? n : ERROR_BODY - call->error_body.size);
        return n;
    }
    if (call->sink(call->user, bytes, n, call->err)) {
        error_set(call->err, 499, "stopped");
        return n + 1; /* tells curl to end the transfer */
    }
    return n;
}

static int ask_poll(void *user, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
                    curl_off_t up)
{
    struct client *c = user;

    (void)down_all, (void)down, (void)up_all, (void)up;
    return c->poll ? c->poll(c->user) : 0;
}

static int is_loopback(const char *url)
{
    const char *host = strstr(url, "//");

    if (!host)
        return 1; /* a unix socket */
    host += 2;
    return strncmp(host, "127.", 4) == 0 || strncasecmp(host, "localhost", 9) == 0 ||
           strncmp(host, "[::1]", 5) == 0;
}

static void set_options(struct client *c, struct call *call, const char *url,
                        struct curl_slist *headers)
{
    curl_off_t size = 0;

    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_USERAGENT, "samebit");
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME, c->patience);
    curl_easy_setopt(c->curl, CURLOPT_BUFFERSIZE, 262144L);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->curl_error);
    curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, ask_poll);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take_reply);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, call);
    if (c->socket)
        curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    if (c->authorities)
        curl_easy_setopt(c->curl, CURLOPT_CAINFO, c->authorities);
    if (c->token) {
        curl_easy_setopt(c->curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(c->curl, CURLOPT_XOAUTH2_BEARER, c->token);
    }
    if (is_loopback(c->url)) /* $http_proxy must not take the request to another machine */
        curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
    c->curl_error[0] = '\0';
    if (!call->body)
        return;
    for (int i = 0; i < call->pieces; i++)
        size += (curl_off_t)call->body[i].size;
    curl_easy_setopt(c->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, size);
    curl_easy_setopt(c->curl, CURLOPT_READFUNCTION, send_body);
    curl_easy_setopt(c->curl, CURLOPT_READDATA, call);
    curl_easy_setopt(c->curl, CURLOPT_SEEKFUNCTION, rewind_body);
    curl_easy_setopt(c->curl, CURLOPT_SEEKDATA, call);
}

static int fail_transfer(struct client *c, CURLcode code, struct error *err)
{
    const char *what = c->curl_error[0] ? c->curl_error : curl_easy_strerror(code);
    const char *path =
        strncmp(c->url, local, sizeof(local) - 1) ? NULL : c->url + sizeof(local) - 1;

    if (path && access(path, F_OK)) /* curl speaks of localhost */
        what = "no such socket";
    switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
        return error_set(err, 503, "cannot reach %s: %s (is samebitd running there?)", c->url,
                         what);
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(err, 504, "%s: gave up waiting: %s", c->url, what);
    case CURLE_ABORTED_BY_CALLBACK:
        return error_set(err, 499, "%s: interrupted", c->url);
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
        return error_set(err, 502, "%s: the transfer broke off: %s", c->url, what);
    default:
        return error_set(err, 502, "%s: %s", c->url, what);
    }
}

/* Sets the error to the daemon's message, or to the first line of what another server answered. */
static int fail_status(struct client *c, const char *path, long status, struct buffer *body,
                       struct error *err)
{
    json_t *reply = json_memory_read(body->data ? body->data : "", body->size, 0, NULL);
    json_t *error = json_object_get(reply, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *param = json_string_value(json_object_get(error, "param"));

    const char *state = json_string_value(json_object_get(reply, "status"));
    const char *what = json_string_value(json_object_get(reply, "what"));

    if (state)
        error_set(err, (int)status, "%s: %s%s%s%s, %.0f%%", c->url, state, what ? " (" : "",
                  what ? what : "", what ? ")" : "",
                  100 * json_number_value(json_object_get(reply, "progress")));
    else if (message)
        error_param(err, (int)status, param ? param : "", "%s%s answered %ld: %s", c->url, path,
                    status, message);
    else
        error_set(err, (int)status, "%s%s answered %ld and no JSON error%s%.*s", c->url, path,
                  status, body->size ? ": " : "",
                  (int)strcspn(body->data ? body->data : "", "\r\n"), body->data ? body->data : "");
    json_decref(reply);
    return -1;
}

static int append_header(struct curl_slist **list, const char *name, const char *value)
{
    struct buffer line = {0};
    struct curl_slist *longer = NULL;

    buffer_format(&line, "%s: %s", name, value);
    if (!line.failed)
        longer = curl_slist_append(*list, line.data);
    buffer_clear(&line);
    if (longer)
        *list = longer;
    return longer ? 0 : -1;
}

int client_stream(struct client *c, const char *path, const char *content_type,
                  const struct client_piece *body, int pieces, const char *accept,
                  client_sink *sink, void *user, struct error *err)
{
    struct error own = {0};
    struct call call = {.client = c,
                        .body = body,
                        .pieces = pieces,
                        .sink = sink,
                        .user = user,
                        .err = err ? err : &own};
    struct buffer url = {0};
    struct curl_slist *headers = NULL;
    CURLcode code;
    long status = 0;
    int rc = -1;

    buffer_format(&url, "%s%s", c->socket ? "http://localhost" : c->url, path);
    if (url.failed || append_header(&headers, "Accept", accept) ||
        append_header(&headers, "Expect", "") ||
        (body && append_header(&headers, "Content-Type", content_type))) {
        error_set(call.err, 500, "%s: out of memory", c->url);
        goto out;
    }
    set_options(c, &call, url.data, headers);
    code = curl_easy_perform(c->curl);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    if (call.err->code)
        goto out; /* the sink's own error */
    if (code != CURLE_OK)
        fail_transfer(c, code, call.err);
    else if (status != 200)
        fail_status(c, path, status, &call.error_body, call.err);
    else
        rc = 0;
out:
    curl_slist_free_all(headers);
    buffer_clear(&call.error_body);
    buffer_clear(&url);
    return rc;
}

/* ---- JSON calls ---- */

int client_into_buffer(void *user, const void *bytes, size_t size, struct error *err)
{
    struct buffer *b = user;

    buffer_append(b, bytes, size);
    return b->failed ? error_set(err, 500, "out of memory for the reply") : 0;
}

static json_t *call_json(struct client *c, const char *path, const json_t *request,
                         struct error *err)
{
    char *text = request ? json_memory_text(request, JSON_COMPACT) : NULL;
    struct client_piece piece = {text, text ? strlen(text) : 0};
    struct buffer body = {0};
    json_t *reply = NULL;
    json_error_t where;

    if (request && !text) {
        error_set(err, 400, "the request is not valid UTF-8");
        return NULL;
    }
    if (client_stream(c, path, "application/json", text ? &piece : NULL, text ? 1 : 0,
                      "application/json", client_into_buffer, &body, err) == 0) {
        reply = json_memory_read(body.data ? body.data : "", body.size, JSON_ALLOW_NUL, &where);
        if (!reply)
            error_set(err, 502, "%s%s did not answer with JSON: %s", c->url, path, where.text);
    }
    buffer_clear(&body);
    free(text);
    return reply;
}

char *client_escape(struct client *c, const char *text, struct error *err)
{
    char *escaped = curl_easy_escape(c->curl, text, 0), *out = escaped ? strdup(escaped) : NULL;

    curl_free(escaped);
    if (!out)
        error_set(err, 500, "out of memory");
    return out;
}

json_t *client_get(struct client *c, const char *path, struct error *err)
{
    return call_json(c, path, NULL, err);
}

json_t *client_post(struct client *c, const char *path, const json_t *request, struct error *err)
{
    return call_json(c, path, request, err);
}
