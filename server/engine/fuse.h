/* fuse.h - which steps of a program its backend may do as one. */
#ifndef SAMEBIT_FUSE_H
#define SAMEBIT_FUSE_H

#include "server/engine/program.h"

/* Sets group and grouped of every step, from operations and what reads what alone: groups are runs
 * of neighbouring steps, of the kinds that the backend has.  A value that such a group need not
 * write has no reader outside.  by_rows is known already.  Errors: 500. */
int fuse_plan(struct program *p, struct error *err);

/* The last step that reads a value while step `reader` is being done: that of its group where this
 * is one pass over inputs and outputs, else `reader` itself. */
int fuse_end(const struct program *p, int reader);

/* Whether a step's value is there, to be observed, after a group has been done. */
int fuse_leaves(enum group group, int step, int steps);

#endif
