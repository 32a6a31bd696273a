/* door.c - see door.h. */
#include "server/http/door.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kernels/base/buffer.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "server/http/head.h"
#include "server/http/request.h"
#include "server/http/seats.h"

enum {
    EVENTS = 64,
    ACCEPTS = 64,     /* in a row */
    BODY = 16 * 1024, /* of a body that is waited for */
    PEEK = HEAD_MOST + BODY,
    DRAIN = 1 << 20, /* bytes that are still taken after a refusal */
    TICK_MS = 100
};

static const int64_t farewell = 2 * (int64_t)CLOCK_SECOND; /* for a refusal to be read */
static const int64_t patience = CLOCK_SECOND / 2;          /* for a seat to become free */

enum state { ARRIVING, READY, REFUSED };

/* A connection outside. */
struct visitor {
    struct visitor *before, *after; /* in order of arrival */
    int fd;
    union address address;
    socklen_t address_size;
    int64_t until; /* when it is closed, or when it is READY, refused */
    enum state state;
    int spare; /* READY: asks for /health */
    int began; /* a part of its request is there */
    size_t drained;
};

struct door {
    struct door_rules rules;
    pthread_t thread;
    int epoll, wake;
    int paused; /* no descriptors: the listening socket is not looked at until the next tick */
    struct visitor *first, *last;
    int outside, ready;
    char peek[PEEK];
    atomic_int stopping;
    struct seats *seats;
};

static void wake(struct door *d)
{
    const uint64_t one = 1;
    ssize_t n = write(d->wake, &one, sizeof(one));

    (void)n;
}

/* ---- those inside ---- */

struct seat *door_enter(struct door *d, int fd)
{
    return seats_find(d->seats, fd);
}

void door_stage(struct door *d, struct seat *s, enum door_stage stage)
{
    seats_stage(d->seats, s, stage);
}

int door_is_spare(const struct seat *s)
{
    return seat_is_spare(s);
}

void door_leave(struct door *d, struct seat *s)
{
    if (seats_leave(d->seats, s))
        wake(d);
}

/* ---- visitors ---- */

static void unlink_visitor(struct door *d, struct visitor *v)
{
    *(v->before ? &v->before->after : &d->first) = v->after;
    *(v->after ? &v->after->before : &d->last) = v->before;
    d->outside--;
    d->ready -= v->state == READY;
    free(v);
}

/* The socket leaves the door's list with its closing. */
static void send_away(struct door *d, struct visitor *v)
{
    close(v->fd);
    unlink_visitor(d, v);
}

/* Takes what still comes, so that the refusal is not lost with it. */
static void drain(struct door *d, struct visitor *v)
{
    ssize_t n;

    while ((n = recv(v->fd, d->peek, sizeof(d->peek), MSG_DONTWAIT)) > 0)
        if ((v->drained += (size_t)n) > DRAIN)
            break;
    if (n >= 0 || (errno != EAGAIN && errno != EINTR))
        send_away(d, v);
}

