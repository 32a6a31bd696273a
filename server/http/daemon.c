/* daemon.c - see daemon.h. */
#include "server/http/daemon.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "server/http/exchange.h"
#include "server/http/listen.h"
#include "server/http/tls.h"

enum {
    THREADS = 4,   /* of the sockets: one may be taking a large body while others answer */
    ANSWERERS = 4, /* what a request costs in memory while it is parsed, so many at once */
    CONNECTION = 512 * 1024, /* its memory; half of it is a chunk's, if a length is not known */
    STOP_MS = 1500           /* for replies to leave when stopping */
};

struct daemon {
    struct exchanges all;
    struct MHD_Daemon *mhd;
    struct daemon_options options;
    int fd;
    char address[160]; /* with its scheme */
};

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct daemon *d = user;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const int64_t deadline =
            clock_ns() + d->all.server->settings.receive_seconds * CLOCK_SECOND;

        *context = guest_create(&d->all.places, guest_socket(connection), deadline);
    } else {
        guest_free(&d->all.places, *context);
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
    const unsigned most = ((unsigned)d->all.server->settings.connections + DOOR_SPARE) * THREADS;
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
        0, NULL, NULL, exchange_on_request, &d->all, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS,
        MHD_OPTION_CONNECTION_LIMIT, most, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION,
        MHD_OPTION_NOTIFY_COMPLETED, exchange_on_completed, &d->all, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, d, MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_ARRAY,
        sealed ? tls : none, MHD_OPTION_END);
}

static int open_door(struct daemon *d, struct error *err)
{
    const struct settings *s = &d->all.server->settings;
    const struct door_rules rules = {.fd = d->fd,
                                     .sealed = d->options.certificate != NULL,
                                     .places = (int)s->connections,
                                     .outside = (int)s->arriving,
                                     .each = (int)s->connections_each,
                                     .seconds = &s->receive_seconds,
                                     .body = &s->body_bytes,
                                     .let_in = let_in,
                                     .user = d};

    return door_open(&d->all.places.door, &rules, err);
}

static void free_all(struct daemon *d)
{
    answers_free(d->all.answers);
    door_free(d->all.places.door);
    if (d->fd >= 0)
        listen_close(d->fd);
    watch_free(d->all.places.watch);
    guard_free(d->all.guard);
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
    d->all.server = server;
    d->options = *options;
    d->fd = -1;
    d->all.guard = guard_create(&options->guard, err);
    if (d->all.guard && !load_certificate(d, err))
        d->all.places.watch = watch_create(err);
    if (d->all.places.watch)
        d->all.answers = answers_create(ANSWERERS, err);
    if (d->all.answers && !listen_on(d, err) && !(d->mhd = start(d)))
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

int daemon_reload(struct daemon *d, struct settings *fresh, struct error *err)
{
    const int tokens = guard_reload(d->all.guard, err);

    if (fresh)
        guard_names(d->all.guard, fresh->hosts, fresh->origins);
    return load_certificate(d, err) || tokens ? -1 : 0;
}

void daemon_stop(struct daemon *d)
{
    if (!d)
        return;
    door_close(d->all.places.door);
    atomic_store(&d->all.stopping, 1);
    watch_stop_streams(d->all.places.watch);
    for (int i = 0; i < STOP_MS / 10 && atomic_load(&d->all.begun); i++)
        usleep(10000);
    /* A connection that sleeps must not be there when the library stops. */
    while (atomic_load(&d->all.asking))
        usleep(10000);
    MHD_stop_daemon(d->mhd);
    free_all(d);
}
