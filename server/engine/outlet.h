/* outlet.h - how a run's values get from the device to its sink.
 *
 * Where the host can read the device's memory, the sink is given the values from where they lie.
 * Elsewhere they are gathered in one of two slots of the backend's reader (backend.h).  A full slot
 * is sent to the host while the other one fills, and is given to the sink only when that one is full
 * too, so that the device never waits for the host. */
#ifndef SAMEBIT_OUTLET_H
#define SAMEBIT_OUTLET_H

#include "server/engine/run.h"

struct outlet_slot; /* private */

struct outlet {
    struct backend *backend;
    const struct run_sink *sink;
    struct reader *reader;    /* NULL: the host reads the device's memory */
    size_t bytes;             /* of a slot */
    int filling;              /* the slot that values are put into */
    struct outlet_slot *slot; /* [READER_SLOTS] */
};

/* row_bytes: of the longest tensor that outlet_read will be given.  Errors: 500, 503. */
int outlet_open(struct outlet *o, struct backend *b, const struct run_sink *sink, size_t row_bytes,
                struct error *err);
/* Values that were written and not flushed are dropped. */
void outlet_close(struct outlet *o);

/* Rows of a value that is run_entry(run, entry), of any strides: its elements follow, row-major,
 * those that were written before. */
int outlet_write(struct outlet *o, int64_t entry, const struct tensor *value, struct error *err);
/* Returns when the sink has been given everything that was written. */
int outlet_flush(struct outlet *o, struct error *err);
/* Flushes, and returns the bytes of value, which is contiguous, in the host's memory: valid until
 * the next call of any of these functions.  NULL: failed. */
const void *outlet_read(struct outlet *o, const struct tensor *value, struct error *err);

#endif
