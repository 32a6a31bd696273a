/* pool.c - see pool.h.
 *
 * A worker joins the work by first counting itself in `inside`, then looking whether the work is still
 * `open`.  The caller first closes the work, then waits until `inside` is 0.  These operations are
 * sequentially consistent: either the caller sees the worker, or the worker sees that the work is
 * closed.  So a late worker never reads fields that are being rewritten. */
#include "kernels/cpu/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How often an idle worker looks for work before it sleeps: some tens of microseconds, longer than
 * the gap between two operations of a model.  The caller spins longer while others finish; then it
 * sleeps too, so that a worker that lost its core to another process can run on this one. */
enum { POOL_SPINS = 2000, POOL_END_SPINS = 4000 };

/* How much a thread prefetches at most (part of its cache: the inputs of the last work should stay
 * there too), and how much of it between two looks for work. */
enum { AHEAD_BYTES = 256 << 10, AHEAD_STEP = 256, LINE = 64 };

/* A thread and the pieces [first, end) that are its own: first << 32 | end.  The owner takes from
 * the front, others from the back. */
struct pool_member {
    _Alignas(64) _Atomic uint64_t share;
    struct pool *pool;
    pthread_t thread;
    const char *soon[2], *soon_end[2]; /* what it has still to prefetch */
};

struct pool {
    /* the work, written while it is closed and nobody is inside */
    pool_range_fn *fn;
    const void *work;
    int64_t grain;
    struct pool_soon soon;

    _Alignas(64) _Atomic uint32_t inside;
    atomic_int open;
    atomic_int waiting;                 /* the caller sleeps until nobody is inside */
    _Alignas(64) _Atomic uint32_t turn; /* counts works; sleepers wait for a change */
    atomic_int sleeping;
    atomic_int ending;
    _Alignas(64) atomic_flag taken;

    int workers;
    struct pool_member member[]; /* the caller's, then each worker's */
};

/* Pauses for some tens of cycles, which the core's other hyperthread can use. */
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

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
    syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

/* ---- what is read soon ---- */

/* Sets what a thread is to prefetch: the beginning of its share of `soon`.  Called inside the work.
 * Work that has no `soon` changes nothing. */
static void soon_note(struct pool_member *own)
{
    const struct pool *pool = own->pool;
    const struct pool_soon *s = &pool->soon;
    const int64_t first = s->units * (own - pool->member) / (pool->workers + 1);
    const size_t left = (size_t)(s->units - first) * s->unit;
    const size_t most = AHEAD_BYTES / (s->at[1] ? 2 : 1);

    for (int k = 0; k < 2 && s->at[0]; k++) {
        own->soon[k] = own->soon_end[k] = NULL;
        if (s->at[k]) {
            own->soon[k] = (const char *)s->at[k] + (size_t)first * s->unit;
            own->soon_end[k] = own->soon[k] + (left < most ? left : most);
        }
    }
}

/* Prefetches a little more.  Returns 0 when there is nothing left to prefetch. */
static int soon_ask(struct pool_member *own)
{
    int asked = 0;

    for (int k = 0; k < 2; k++)
        for (int i = 0; i < AHEAD_STEP && own->soon[k] < own->soon_end[k]; i += LINE) {
            __builtin_prefetch(own->soon[k], 0, 2);
            own->soon[k] += LINE;
            asked = 1;
        }
    return asked;
}

/* ---- shares ---- */

static uint64_t share_of(int64_t first, int64_t end)
{
    return (uint64_t)first << 32 | (uint64_t)end;
}

static int64_t share_first(uint64_t share)
{
    return (int64_t)(share >> 32);
}

static int64_t share_end(uint64_t share)
{
    return (int64_t)(uint32_t)share;
}

/* Takes the next pieces of the thread's own share.  Returns 0 when it is empty. */
static int share_take(struct pool_member *own, int64_t grain, int64_t *first, int64_t *end)
{
    uint64_t share = atomic_load(&own->share);
    int64_t last;

    do {
        *first = share_first(share);
        last = share_end(share);
        if (*first == last)
            return 0;
        *end = (*first / grain + 1) * grain;
        if (*end > last)
            *end = last;
    } while (!atomic_compare_exchange_weak(&own->share, &share, share_of(*end, last)));
    return 1;
}

/* Moves the second half of what another thread has left to this thread's share, cut between grains if
 * possible.  Returns 0 when the other has nothing left. */
static int share_steal(struct pool_member *own, struct pool_member *other, int64_t grain)
{
    uint64_t share = atomic_load(&other->share);
    int64_t first, end, from;

    do {
        first = share_first(share);
        end = share_end(share);
        if (first == end)
            return 0;
        from = first + (end - first) / 2;
        if (from / grain * grain > first)
            from = from / grain * grain;
    } while (!atomic_compare_exchange_weak(&other->share, &share, share_of(first, from)));
    atomic_store(&own->share, share_of(from, end));
    return 1;
}

