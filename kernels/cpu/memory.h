/* memory.h - the CPU backend's memory: aligned to MEMORY_ALIGNMENT, not zeroed.
 *
 * Weights are packed side by side into large slabs of 2 MB pages, so that small weights do not waste
 * pages.  The memory of a run is given back when the run ends.  Large areas are then kept for the next
 * run: getting new pages from the kernel can take longer than the run's computation.  Any thread may
 * call. */
#ifndef SAMEBIT_CPU_MEMORY_H
#define SAMEBIT_CPU_MEMORY_H

#include <stddef.h>

enum { MEMORY_ALIGNMENT = 64 }; /* bytes: a cache line */

struct memory; /* opaque */

/* NULL when there is no memory left. */
struct memory *memory_open(void);
/* Frees the areas that are kept.  All memory must have been given back. */
void memory_close(struct memory *m);

/* NULL when there is none left.  ptr may be NULL. */
void *memory_take(struct memory *m, size_t bytes);
void memory_give(struct memory *m, void *ptr);

/* The same for weights. */
void *memory_take_weight(struct memory *m, size_t bytes);
void memory_give_weight(struct memory *m, void *ptr);

#endif
