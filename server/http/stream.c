/* stream.c - see stream.h. */
#include "server/http/stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "server/http/request.h"

static const int64_t linger = CLOCK_SECOND / 50; /* how long small writes are gathered */
static const int64_t patience =
    CLOCK_SECOND / 10; /* a reader may take before it counts as stalled */

struct stream {
    pthread_mutex_t lock;
    pthread_cond_t room;
    atomic_int refs;
    atomic_int failed;
    int tells;               /* a failure is told in a line */
    int begun;               /* the reader has been told that it flows */
    char last;               /* the last byte that was put into the ring */
    int64_t length;          /* in all; -1: not known */
    int64_t deadline, stall; /* as stream_create has them */
    /* Since when the worker has had more than there is room for, or when the reader last took any
     * of it; 0 where there is room.  Written under the lock. */
    _Atomic int64_t waiting_since;
    int ended; /* what is in the ring is the rest; of a failed stream the reason is in it */
    struct error error; /* of a failed stream */
    int asleep, attached;
    void (*sleep)(void *user);
    void (*wake)(void *user);
    void *user;
    /* the worker's own */
    size_t unseen; /* bytes written since the reader was last woken */
    int64_t woken;
    const unsigned char *lent; /* what a waiting worker has not put into the ring */
    size_t lent_size;
    size_t head, used;
    unsigned char ring[STREAM_RING];
};

struct stream *stream_create(int64_t deadline, int64_t stall)
{
    struct stream *s = malloc(sizeof(*s));
    pthread_condattr_t attr;

    if (!s)
        return NULL;
    memset(s, 0, offsetof(struct stream, ring)); /* most replies never touch most of the ring */
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->room, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->lock, NULL);
    atomic_init(&s->refs, 1);
    s->deadline = deadline;
    s->stall = stall;
    s->length = -1;
    return s;
}

