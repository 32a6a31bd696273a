/* mapping.h - a file in memory, and whether it still is what was mapped.
 *
 * Pages of a mapped file are read when they are used, so whoever writes into the file writes into
 * what is used: mapping_changed notices it.  Where a file has been made shorter, the system ends the
 * process that reads beyond its end with SIGBUS: mapping_survive gives it zeros instead, and the
 * mapping has changed. */
#ifndef SAMEBIT_MAPPING_H
#define SAMEBIT_MAPPING_H

#include <stddef.h>
#include <time.h>

#include "kernels/base/error.h"

struct mapping {
    void *data; /* read only; NULL: nothing is mapped */
    size_t size;
    /* private */
    int fd;
    struct timespec written; /* when the file last was, as it was mapped */
};

/* Maps a regular file of at least `least` bytes.  Errors (code 400) name the path. */
int mapping_open(struct mapping *m, const char *path, size_t least, struct error *err);
void mapping_close(struct mapping *m);

/* Whether the file has been written to, or made shorter or longer.  One that was replaced or removed
 * under its name has not: what is mapped is still there. */
int mapping_changed(const struct mapping *m);

/* From now on reading what a file no longer has gives zeros.  For the whole process; before threads
 * are started. */
void mapping_survive(void);

#endif
