/* stream.cpp - streams, events, and doing what they have put off. */
#include "tests/emulated/cuda/stream.h"

#include <pthread.h>
#include <time.h>

#include "tests/emulated/cuda/control.h"

struct CUstream_st {
    int device, alive;
    struct work *first, **end;
    struct CUstream_st *next; /* all there ever were, so that use after the end is seen */
};

struct CUevent_st {
    int alive, timed;
    long long recorded, done; /* versions: how many times */
    cudaStream_t stream;      /* of the last record */
    double time;              /* of the last record done, in seconds */
    struct CUevent_st *next;
};

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static struct CUstream_st *streams;
static struct CUevent_st *events;
static int late = -1;

void emulated_set_late(int wanted)
{
    late = wanted;
}

static int is_late(void)
{
    const char *text = getenv("SAMEBIT_EMULATED_STREAMS");

    if (late < 0)
        late = !(text && strcmp(text, "now") == 0);
    return late;
}

static void demand_stream(cudaStream_t stream, const char *what)
{
    const struct CUstream_st *s = streams;

    while (s && s != stream)
        s = s->next;
    if (stream && (!s || !s->alive))
        emulated_fault("%s: a stream that does not exist or was destroyed", what);
}

static void demand_event(cudaEvent_t event, const char *what)
{
    const struct CUevent_st *e = events;

    while (e && e != event)
        e = e->next;
    if (!e || !e->alive)
        emulated_fault("%s: an event that does not exist or was destroyed", what);
}

/* ---- doing work ---- */

static void finish_stream(cudaStream_t stream);

static void do_copy(const struct copy *c)
{
    for (size_t row = 0; row < c->height; row++)
        memmove((char *)c->dst + row * c->dst_pitch, (const char *)c->src + row * c->src_pitch,
                c->width);
}

static void do_record(const struct record *r)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    r->event->done = r->version;
    r->event->time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int do_first(cudaStream_t stream);

/* Work is put down in one order, so what is waited for waits for nothing that comes later. */
static void do_wait(const struct record *r)
{
    while (r->event->done < r->version) {
        int progress = 0;

        for (struct CUstream_st *s = streams; s && !progress; s = s->next)
            for (struct work *w = s->first; w && !progress; w = w->next)
                if (w->kind == WORK_RECORD && w->record.event == r->event &&
                    w->record.version <= r->version)
                    progress = do_first(s);
        if (!progress)
            emulated_fault("a stream waits for an event that nothing records");
    }
}

/* SAMEBIT_EMULATED_COMPUTE=0: launches are counted and written down alone. */
static bool computes()
{
    static const int wanted = environment_number("SAMEBIT_EMULATED_COMPUTE", 1);

    return wanted != 0;
}

static void do_work(const struct work *w)
{
    switch (w->kind) {
    case WORK_LAUNCH:
        if (computes())
            grid_run(&w->launch);
        w->launch.body.end(w->launch.body.arguments);
        break;
    case WORK_COPY:
        do_copy(&w->copy);
        break;
    case WORK_FILL:
        memset(w->fill.dst, w->fill.value, w->fill.bytes);
        break;
    case WORK_RECORD:
        do_record(&w->record);
        break;
    case WORK_WAIT:
        do_wait(&w->record);
        break;
    }
}

/* Returns whether there was any. */
static int do_first(cudaStream_t stream)
{
    struct work *w = stream->first;

    if (!w)
        return 0;
    stream->first = w->next;
    if (!stream->first)
        stream->end = &stream->first;
    do_work(w);
    free(w);
    return 1;
}

static void finish_stream(cudaStream_t stream)
{
    while (do_first(stream))
        ;
}

void streams_finish(void)
{
    pthread_mutex_lock(&lock);
    for (struct CUstream_st *s = streams; s; s = s->next)
        finish_stream(s);
    pthread_mutex_unlock(&lock);
}

static void append(cudaStream_t stream, const struct work *work)
{
    struct work *w = (struct work *)malloc(sizeof(*w));

    if (!w)
        emulated_fault("no memory for a stream's work");
    *w = *work;
    w->next = NULL;
    *stream->end = w;
    stream->end = &w->next;
}

