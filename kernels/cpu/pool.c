/* pool.c - see pool.h.
 *
 * A worker enters work by counting itself in `inside` and then looking whether the work is `open`;
 * the caller closes it and then waits until nobody is inside.  Both sides use sequentially
 * consistent operations, so that either the caller sees the worker or the worker sees the work
 * closed.  A worker that comes late thus never reads fields that are being rewritten. */
#include "kernels/cpu/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How long an idle worker looks for work before it sleeps: some tens of microseconds, longer than
 * the gap between two operations of a model. */
enum { POOL_SPINS = 2000 };

struct pool {
    /* the work, written while it is closed and nobody is inside */
    pool_fn *fn;
    const void *work;
    int64_t pieces;

    _Alignas(64) _Atomic int64_t next; /* piece */
    _Alignas(64) atomic_int inside;
    atomic_int open;
    _Alignas(64) _Atomic uint32_t turn; /* counts works; sleepers wait for a change */
    atomic_int sleeping;
    atomic_int ending;
    _Alignas(64) atomic_flag taken;

    int workers;
    pthread_t thread[];
};

/* Some tens of cycles in which the core's other thread has it. */
static inline void pool_rest(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* "yield" takes no time on most */
#else
    __asm__ volatile("" ::: "memory");
#endif
}

static void pool_pause(int *spins)
{
    if (++*spins < POOL_SPINS)
        pool_rest();
    else
        sched_yield();
}

static void pool_do_pieces(struct pool *pool)
{
    int64_t piece;

    while ((piece = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < pool->pieces)
        pool->fn(pool->work, piece);
}

/* Returns when the turn is no longer `seen`, or for no reason. */
static void pool_sleep(struct pool *pool, uint32_t seen)
{
    atomic_fetch_add(&pool->sleeping, 1);
    syscall(SYS_futex, &pool->turn, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&pool->sleeping, 1);
}

static void pool_wake(struct pool *pool)
{
    atomic_fetch_add(&pool->turn, 1);
    if (atomic_load(&pool->sleeping))
        syscall(SYS_futex, &pool->turn, FUTEX_WAKE_PRIVATE, POOL_MAX_THREADS, NULL, NULL, 0);
}

static void *pool_worker(void *arg)
{
    struct pool *pool = arg;
    uint32_t seen = 0;
    int spins = 0;

    while (!atomic_load(&pool->ending)) {
        const uint32_t turn = atomic_load(&pool->turn);

        if (turn == seen) {
            if (++spins < POOL_SPINS)
                pool_rest();
            else
                pool_sleep(pool, seen);
            continue;
        }
        seen = turn;
        spins = 0;
        atomic_fetch_add(&pool->inside, 1);
        if (atomic_load(&pool->open))
            pool_do_pieces(pool);
        atomic_fetch_sub(&pool->inside, 1);
    }
    return NULL;
}

/* Signals are the main thread's. */
static int pool_start_worker(struct pool *pool)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&pool->thread[pool->workers], NULL, pool_worker, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        pool->workers++;
    return rc;
}

struct pool *pool_open(int threads, struct error *err)
{
    const size_t size = sizeof(struct pool) + (size_t)threads * sizeof(pthread_t);
    struct pool *pool;
    int rc = 0;

    if (threads < 1 || threads > POOL_MAX_THREADS) {
        error_param(err, 400, "threads", "%d threads: 1 to %d can be had", threads,
                    POOL_MAX_THREADS);
        return NULL;
    }
    pool = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!pool) {
        error_set(err, 500, "no memory for %d threads", threads);
        return NULL;
    }
    memset(pool, 0, size);
    atomic_flag_clear(&pool->taken);
    while (rc == 0 && pool->workers < threads - 1)
        rc = pool_start_worker(pool);
    if (rc) {
        error_set(err, 500, "thread %d of %d: %s", pool->workers + 2, threads, strerror(rc));
        pool_close(pool);
        return NULL;
    }
    return pool;
}

void pool_close(struct pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->ending, 1);
    pool_wake(pool);
    for (int i = 0; i < pool->workers; i++)
        pthread_join(pool->thread[i], NULL);
    free(pool);
}

void pool_run(struct pool *pool, pool_fn *fn, const void *work, int64_t pieces)
{
    int spins = 0;

    if (pieces <= 1 || pool->workers == 0 || atomic_flag_test_and_set(&pool->taken)) {
        for (int64_t piece = 0; piece < pieces; piece++)
            fn(work, piece);
        return;
    }
    pool->fn = fn;
    pool->work = work;
    pool->pieces = pieces;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->open, 1);
    pool_wake(pool);
    pool_do_pieces(pool);
    atomic_store(&pool->open, 0);
    while (atomic_load(&pool->inside))
        pool_pause(&spins);
    atomic_flag_clear(&pool->taken);
}
