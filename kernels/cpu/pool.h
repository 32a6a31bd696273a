/* pool.h - worker threads that do one work at a time, which is cut into numbered pieces.
 *
 * The result of a piece must not depend on which thread does it, nor on other pieces.  The caller does
 * pieces too.  Any number of threads may call at once: the first one gets the workers, the others do
 * their work by themselves.
 *
 * Every thread begins with an equal share of adjacent pieces; one that has finished takes half of
 * what another has left.  So nobody waits for a thread that the kernel has not scheduled yet. */
#ifndef SAMEBIT_CPU_POOL_H
#define SAMEBIT_CPU_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/error.h"

struct pool;

typedef void pool_fn(const void *work, int64_t piece);
/* Pieces [first, end). */
typedef void pool_range_fn(const void *work, int64_t first, int64_t end);

/* threads: the caller and threads - 1 workers; 1..POOL_MAX_THREADS. */
enum { POOL_MAX_THREADS = 1024 };
struct pool *pool_open(int threads, struct error *err);
void pool_close(struct pool *pool);

/* Calls fn(work, 0 .. pieces - 1), each once; returns when all are done.  Takes no lock and
 * allocates nothing. */
void pool_run(struct pool *pool, pool_fn *fn, const void *work, int64_t pieces);

/* Memory that the next work will read: `units` units of `unit` bytes at at[0], and as many at at[1].
 * Each thread will read an equal share of the units. */
struct pool_soon {
    const void *at[2]; /* NULL: none.  It is only prefetched, so it need not be mapped */
    size_t unit;
    int64_t units;
};

/* The same, but fn is given ranges of pieces.  A range never crosses a multiple of `grain`; most are a
 * whole grain.  A thread that has nothing to do, during the work or after it, prefetches the beginning
 * of its share of `soon` (may be NULL). */
void pool_run_ranges(struct pool *pool, pool_range_fn *fn, const void *work, int64_t pieces,
                     int64_t grain, const struct pool_soon *soon);

#endif
