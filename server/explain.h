/* explain.h - what samebitd --which-numerics says. */
#ifndef SAMEBIT_EXPLAIN_H
#define SAMEBIT_EXPLAIN_H

#include <stdio.h>

#include "server/options.h"

/* Which numerics PyTorch computes here, why, and with o->python what a live one says.  Returns the exit
 * status: 0; 1 where that one has other bits than were said; 2, with *err set, where it could not be
 * asked. */
int explain_numerics(const struct options *o, FILE *to, struct error *err);

#endif
