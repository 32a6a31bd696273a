/* pool.h - worker threads that share out the pieces of one piece of work at a time.
 *
 * A piece must not depend on which thread does it, nor on the others.  The caller takes part.  Any
 * number of threads may call at once: one has the workers, the others do their own work alone.
 *
 * Every thread begins with neighbouring pieces, as many as any other; whoever is through with his
 * takes half of what another has left.  Nobody waits for a thread that has not begun. */
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

/* Memory that later work will read: `units` units of `unit` bytes, in one place or in two side by
 * side, of which each thread will have as many as any other. */
struct pool_soon {
    const void *at[2]; /* NULL: none; need not be there any more */
    size_t unit;
    int64_t units;
};

/* The same by ranges of pieces, most of them whole grains: no range reaches over a multiple of
 * `grain`, and less is taken only where what is left has to be divided.  Whoever has nothing to do
 * during or after it asks for the first of what will be his of `soon` (may be NULL). */
void pool_run_ranges(struct pool *pool, pool_range_fn *fn, const void *work, int64_t pieces,
                     int64_t grain, const struct pool_soon *soon);

#endif