void stream_put(cudaStream_t stream, const struct work *work, int at_once, const char *what)
{
    pthread_mutex_lock(&lock);
    demand_stream(stream, what);
    if (!stream) {
        streams_finish();
        do_work(work);
    } else {
        append(stream, work);
        if (at_once || !is_late())
            finish_stream(stream);
    }
    pthread_mutex_unlock(&lock);
}

int stream_device(cudaStream_t stream, const char *what)
{
    int device;

    pthread_mutex_lock(&lock);
    demand_stream(stream, what);
    device = stream ? stream->device : current_device();
    pthread_mutex_unlock(&lock);
    return device;
}

/* ---- the calls ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    struct CUstream_st *s = (struct CUstream_st *)calloc(1, sizeof(*s));

    if (!s || flags > cudaStreamNonBlocking) {
        free(s);
        return refuse(cudaErrorInvalidValue);
    }
    pthread_mutex_lock(&lock);
    *s = {current_device(), 1, NULL, &s->first, streams};
    *stream = streams = s;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    if (!stream)
        return refuse(cudaErrorInvalidResourceHandle);
    pthread_mutex_lock(&lock);
    demand_stream(stream, "cudaStreamDestroy");
    finish_stream(stream);
    stream->alive = 0;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    pthread_mutex_lock(&lock);
    demand_stream(stream, "cudaStreamSynchronize");
    if (stream)
        finish_stream(stream);
    else
        streams_finish();
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

/* Whoever asks again and again sees it get done. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t done = cudaSuccess;

    pthread_mutex_lock(&lock);
    demand_stream(stream, "cudaStreamQuery");
    if (!stream)
        streams_finish();
    else if (stream->first) {
        do_first(stream);
        done = cudaErrorNotReady;
    }
    pthread_mutex_unlock(&lock);
    return done;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    struct CUevent_st *e = (struct CUevent_st *)calloc(1, sizeof(*e));

    if (!e)
        return refuse(cudaErrorMemoryAllocation);
    pthread_mutex_lock(&lock);
    *e = {1, !(flags & cudaEventDisableTiming), 0, 0, NULL, 0, events};
    *event = events = e;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

/* What still waits for the event has it first. */
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    pthread_mutex_lock(&lock);
    demand_event(event, "cudaEventDestroy");
    streams_finish();
    event->alive = 0;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    struct work work = {};

    pthread_mutex_lock(&lock);
    demand_event(event, "cudaEventRecord");
    event->stream = stream;
    work.kind = WORK_RECORD;
    work.record = {event, ++event->recorded};
    stream_put(stream, &work, 0, "cudaEventRecord");
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

/* An event that was never recorded is not waited for, as in CUDA. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    struct work work = {};

    if (flags != cudaEventWaitDefault)
        return refuse(cudaErrorInvalidValue);
    pthread_mutex_lock(&lock);
    demand_event(event, "cudaStreamWaitEvent");
    work.kind = WORK_WAIT;
    work.record = {event, event->recorded};
    stream_put(stream, &work, 0, "cudaStreamWaitEvent");
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    struct record record;

    pthread_mutex_lock(&lock);
    demand_event(event, "cudaEventSynchronize");
    record = {event, event->recorded};
    do_wait(&record);
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaError_t done = cudaSuccess;

    pthread_mutex_lock(&lock);
    demand_event(event, "cudaEventQuery");
    if (event->done < event->recorded) {
        if (event->stream)
            do_first(event->stream);
        done = cudaErrorNotReady;
    }
    pthread_mutex_unlock(&lock);
    return done;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    cudaError_t error = cudaSuccess;

    pthread_mutex_lock(&lock);
    demand_event(start, "cudaEventElapsedTime");
    demand_event(end, "cudaEventElapsedTime");
    if (!start->recorded || !end->recorded || !start->timed || !end->timed)
        error = refuse(cudaErrorInvalidResourceHandle);
    else if (start->done < start->recorded || end->done < end->recorded)
        error = cudaErrorNotReady;
    else
        *milliseconds = (float)(1e3 * (end->time - start->time));
    pthread_mutex_unlock(&lock);
    return error;
}
