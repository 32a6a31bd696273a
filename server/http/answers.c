/* answers.c - see answers.h. */
#include "server/http/answers.h"

#include <pthread.h>
#include <stdlib.h>

struct answers {
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct answer *first, **end; /* where the next one goes */
    int stopping, threads;
    pthread_t thread[];
};

static void *serve(void *user)
{
    struct answers *a = user;

    pthread_mutex_lock(&a->lock);
    while (a->first || !a->stopping) {
        struct answer *one = a->first;

        if (!one) {
            pthread_cond_wait(&a->change, &a->lock);
            continue;
        }
        a->first = one->next;
        if (!a->first)
            a->end = &a->first;
        pthread_mutex_unlock(&a->lock);
        one->work(one->user);
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

struct answers *answers_create(int threads, struct error *err)
{
    struct answers *a = calloc(1, sizeof(*a) + (size_t)threads * sizeof(a->thread[0]));

    if (!a) {
        error_set(err, 500, "no memory for the threads that answer");
        return NULL;
    }
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->change, NULL);
    a->end = &a->first;
    while (a->threads < threads) {
        if (pthread_create(&a->thread[a->threads], NULL, serve, a)) {
            error_set(err, 500, "no thread to answer with");
            answers_free(a);
            return NULL;
        }
        a->threads++;
    }
    return a;
}

void answers_ask(struct answers *a, struct answer *one)
{
    one->next = NULL;
    pthread_mutex_lock(&a->lock);
    *a->end = one;
    a->end = &one->next;
    pthread_cond_signal(&a->change);
    pthread_mutex_unlock(&a->lock);
}

void answers_free(struct answers *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->stopping = 1;
    pthread_cond_broadcast(&a->change);
    pthread_mutex_unlock(&a->lock);
    for (int i = 0; i < a->threads; i++)
        pthread_join(a->thread[i], NULL);
    pthread_cond_destroy(&a->change);
    pthread_mutex_destroy(&a->lock);
    free(a);
}