static int steal(struct pool *pool, struct pool_member *own)
{
    for (int i = 0; i <= pool->workers; i++)
        if (share_steal(own, &pool->member[i], pool->grain))
            return 1;
    return 0;
}

static void pool_do_pieces(struct pool *pool, struct pool_member *own)
{
    int64_t first, end;

    do {
        while (share_take(own, pool->grain, &first, &end))
            pool->fn(pool->work, first, end);
    } while (steal(pool, own));
}

/* ---- workers ---- */

/* Sleeps until the turn is no longer `seen`; may return earlier. */
static void pool_sleep(struct pool *pool, uint32_t seen)
{
    atomic_fetch_add(&pool->sleeping, 1);
    futex(&pool->turn, FUTEX_WAIT_PRIVATE, seen);
    atomic_fetch_sub(&pool->sleeping, 1);
}

static void pool_wake(struct pool *pool)
{
    atomic_fetch_add(&pool->turn, 1);
    if (atomic_load(&pool->sleeping))
        futex(&pool->turn, FUTEX_WAKE_PRIVATE, POOL_MAX_THREADS);
}

static void pool_leave(struct pool *pool)
{
    if (atomic_fetch_sub(&pool->inside, 1) == 1 && atomic_load(&pool->waiting))
        futex(&pool->inside, FUTEX_WAKE_PRIVATE, 1);
}

static void *pool_worker(void *arg)
{
    struct pool_member *own = arg;
    struct pool *pool = own->pool;
    uint32_t seen = 0;
    int spins = 0;

    while (!atomic_load(&pool->ending)) {
        const uint32_t turn = atomic_load(&pool->turn);

        if (turn == seen) {
            if (++spins >= POOL_SPINS)
                pool_sleep(pool, seen);
            else if (!soon_ask(own))
                pool_rest();
            continue;
        }
        seen = turn;
        spins = 0;
        atomic_fetch_add(&pool->inside, 1);
        if (atomic_load(&pool->open)) {
            soon_note(own);
            pool_do_pieces(pool, own);
        }
        pool_leave(pool);
    }
    return NULL;
}

/* Starts a worker with all signals blocked: they are for the main thread. */
static int pool_start_worker(struct pool *pool)
{
    struct pool_member *own = &pool->member[pool->workers + 1];
    sigset_t all, before;
    int rc;

    own->pool = pool;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&own->thread, NULL, pool_worker, own);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        pool->workers++;
    return rc;
}

struct pool *pool_open(int threads, struct error *err)
{
    const size_t size = sizeof(struct pool) + (size_t)threads * sizeof(struct pool_member);
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
    pool->member[0].pool = pool;
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
        pthread_join(pool->member[i + 1].thread, NULL);
    free(pool);
}

/* ---- work ---- */

static void pool_wait(struct pool *pool)
{
    uint32_t inside;

    for (int spins = 0; spins < POOL_END_SPINS; spins++) {
        if (atomic_load(&pool->inside) == 0)
            return;
        if (!soon_ask(&pool->member[0]))
            pool_rest();
    }
    atomic_store(&pool->waiting, 1);
    while ((inside = atomic_load(&pool->inside)) != 0)
        futex(&pool->inside, FUTEX_WAIT_PRIVATE, inside);
    atomic_store(&pool->waiting, 0);
}

static void pool_share_out(struct pool *pool, int64_t pieces)
{
    const int64_t members = pool->workers + 1;

    for (int64_t i = 0; i < members; i++)
        atomic_store(&pool->member[i].share,
                     share_of(pieces * i / members, pieces * (i + 1) / members));
}

void pool_run_ranges(struct pool *pool, pool_range_fn *fn, const void *work, int64_t pieces,
                     int64_t grain, const struct pool_soon *soon)
{
    if (pieces <= 1 || pieces > UINT32_MAX || pool->workers == 0 ||
        atomic_flag_test_and_set(&pool->taken)) {
        for (int64_t first = 0; first < pieces; first += grain)
            fn(work, first, first + grain < pieces ? first + grain : pieces);
        return;
    }
    pool->fn = fn;
    pool->work = work;
    pool->grain = grain;
    pool->soon = soon ? *soon : (struct pool_soon){0};
    pool_share_out(pool, pieces);
    atomic_store(&pool->open, 1);
    pool_wake(pool);
    soon_note(&pool->member[0]);
    pool_do_pieces(pool, &pool->member[0]);
    atomic_store(&pool->open, 0);
    pool_wait(pool);
    atomic_flag_clear(&pool->taken);
}

struct single {
    pool_fn *fn;
    const void *work;
};

static void single_range(const void *work, int64_t first, int64_t end)
{
    const struct single *s = work;

    for (int64_t piece = first; piece < end; piece++)
        s->fn(s->work, piece);
}

void pool_run(struct pool *pool, pool_fn *fn, const void *work, int64_t pieces)
{
    const struct single s = {fn, work};

    pool_run_ranges(pool, single_range, &s, pieces, 1, NULL);
}
