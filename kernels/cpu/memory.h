/* memory.h - the CPU backend's memory, all of it aligned alike and of any content.
 *
 * Weights lie side by side in slabs of 2 MB pages, of which nothing is lost at the end of each.
 * What a run takes is given back when it ends; a large area is then kept for the next run, since
 * new pages cost more than what is computed in them.  Any thread may call. */
#ifndef SAMEBIT_CPU_MEMORY_H
#define SAMEBIT_CPU_MEMORY_H

#include <stddef.h>

enum { MEMORY_ALIGNMENT = 64 }; /* bytes: a cache line */

struct memory; /* opaque */

/* NULL: there is none left. */
struct memory *memory_open(void);
/* Frees what is kept; everything taken has been given back. */
void memory_close(struct memory *m);

/* NULL when there is none left.  ptr may be NULL. */
void *memory_take(struct memory *m, size_t bytes);
void memory_give(struct memory *m, void *ptr);

/* The same for weights. */
void *memory_take_weight(struct memory *m, size_t bytes);
void memory_give_weight(struct memory *m, void *ptr);

#endif
