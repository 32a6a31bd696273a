/* work.c - see work.h. */
#include "server/http/work.h"

#include <stdlib.h>
#include <string.h>

#include "server/engine/batch.h"

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

/* As much of what is due as there is room for. */
static int work_offer(struct work *w, struct error *err)
{
    ssize_t n = stream_offer(w->stream, w->out.data, w->due, err);

    if (n < 0)
        return -1;
    w->due -= (size_t)n;
    w->out.size -= (size_t)n;
    memmove(w->out.data, w->out.data + n, w->out.size);
    return 0;
}

int work_send(struct work *w, size_t least, struct error *err)
{
    int rc;

    if (w->out.failed)
        return error_set(err, 500, "no memory for the reply");
    if (w->out.size < least)
        return 0;
    if (w->joins) {
        w->due = w->out.size;
        return work_offer(w, err);
    }
    rc = stream_write(w->stream, w->out.data, w->out.size, err);
    w->out.size = 0;
    return rc;
}

int work_send_bytes(struct work *w, const void *bytes, size_t size, struct error *err)
{
    if (w->joins) {
        buffer_append(&w->out, bytes, size);
        return w->due ? 0 : work_send(w, 1, err);
    }
    return work_send(w, 1, err) ? -1 : stream_write(w->stream, bytes, size, err);
}

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

/* What is due goes as soon as there is room; of a reply that is over all but the last byte (see
 * send_but_last). */
static int on_ready(void *user)
{
    struct work *w = user;
    struct error left = {0};

    if (w->error.code || stream_poll(w->stream, &left))
        return 1;
    if (w->over)
        w->due = w->out.size - 1;
    if (w->due && work_offer(w, &left))
        return 1;
    return !w->due && (!w->over || stream_space(w->stream) > 0);
}

/* All but the last byte, and room for that: a client that has the whole reply must find the worker
 * free, so the end is left to finish_job. */
static int send_but_last(struct work *w, struct error *err)
{
    char last;

    if (w->out.failed || !w->out.size)
        return error_set(err, 500, "no memory for the reply");
    last = w->out.data[--w->out.size];
    if (work_send(w, 1, err))
        return -1;
    buffer_append(&w->out, &last, 1);
    return stream_room(w->stream, err);
}

static struct run_sink sink_of(struct work *w)
{
    return (struct run_sink){
        .write = on_value, .token = on_token, .poll = on_poll, .ready = on_ready, .user = w};
}

static void run_job(void *user)
{
    struct work *w = user;
    struct error *err = &w->error;
    const struct run_sink sink = sink_of(w);

    if (!stream_poll(w->stream, err) && !run_execute(w->run, &sink, err) &&
        !w->writer->close(w, err))
        send_but_last(w, err);
}

static void over_job(void *user, const struct error *error)
{
    struct work *w = user;

    w->error = *error;
    w->over = 1;
    if (!w->error.code && !w->writer->close(w, &w->error) && (w->out.failed || !w->out.size))
        error_set(&w->error, 500, "no memory for the reply");
}

static void finish_job(void *user)
{
    struct work *w = user;

    if (!w->error.code)
        work_send(w, 1, &w->error);
    stream_end(w->stream, &w->error);
    work_free(w);
}

static void drop_job(void *user)
{
    struct work *w = user;

    stream_fail(w->stream, 503, "the daemon is stopping");
    work_free(w);
}

int work_submit(struct work *w, const struct request *r, struct reply *reply, const char *type,
                int64_t size, struct error *err)
{
    const int joins = r->server->settings.together && batch_takes(w->run);
    struct job job = {.kind = joins ? JOB_JOINS : JOB_ALONE,
                      .memory = w->run->memory,
                      .run = run_job,
                      .joins = w->run,
                      .sink = sink_of(w),
                      .over = over_job,
                      .finish = finish_job,
                      .drop = drop_job,
                      .user = w};

    w->stream = stream_create(r->deadline);
    if (!w->stream || w->out.failed) {
        error_set(err, 500, "no memory for the reply");
        goto fail;
    }
    reply->stream = stream_share(w->stream);
    w->joins = joins;
    if (scheduler_submit(r->server->scheduler, &job, err)) {
        reply->retry_seconds = scheduler_retry_seconds(r->server->scheduler);
        goto fail;
    }
    reply->status = 200;
    reply->type = type;
    reply->stream_size = size;
    return 0;
fail:
    work_free(w);
    return -1;
}
