/* prefixes.h - key-value caches of runs that have ended, for runs that begin alike.
 *
 * Bits depend on the calls of the model that a text is fed in (ops.h), so what is shared is whole
 * calls: a run may skip its first calls where an earlier run made the same ones, with equal tokens,
 * equal lengths, and the same attention, padding, batch and threads of torch's.  It then has the bits that it would
 * have had without. */
#ifndef SAMEBIT_PREFIXES_H
#define SAMEBIT_PREFIXES_H

#include "server/engine/run.h"
#include "server/engine/sequence.h"

struct prefixes;

/* bytes: of all caches that are kept; beyond that the least recently used go.  All functions may be
 * called by any thread.  NULL: no memory. */
struct prefixes *prefixes_create(uint64_t bytes);
void prefixes_free(struct prefixes *p);

/* Copies the longest kept beginning of r, of at most `most` calls, into the caches of s, for which no
 * call was made yet, and sets chosen[call] to the greedy choice after each.  Returns how many calls
 * r may skip, 0 for none. */
int64_t prefixes_fetch(struct prefixes *p, const struct run *r, int64_t most, struct sequence *s,
                       int64_t *chosen);
/* Keeps the first `calls` calls of r, whose greedy choices are `chosen`.  Takes the caches out of s
 * where it keeps them; without memory for the list's entry it keeps nothing. */
void prefixes_give(struct prefixes *p, const struct run *r, int64_t calls, const int64_t *chosen,
                   struct sequence *s);

#endif
