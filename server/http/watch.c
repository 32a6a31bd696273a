/* watch.c - see watch.h. */
#include "server/http/watch.h"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "kernels/base/clock.h"

static const int64_t pause_busy = CLOCK_SECOND / 50; /* between looks while replies are computed */
static const int64_t pause_idle = CLOCK_SECOND / 5;
static const int64_t quiet = CLOCK_SECOND; /* without a reply being computed */
static const char stopping_text[] = "the daemon is stopping";

struct watched {
    struct watched *before, *after;
    int fd;
    int64_t deadline;
    struct stream *stream;
};

struct watch {
    pthread_mutex_t lock; /* taken before a stream's */
    pthread_cond_t change;
    pthread_t thread;
    struct watched *first;
    int connections, streams, stopping, refusing;
    int64_t streamed; /* when a stream was last there; 0: memory was given back since */
};

/* The peer closed its side, or the connection broke.  A client that closes only its sending side
 * cannot be told from one that is gone, and counts as gone. */
static int is_left(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};

    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void look(struct watched *c, int64_t now)
{
    if (c->stream) {
        stream_expire(c->stream, now);
        if (is_left(c->fd))
            stream_fail(c->stream, 499, "the reader left");
    }
    /* The HTTP library then sees the end of the connection and closes it. */
    if (now >= c->deadline) {
        shutdown(c->fd, SHUT_RDWR);
        c->deadline = INT64_MAX;
    }
}

/* Gives memory that is free back to the system, once nothing has been computed for a while. */
static void give_back(struct watch *w, int64_t now)
{
    if (w->streams) {
        w->streamed = now;
    } else if (w->streamed && now - w->streamed > quiet) {
        w->streamed = 0;
        pthread_mutex_unlock(&w->lock);
        malloc_trim(0);
        pthread_mutex_lock(&w->lock);
    }
}

static void *look_around(void *user)
{
    struct watch *w = user;

    pthread_mutex_lock(&w->lock);
    while (!w->stopping) {
        int64_t now = clock_ns(), until;
        struct timespec t;

        for (struct watched *c = w->first; c; c = c->after)
            look(c, now);
        give_back(w, now);
        until = now + (w->streams ? pause_busy : pause_idle);
        t = (struct timespec){.tv_sec = until / CLOCK_SECOND, .tv_nsec = until % CLOCK_SECOND};
        pthread_cond_timedwait(&w->change, &w->lock, &t);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct watch *watch_create(struct error *err)
{
    struct watch *w = calloc(1, sizeof(*w));
    pthread_condattr_t attr;

    if (!w) {
        error_set(err, 500, "no memory for the list of connections");
        return NULL;
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->change, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&w->lock, NULL);
    if (pthread_create(&w->thread, NULL, look_around, w) == 0)
        return w;
    error_set(err, 500, "no thread to look after connections");
    pthread_cond_destroy(&w->change);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return NULL;
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = 1;
    pthread_cond_signal(&w->change);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->change);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

struct watched *watch_add(struct watch *w, int fd, int64_t deadline)
{
    struct watched *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->fd = fd;
    c->deadline = deadline;
    pthread_mutex_lock(&w->lock);
    c->after = w->first;
    if (c->after)
        c->after->before = c;
    w->first = c;
    w->connections++;
    pthread_mutex_unlock(&w->lock);
    return c;
}

void watch_remove(struct watch *w, struct watched *c)
{
    if (!c)
        return;
    watch_stream(w, c, NULL);
    pthread_mutex_lock(&w->lock);
    if (c->before)
        c->before->after = c->after;
    else
        w->first = c->after;
    if (c->after)
        c->after->before = c->before;
    w->connections--;
    pthread_mutex_unlock(&w->lock);
    free(c);
}

void watch_deadline(struct watch *w, struct watched *c, int64_t deadline)
{
    if (!c)
        return;
    pthread_mutex_lock(&w->lock);
    c->deadline = deadline;
    pthread_mutex_unlock(&w->lock);
}

void watch_stream(struct watch *w, struct watched *c, struct stream *stream)
{
    if (!c)
        return;
    pthread_mutex_lock(&w->lock);
    w->streams += (stream != NULL) - (c->stream != NULL);
    w->streamed = clock_ns();
    stream_release(c->stream);
    c->stream = stream ? stream_share(stream) : NULL;
    if (stream && w->refusing)
        stream_fail(stream, 503, stopping_text);
    pthread_cond_signal(&w->change);
    pthread_mutex_unlock(&w->lock);
}

int watch_connections(struct watch *w)
{
    int n;

    pthread_mutex_lock(&w->lock);
    n = w->connections;
    pthread_mutex_unlock(&w->lock);
    return n;
}

void watch_stop_streams(struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    w->refusing = 1;
    for (struct watched *c = w->first; c; c = c->after)
        if (c->stream)
            stream_fail(c->stream, 503, stopping_text);
    pthread_mutex_unlock(&w->lock);
}