struct stream *stream_share(struct stream *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void stream_release(struct stream *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    pthread_cond_destroy(&s->room);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- with the lock held ---- */

static void rouse(struct stream *s)
{
    if (s->asleep) {
        s->asleep = 0;
        s->wake(s->user);
    }
}

static void doze(struct stream *s)
{
    if (s->attached && !s->asleep) {
        s->asleep = 1;
        s->sleep(s->user);
    }
}

static size_t ring_put(struct stream *s, const unsigned char *bytes, size_t size)
{
    size_t at = (s->head + s->used) % STREAM_RING, n = STREAM_RING - s->used, first;

    if (n > size)
        n = size;
    first = n < STREAM_RING - at ? n : STREAM_RING - at;
    memcpy(s->ring + at, bytes, first);
    memcpy(s->ring, bytes + first, n - first);
    s->used += n;
    if (n)
        s->last = (char)bytes[n - 1];
    return n;
}

/* Puts why the stream fails behind its last whole line.  Returns whether that could be done. */
static int put_reason(struct stream *s, const struct error *error)
{
    struct reply r = {0};
    int rc;

    if (!s->tells || !s->begun || error->code == 499 || s->last != '\n' || s->lent_size)
        return 0;
    reply_error(&r, error);
    rc = !r.body.failed && r.body.size <= STREAM_RING - s->used;
    if (rc)
        ring_put(s, (const unsigned char *)r.body.data, r.body.size);
    reply_clear(&r);
    return rc;
}

static void fail(struct stream *s, const struct error *error)
{
    if (s->ended || s->failed)
        return;
    s->error = *error;
    s->failed = 1;
    s->ended = put_reason(s, error);
    if (!s->ended)
        s->used = 0;
    s->waiting_since = 0;
    pthread_cond_signal(&s->room);
    rouse(s);
}

static void fail_late(struct stream *s)
{
    struct error late = {0};

    error_set(&late, 504, "the time for this request is over (\"seconds\" of the configuration)");
    fail(s, &late);
}

static void fail_stalled(struct stream *s)
{
    struct error stalled = {0};

    error_set(&stalled, 504, "the reply was not read for too long (\"stall_seconds\")");
    fail(s, &stalled);
}

/* Notes whether the worker waits for the reader. */
static void set_waiting(struct stream *s, int waits)
{
    if (!waits)
        s->waiting_since = 0;
    else if (!s->waiting_since && !s->failed)
        s->waiting_since = clock_ns();
}

static size_t ring_take(struct stream *s, unsigned char *out, size_t size)
{
    size_t n = s->used < size ? s->used : size, first;

    first = n < STREAM_RING - s->head ? n : STREAM_RING - s->head;
    memcpy(out, s->ring + s->head, first);
    memcpy(out + first, s->ring, n - first);
    s->used -= n;
    s->head = s->used ? (s->head + n) % STREAM_RING : 0; /* small replies stay in a few pages */
    return n;
}

static void wait_room(struct stream *s)
{
    struct timespec until = {.tv_sec = s->deadline / CLOCK_SECOND,
                             .tv_nsec = s->deadline % CLOCK_SECOND};

    rouse(s);
    set_waiting(s, 1);
    pthread_cond_timedwait(&s->room, &s->lock, &until);
    if (clock_ns() >= s->deadline)
        fail_late(s);
}

/* Follows what is in the ring. */
static size_t lent_take(struct stream *s, unsigned char *out, size_t size)
{
    size_t n = s->lent_size < size ? s->lent_size : size;

    if (!n)
        return 0; /* and lent may be NULL */
    memcpy(out, s->lent, n);
    s->lent += n;
    s->lent_size -= n;
    return n;
}

/* ---- the worker's side ---- */

int stream_write(struct stream *s, const void *bytes, size_t size, struct error *err)
{
    int failed;

    pthread_mutex_lock(&s->lock);
    s->unseen += size;
    s->lent = bytes;
    s->lent_size = size;
    while (s->lent_size > STREAM_RING - s->used && !s->failed)
        wait_room(s);
    if (!s->failed)
        ring_put(s, s->lent, s->lent_size);
    s->lent_size = 0;
    set_waiting(s, 0);
    if (s->used >= STREAM_RING / 4)
        rouse(s);
    failed = s->failed;
    if (failed)
        error_set(err, s->error.code, "%s", s->error.text);
    pthread_mutex_unlock(&s->lock);
    return failed ? -1 : 0;
}

ssize_t stream_offer(struct stream *s, const void *bytes, size_t size, struct error *err)
{
    ssize_t n = -1;

    pthread_mutex_lock(&s->lock);
    if (s->failed) {
        error_set(err, s->error.code, "%s", s->error.text);
    } else {
        n = (ssize_t)ring_put(s, bytes, size);
        s->unseen += (size_t)n;
        set_waiting(s, (size_t)n < size);
        if (s->used >= STREAM_RING / 4)
            rouse(s);
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

void stream_tells(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->tells = 1;
    pthread_mutex_unlock(&s->lock);
}

void stream_set_length(struct stream *s, int64_t bytes)
{
    pthread_mutex_lock(&s->lock);
    s->length = bytes;
    pthread_mutex_unlock(&s->lock);
}

int64_t stream_length(struct stream *s)
{
    int64_t bytes;

    pthread_mutex_lock(&s->lock);
    bytes = s->length;
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

size_t stream_space(struct stream *s)
{
    size_t space;

    pthread_mutex_lock(&s->lock);
    space = STREAM_RING - s->used;
    pthread_mutex_unlock(&s->lock);
    return space;
}

int stream_stalled(struct stream *s)
{
    const int64_t since = s->waiting_since;

    return since && clock_ns() - since > patience;
}

void stream_flush(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    rouse(s);
    pthread_mutex_unlock(&s->lock);
    s->unseen = 0;
    s->woken = clock_ns();
}

int stream_poll(struct stream *s, struct error *err)
{
    if (atomic_load(&s->failed)) {
        pthread_mutex_lock(&s->lock);
        error_set(err, s->error.code, "%s", s->error.text);
        pthread_mutex_unlock(&s->lock);
        return -1;
    }
    if (s->unseen && clock_ns() - s->woken > linger)
        stream_flush(s);
    return 0;
}

void stream_end(struct stream *s, const struct error *error)
{
    pthread_mutex_lock(&s->lock);
    if (error->code) {
        fail(s, error);
    } else if (!s->failed) {
        s->ended = 1;
        rouse(s);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- the reader's side ---- */

void stream_attach(struct stream *s, void (*sleep)(void *user), void (*wake)(void *user),
                   void *user)
{
    pthread_mutex_lock(&s->lock);
    s->sleep = sleep;
    s->wake = wake;
    s->user = user;
    s->attached = 1;
    pthread_mutex_unlock(&s->lock);
}

void stream_detach(struct stream *s)
{
    struct error left = {0};

    error_set(&left, 499, "the reader left");
    pthread_mutex_lock(&s->lock);
    s->attached = s->asleep = 0;
    fail(s, &left);
    pthread_mutex_unlock(&s->lock);
}

enum stream_state stream_first(struct stream *s, struct error *error)
{
    enum stream_state state = STREAM_FLOWING;

    pthread_mutex_lock(&s->lock);
    if (s->failed && !s->ended) {
        state = STREAM_FAILED;
        *error = s->error;
    } else if (!s->used && !s->lent_size && !s->ended) {
        state = STREAM_WAITING;
        doze(s);
    }
    s->begun |= state == STREAM_FLOWING;
    pthread_mutex_unlock(&s->lock);
    return state;
}

ssize_t stream_read(struct stream *s, void *out, size_t size)
{
    ssize_t n = STREAM_NOTHING;

    pthread_mutex_lock(&s->lock);
    if (s->failed && !s->ended) {
        n = STREAM_BROKEN;
    } else if (s->used || s->lent_size) {
        n = (ssize_t)ring_take(s, out, size);
        n += (ssize_t)lent_take(s, (unsigned char *)out + n, size - (size_t)n);
        if (s->waiting_since)
            s->waiting_since = clock_ns();
        if (s->lent_size <= STREAM_RING - s->used)
            pthread_cond_signal(&s->room);
    } else if (s->ended) {
        n = STREAM_COMPLETE;
    } else {
        doze(s);
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* ---- anybody's ---- */

void stream_fail(struct stream *s, int code, const char *message)
{
    struct error error = {0};

    error_set(&error, code, "%s", message);
    pthread_mutex_lock(&s->lock);
    fail(s, &error);
    pthread_mutex_unlock(&s->lock);
}

void stream_expire(struct stream *s, int64_t now)
{
    pthread_mutex_lock(&s->lock);
    if (now >= s->deadline)
        fail_late(s);
    else if (s->waiting_since && now - s->waiting_since >= s->stall)
        fail_stalled(s);
    pthread_mutex_unlock(&s->lock);
}
