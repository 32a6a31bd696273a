/* outlet.h - the way of a run's values to its sink.
 *
 * Where the host can read the device's memory they are handed on as they lie.  Elsewhere they are
 * gathered in a slot of the backend's reader; when it is full it goes to the host while the other
 * one fills, and is handed on only when that one is full too: the device always has work ahead. */
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

/* row_bytes: of the longest tensor that outlet_read is asked for.  Errors: 503. */
int outlet_open(struct outlet *o, struct backend *b, const struct run_sink *sink, size_t row_bytes,
                struct error *err);
/* What was not flushed is dropped. */
void outlet_close(struct outlet *o);

/* Rows of a value that is run_entry(run, entry), of any strides: its elements follow, row-major,
 * those that were written before. */
int outlet_write(struct outlet *o, int64_t entry, const struct tensor *value, struct error *err);
/* Hands on everything that was written. */
int outlet_flush(struct outlet *o, struct error *err);
/* Flushes and waits for value, which is contiguous; its bytes, until the next call of any of
 * these.  NULL: failed. */
const void *outlet_read(struct outlet *o, const struct tensor *value, struct error *err);

#endif
