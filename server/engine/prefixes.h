/* prefixes.h - key-value caches of runs that have ended, for runs that begin alike.
 *
 * Bits depend on the calls that a text is fed in (ops.h), so what is shared is calls: a run may go
 * on after the calls that an earlier one has made with equal tokens, equal lengths, the same
 * attention, padding and batch.  It then has the bits that it would have had without. */
#ifndef SAMEBIT_PREFIXES_H
#define SAMEBIT_PREFIXES_H

#include "server/engine/run.h"
#include "server/engine/sequence.h"

struct prefixes;

/* bytes: of all that is kept; what has not been of use for longest makes room.  Locks as needed.
 * NULL: no memory. */
struct prefixes *prefixes_create(uint64_t bytes);
void prefixes_free(struct prefixes *p);

/* Fills the caches of s, which has none of its calls yet, with the longest beginning of r that is
 * known, of at most `most` calls.  Sets chosen[call], the greedy choice after each.  Returns how
 * many calls that are. */
int64_t prefixes_fetch(struct prefixes *p, const struct run *r, int64_t most, struct sequence *s,
                       int64_t *chosen);
/* Keeps the first `calls` calls of r, whose choices are `chosen`; takes the caches out of s. */
void prefixes_give(struct prefixes *p, const struct run *r, int64_t calls, const int64_t *chosen,
                   struct sequence *s);

#endif