/* The visitor may be gone afterwards. */
static void refuse(struct door *d, struct visitor *v, const struct error *error, int body)
{
    struct reply reply = {0};
    struct buffer out = {0};
    ssize_t n;

    reply_error(&reply, error);
    buffer_format(&out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nConnection: close\r\n", reply.status,
                  reply_phrase(reply.status), reply.type);
    if (reply.status == 503)
        buffer_text(&out, "Retry-After: 1\r\n");
    buffer_format(&out, "Content-Length: %zu\r\n\r\n", reply.body.size);
    if (body)
        buffer_append(&out, reply.body.data, reply.body.size);
    /* Nothing was sent before, so there is room. */
    n = out.failed ? 0 : send(v->fd, out.data, out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n;
    shutdown(v->fd, SHUT_WR);
    log_line("at the door: %d %s", reply.status, error->param);
    d->ready -= v->state == READY;
    v->state = REFUSED;
    v->until = clock_ns() + farewell;
    buffer_clear(&out);
    reply_clear(&reply);
    drain(d, v);
}

static void refuse_full(struct door *d, struct visitor *v)
{
    struct error error = {0};

    error_set(&error, 503,
              "more than %d connections (\"connections\"), or more than %d of one address",
              d->rules.places, d->rules.each ? d->rules.each : d->rules.places);
    refuse(d, v, &error, 1);
}

static void refuse_late(struct door *d, struct visitor *v)
{
    struct error error = {0};

    error_set(&error, 408, "the request has not come to its end in time (\"receive_seconds\")");
    refuse(d, v, &error, 1);
}

static void let_in(struct door *d, struct visitor *v)
{
    struct seat *seat = seats_take(d->seats, v->fd, &v->address, v->spare);

    if (!seat) {
        seats_make_room(d->seats);
        return;
    }
    epoll_ctl(d->epoll, EPOLL_CTL_DEL, v->fd, NULL);
    if (d->rules.let_in(d->rules.user, v->fd, &v->address.any, v->address_size))
        door_leave(d, seat);
    unlink_visitor(d, v);
}

static void become_ready(struct door *d, struct visitor *v, int spare)
{
    if (v->state == ARRIVING) {
        v->state = READY;
        v->spare = spare;
        v->until = clock_ns() + patience;
        d->ready++;
    }
    let_in(d, v);
}

static int asks_for_health(const struct head *h)
{
    const size_t at = head_path(h->target, h->target_size);
    const char *path = h->target + at;
    const size_t n = h->target_size - at;

    return n >= 7 && memcmp(path, "/health", 7) == 0 && (n == 7 || path[7] == '?');
}

/* Whether enough of the body is there; -1 with err: it is none. */
static int has_body(const struct door *d, const struct head *h, const char *bytes, size_t size,
                    struct error *err)
{
    const size_t body = size - h->bytes;

    /* One that will be refused for its size is not waited for. */
    if (h->expects || body >= BODY || h->length > *d->rules.body)
        return 1;
    if (h->chunked)
        return head_chunks(bytes + h->bytes, body, err);
    return h->length < 0 || body >= (size_t)(h->length < BODY ? h->length : BODY);
}

/* What has come so far. */
static void look(struct door *d, struct visitor *v, int ended)
{
    ssize_t n = recv(v->fd, d->peek, sizeof(d->peek), MSG_PEEK | MSG_DONTWAIT);
    struct error error = {0};
    struct head head;
    enum head_state state;
    int body;

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        send_away(d, v);
        return;
    }
    if (n < 0)
        return;
    if (d->rules.sealed) {
        become_ready(d, v, 1);
        return;
    }
    v->began = 1;
    state = head_read(d->peek, (size_t)n, &head, &error);
    body = state == HEAD_WHOLE ? has_body(d, &head, d->peek, (size_t)n, &error) : 0;
    if (state == HEAD_WHOLE && body >= 0 &&
        head_queries(head.target, head.target_size) > REQUEST_QUERIES)
        body = error_param(&error, 400, "query", "more than %d query parameters", REQUEST_QUERIES);
    if (state == HEAD_WRONG || body < 0)
        refuse(d, v, &error, strcmp(head.method, "HEAD") != 0);
    else if (state == HEAD_WHOLE && body)
        become_ready(d, v, asks_for_health(&head));
    else if (ended) /* the rest will not come */
        send_away(d, v);
}

static void on_visitor(struct door *d, struct visitor *v, uint32_t events)
{
    if (v->state == REFUSED)
        drain(d, v);
    else if (events & EPOLLERR)
        send_away(d, v);
    else if (v->state == ARRIVING)
        look(d, v, (events & (EPOLLRDHUP | EPOLLHUP)) != 0);
}

/* ---- accepting ---- */

static void pause_accepting(struct door *d, int paused)
{
    struct epoll_event event = {.events = paused ? 0 : EPOLLIN, .data.ptr = d};

    if (d->paused != paused)
        epoll_ctl(d->epoll, EPOLL_CTL_MOD, d->rules.fd, &event);
    d->paused = paused;
}

/* -1: nobody could be sent away. */
static int send_oldest_away(struct door *d)
{
    struct visitor *v = d->first;

    while (v && v->state == READY)
        v = v->after;
    if (v)
        send_away(d, v);
    return v ? 0 : -1;
}

