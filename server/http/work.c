/* work.c - see work.h. */
#include "server/http/work.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "server/engine/drivers.h"

struct work *work_create(const struct request *r, struct error *err)
{
    struct work *w = calloc(1, sizeof(*w));

    if (!w)
        error_set(err, 500, "no memory for the request");
    else
        w->engine = r->engine;
    return w;
}

void work_free(struct work *w)
{
    if (!w)
        return;
    if (w->writer && w->writer->free)
        w->writer->free(w->state);
    run_free(w->run);
    replacements_clear(&w->replace);
    buffer_clear(&w->out);
    stream_release(w->stream);
    free(w);
}

/* Gives the stream what is due: all of it where the run may wait, else as much as there is room
 * for. */
static int send_due(struct work *w, struct error *err)
{
    ssize_t n = (ssize_t)w->due;

    if (!w->may_wait)
        n = stream_offer(w->stream, w->out.data, w->due, err);
    else if (stream_write(w->stream, w->out.data, w->due, err))
        n = -1;
    if (n < 0)
        return -1;
    w->due -= (size_t)n;
    w->out.size -= (size_t)n;
    memmove(w->out.data, w->out.data + n, w->out.size);
    return 0;
}

int work_send(struct work *w, size_t least, struct error *err)
{
    if (w->out.failed)
        return error_set(err, 500, "no memory for the reply");
    if (w->out.size < least)
        return 0;
    w->due = w->out.size;
    return send_due(w, err);
}

int work_send_bytes(struct work *w, const void *bytes, size_t size, struct error *err)
{
    if (w->may_wait)
        return work_send(w, 1, err) ? -1 : stream_write(w->stream, bytes, size, err);
    buffer_append(&w->out, bytes, size);
    return w->due ? 0 : work_send(w, 1, err);
}

/* ---- what the run's driver calls ---- */

static int on_value(void *user, int64_t entry, const void *data, size_t bytes, struct error *err)
{
    struct work *w = user;

    return w->writer->value(w, entry, data, bytes, err);
}

static int on_token(void *user, int64_t call, int64_t id, struct error *err)
{
    struct work *w = user;

    return w->writer->token ? w->writer->token(w, call, id, err) : 0;
}

static int on_poll(void *user, struct error *err)
{
    return stream_poll(((struct work *)user)->stream, err);
}

/* Of a reply whose run has ended all but the last byte goes, and that byte has room. */
static int on_ready(void *user)
{
    struct work *w = user;
    struct error left = {0};

    if (w->error.code || stream_poll(w->stream, &left))
        return 1;
    if (w->over)
        w->due = w->out.size - 1;
    if (w->due && send_due(w, &left))
        return 1;
    return !w->due && (!w->over || stream_space(w->stream) > 0);
}

static int on_stalled(void *user)
{
    return stream_stalled(((struct work *)user)->stream);
}

static void on_over(void *user, const struct error *error)
{
    struct work *w = user;

    w->error = *error;
    w->may_wait = 0;
    /* Whoever writes into the checkpoint meanwhile has written into the run. */
    if (!w->error.code && !weights_check(w->engine->weights, &w->error) &&
        !w->writer->close(w, &w->error) && (w->out.failed || !w->out.size))
        error_set(&w->error, 500, "no memory for the reply");
    w->over = 1;
}

static void on_finish(void *user)
{
    struct work *w = user;

    if (!w->error.code)
        work_send(w, 1, &w->error);
    stream_end(w->stream, &w->error);
    work_free(w);
}

/* ---- its memory ---- */

/* What was read from the request. */
static uint64_t held_bytes(const struct work *w)
{
    uint64_t bytes = sizeof(*w) + w->run->held + w->out.size;

    for (int64_t i = 0; i < w->replace.count; i++)
        bytes += tensor_bytes(&w->replace.at[i].value);
    return bytes;
}

/* What its reader has not taken: of an ALONE run little more than the stream holds. */
static uint64_t reply_bytes(const struct work *w)
{
    return STREAM_RING + DRIVERS_CALL_BYTES + w->writer_bytes;
}

int work_submit(struct work *w, const struct request *r, struct reply *reply, const char *type,
                struct error *err)
{
    const struct settings *settings = &r->server->settings;
    const int shares = settings->together && !w->alone && drivers_share(w->run);
    const struct job job = {.kind = shares ? JOB_SHARED : JOB_ALONE,
                            .run = w->run,
                            .sink = {.write = on_value,
                                     .token = on_token,
                                     .poll = on_poll,
                                     .ready = on_ready,
                                     .user = w},
                            .held = held_bytes(w),
                            .memory = held_bytes(w) + w->run->memory + reply_bytes(w),
                            .rest = held_bytes(w) + reply_bytes(w),
                            .over = on_over,
                            .finish = on_finish,
                            .stalled = on_stalled,
                            .user = w};

    w->stream = stream_create(r->deadline, settings->stall_seconds * CLOCK_SECOND);
    if (!w->stream || w->out.failed) {
        error_set(err, 500, "no memory for the reply");
        goto fail;
    }
    if (weights_check(w->engine->weights, err))
        goto fail;
    if (w->by_line)
        stream_tells(w->stream);
    reply->stream = stream_share(w->stream);
    w->may_wait = !shares;
    if (scheduler_submit(r->server->scheduler, &job, err)) {
        reply->retry_seconds = scheduler_retry_seconds(r->server->scheduler);
        goto fail;
    }
    reply->status = 200;
    reply->type = type;
    return 0;
fail:
    work_free(w);
    return -1;
}
