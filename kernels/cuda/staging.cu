/* staging.cu - see staging.cuh. */
#include "kernels/cuda/staging.cuh"

#include <pthread.h>
#include <stdlib.h>

#include "kernels/cuda/cuda_state.cuh"

struct staging {
    pthread_mutex_t lock; /* held from take to send */
    cudaStream_t stream;
    char *memory; /* pinned, [STAGING_PIECES][STAGING_BYTES] */
    cudaEvent_t sent[STAGING_PIECES];
    int events;
    int next;
};

struct staging *staging_open(cudaStream_t stream)
{
    struct staging *s = (struct staging *)calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    s->stream = stream;
    if (cuda_check(cudaMallocHost((void **)&s->memory, (size_t)STAGING_PIECES * STAGING_BYTES)))
        goto fail;
    for (; s->events < STAGING_PIECES; s->events++)
        if (cuda_check(cudaEventCreateWithFlags(&s->sent[s->events], cudaEventDisableTiming)))
            goto fail;
    return s;
fail:
    staging_close(s);
    return NULL;
}

void staging_close(struct staging *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->events; i++)
        cudaEventDestroy(s->sent[i]);
    if (s->memory)
        cudaFreeHost(s->memory);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void *staging_take(struct staging *s)
{
    pthread_mutex_lock(&s->lock);
    if (cuda_check(cudaEventSynchronize(s->sent[s->next])) == 0)
        return s->memory + (size_t)s->next * STAGING_BYTES;
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int staging_send(struct staging *s, void *dst, size_t bytes)
{
    const char *from = s->memory + (size_t)s->next * STAGING_BYTES;
    int rc = cuda_check(cudaMemcpyAsync(dst, from, bytes, cudaMemcpyHostToDevice, s->stream)) ||
             cuda_check(cudaEventRecord(s->sent[s->next], s->stream));

    s->next = (s->next + 1) % STAGING_PIECES;
    pthread_mutex_unlock(&s->lock);
    return rc ? -1 : 0;
}