static void add_visitor(struct door *d, int fd, const union address *address, socklen_t size)
{
    struct visitor *v = calloc(1, sizeof(*v));
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = v};

    if (!v || epoll_ctl(d->epoll, EPOLL_CTL_ADD, fd, &event)) {
        free(v);
        close(fd);
        return;
    }
    v->fd = fd;
    v->address = *address;
    v->address_size = size;
    v->until = clock_ns() + *d->rules.seconds * CLOCK_SECOND;
    v->before = d->last;
    *(d->last ? &d->last->after : &d->first) = v;
    d->last = v;
    d->outside++;
}

static void accept_some(struct door *d)
{
    for (int i = 0; i < ACCEPTS; i++) {
        union address address = {0};
        socklen_t size = sizeof(address);
        int fd;

        /* Before accepting, so that no pointer of this round's events is freed: this comes last. */
        while (d->outside >= d->rules.outside)
            if (send_oldest_away(d))
                return;
        fd = accept4(d->rules.fd, &address.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            add_visitor(d, fd, &address, size < sizeof(address) ? size : sizeof(address));
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_line("at the door: %s", strerror(errno));
            if (send_oldest_away(d)) {
                pause_accepting(d, 1);
                return;
            }
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

/* ---- the thread ---- */

static void look_at_clocks(struct door *d)
{
    const int64_t now = clock_ns();
    struct visitor *v, *after;

    for (v = d->first; v; v = after) {
        after = v->after;
        if (now < v->until)
            continue;
        if (v->state == READY)
            refuse_full(d, v);
        else if (v->state == ARRIVING && v->began)
            refuse_late(d, v);
        else
            send_away(d, v);
    }
    seats_end_leavers(d->seats);
    pause_accepting(d, 0);
}

static void seat_the_ready(struct door *d)
{
    struct visitor *v, *after;

    seats_forget_waiting(d->seats);
    for (v = d->first; v && d->ready; v = after) {
        after = v->after;
        if (v->state == READY)
            let_in(d, v);
    }
}

static void *stand_at_the_door(void *user)
{
    struct door *d = user;
    struct epoll_event events[EVENTS];
    int64_t ticked = clock_ns();

    while (!atomic_load(&d->stopping)) {
        const int n = epoll_wait(d->epoll, events, EVENTS, TICK_MS);
        int accepting = 0;
        uint64_t count;
        ssize_t woken = 0;

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == d)
                accepting = 1;
            else if (events[i].data.ptr == &d->wake)
                woken = read(d->wake, &count, sizeof(count));
            else
                on_visitor(d, events[i].data.ptr, events[i].events);
        }
        (void)woken; /* that it was is all that counts */
        seat_the_ready(d);
        if (accepting)
            accept_some(d);
        if (clock_ns() - ticked >= TICK_MS * (int64_t)1000000) {
            look_at_clocks(d);
            ticked = clock_ns();
        }
    }
    while (d->first)
        send_away(d, d->first);
    return NULL;
}

static int add_own(struct door *d, int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};

    return epoll_ctl(d->epoll, EPOLL_CTL_ADD, fd, &event);
}

int door_open(struct door **out, const struct door_rules *rules, struct error *err)
{
    struct door *d = calloc(1, sizeof(*d));

    if (!d)
        return error_set(err, 500, "no memory for the door");
    d->rules = *rules;
    d->epoll = epoll_create1(EPOLL_CLOEXEC);
    d->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->seats = seats_create(rules->places, DOOR_SPARE, rules->each);
    *out = d;
    if (d->seats && d->epoll >= 0 && d->wake >= 0 && !add_own(d, rules->fd, d) &&
        !add_own(d, d->wake, &d->wake) && !pthread_create(&d->thread, NULL, stand_at_the_door, d))
        return 0;
    error_set(err, 500, "the door does not open: %s", strerror(errno));
    door_free(d);
    *out = NULL;
    return -1;
}

void door_close(struct door *d)
{
    atomic_store(&d->stopping, 1);
    wake(d);
    pthread_join(d->thread, NULL);
}

void door_free(struct door *d)
{
    if (!d)
        return;
    if (d->epoll >= 0)
        close(d->epoll);
    if (d->wake >= 0)
        close(d->wake);
    seats_free(d->seats);
    free(d);
}
