/* positions.h - the field "positions": "all" | "last" | [0, 5, ...]. */
#ifndef SAMEBIT_POSITIONS_H
#define SAMEBIT_POSITIONS_H

#include <jansson.h>

#include "server/engine/run.h"

/* Sets which, positions and position_count.  *list: the positions' memory, malloc'ed, the caller's,
 * or NULL. */
int positions_read(const json_t *root, enum run_positions otherwise, struct run_request *run,
                   int64_t **list, struct error *err);

#endif
