/* scheduler.c - see scheduler.h. */
#include "server/engine/scheduler.h"

#include <pthread.h>
#include <stdlib.h>

struct scheduler {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job *queue; /* a ring of `size` */
    int size, first, count;
    int idle, stopping;
    pthread_t *threads;
    int thread_count;
};

static void *work(void *user)
{
    struct scheduler *s = user;
    struct job job;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (s->count == 0 && !s->stopping)
            pthread_cond_wait(&s->wake, &s->lock);
        if (s->stopping)
            break;
        job = s->queue[s->first];
        s->first = (s->first + 1) % s->size;
        s->count--;
        s->idle--;
        pthread_mutex_unlock(&s->lock);
        job.run(job.user);
        pthread_mutex_lock(&s->lock);
        s->idle++;
        pthread_mutex_unlock(&s->lock);
        job.finish(job.user);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

struct scheduler *scheduler_create(int workers, int waiting, struct error *err)
{
    struct scheduler *s = calloc(1, sizeof(*s));

    if (!s)
        goto no_memory;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    s->size = workers + waiting;
    s->queue = calloc((size_t)s->size, sizeof(*s->queue));
    s->threads = calloc((size_t)workers, sizeof(*s->threads));
    if (!s->queue || !s->threads)
        goto no_memory;
    for (; s->thread_count < workers; s->thread_count++) {
        if (pthread_create(&s->threads[s->thread_count], NULL, work, s) != 0) {
            error_set(err, 500, "no thread for worker %d", s->thread_count);
            scheduler_free(s);
            return NULL;
        }
        pthread_mutex_lock(&s->lock);
        s->idle++;
        pthread_mutex_unlock(&s->lock);
    }
    return s;
no_memory:
    error_set(err, 500, "out of memory");
    scheduler_free(s);
    return NULL;
}

void scheduler_free(struct scheduler *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = 1;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->thread_count; i++)
        pthread_join(s->threads[i], NULL);
    for (; s->count > 0; s->count--, s->first = (s->first + 1) % s->size)
        s->queue[s->first].drop(s->queue[s->first].user);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s->queue);
    free(s->threads);
    free(s);
}

int scheduler_submit(struct scheduler *s, const struct job *job, struct error *err)
{
    const char *why = NULL;

    pthread_mutex_lock(&s->lock);
    if (s->stopping) {
        why = "the server is stopping";
    } else if (s->count >= s->idle + s->size - s->thread_count) {
        why = "all workers are busy and the queue is full";
    } else {
        s->queue[(s->first + s->count) % s->size] = *job;
        s->count++;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    return why ? error_set(err, 503, "%s", why) : 0;
}
