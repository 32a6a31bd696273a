/* reader.cu - see reader.cuh. */
#include "kernels/cuda/reader.cuh"

#include <pthread.h>
#include <stdlib.h>

#include "kernels/cuda/copy.cuh"

struct reader_slot {
    char *device, *host;
    cudaEvent_t filled, arrived;
};

struct reader {
    struct reader *next; /* in the pool */
    const struct cuda *cuda;
    size_t bytes;
    cudaStream_t stream;
    struct reader_slot slot[READER_SLOTS];
};

/* ---- the pool ---- */

struct reader_pool {
    pthread_mutex_t lock;
    struct reader *idle;
};

static void reader_free(struct reader *r)
{
    for (int i = 0; i < READER_SLOTS; i++) {
        struct reader_slot *s = &r->slot[i];

        if (s->filled)
            cudaEventDestroy(s->filled);
        if (s->arrived)
            cudaEventDestroy(s->arrived);
        if (s->host)
            cudaFreeHost(s->host);
        if (s->device)
            cudaFree(s->device);
    }
    if (r->stream)
        cudaStreamDestroy(r->stream);
    free(r);
}

struct reader_pool *reader_pool_open(void)
{
    struct reader_pool *pool = (struct reader_pool *)calloc(1, sizeof(*pool));

    if (pool)
        pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

void reader_pool_close(struct reader_pool *pool)
{
    if (!pool)
        return;
    for (struct reader *r = pool->idle, *next; r; r = next) {
        next = r->next;
        reader_free(r);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static struct reader *pool_take(struct reader_pool *pool, size_t bytes)
{
    struct reader **at, *found;

    pthread_mutex_lock(&pool->lock);
    for (at = &pool->idle; *at && (*at)->bytes < bytes;)
        at = &(*at)->next;
    found = *at;
    if (found)
        *at = found->next;
    pthread_mutex_unlock(&pool->lock);
    return found;
}

/* ---- opening and closing ---- */

static int slot_open(struct reader_slot *s, size_t bytes)
{
    return cuda_check(cudaMalloc((void **)&s->device, bytes)) ||
                   cuda_check(cudaMallocHost((void **)&s->host, bytes)) ||
                   cuda_check(cudaEventCreateWithFlags(&s->filled, cudaEventDisableTiming)) ||
                   cuda_check(cudaEventCreateWithFlags(&s->arrived, cudaEventDisableTiming))
               ? -1
               : 0;
}

struct reader *cuda_reader_open(struct backend *b, size_t bytes, struct error *err)
{
    const struct cuda *cuda = (const struct cuda *)b->state;
    struct reader *r = pool_take(cuda->readers, bytes);
    int failed;

    if (r)
        return r;
    r = (struct reader *)calloc(1, sizeof(*r));
    if (r) {
        r->cuda = cuda;
        r->bytes = bytes;
        failed = cuda_enter(cuda) ||
                 cuda_check(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking));
        for (int i = 0; i < READER_SLOTS && !failed; i++)
            failed = slot_open(&r->slot[i], bytes);
        if (!failed)
            return r;
        reader_free(r);
    }
    error_set(err, 503, "no memory on %s to read values through", b->device);
    return NULL;
}

void cuda_reader_close(struct backend *b, struct reader *r)
{
    struct reader_pool *pool = ((const struct cuda *)b->state)->readers;

    if (!r)
        return;
    /* after an error, a slot may have been sent and not waited for */
    cudaStreamSynchronize(r->stream);
    pthread_mutex_lock(&pool->lock);
    r->next = pool->idle;
    pool->idle = r;
    pthread_mutex_unlock(&pool->lock);
}

/* ---- a slot's way ---- */

int cuda_reader_put(struct reader *r, int slot, size_t offset, const struct tensor *src)
{
    return cuda_gather(r->cuda, r->slot[slot].device + offset, src);
}

int cuda_reader_send(struct reader *r, int slot, size_t bytes)
{
    const struct reader_slot *s = &r->slot[slot];

    return cuda_check(cudaEventRecord(s->filled, r->cuda->stream)) ||
                   cuda_check(cudaStreamWaitEvent(r->stream, s->filled, 0)) ||
                   cuda_check(cudaMemcpyAsync(s->host, s->device, bytes, cudaMemcpyDeviceToHost,
                                              r->stream)) ||
                   cuda_check(cudaEventRecord(s->arrived, r->stream))
               ? -1
               : 0;
}

const void *cuda_reader_wait(struct reader *r, int slot)
{
    return cuda_check(cudaEventSynchronize(r->slot[slot].arrived)) ? NULL : r->slot[slot].host;
}
