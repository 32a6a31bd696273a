/* watch.h - a thread that looks after open connections: their deadlines, and readers who leave.
 *
 * A connection waiting for its reply is not looked at by the HTTP library, so it would not notice
 * that its client is gone; and a client that drips its request byte by byte is never idle. */
#ifndef SAMEBIT_WATCH_H
#define SAMEBIT_WATCH_H

#include <stdint.h>

#include "kernels/base/error.h"
#include "server/http/stream.h"

struct watch;
struct watched; /* a connection; its socket is open as long as it is in the list */

struct watch *watch_create(struct error *err);
void watch_free(struct watch *w); /* the list must be empty */

/* deadline: clock_ns() at which the connection is shut down.  NULL: no memory. */
struct watched *watch_add(struct watch *w, int fd, int64_t deadline);
void watch_remove(struct watch *w, struct watched *c);

void watch_deadline(struct watch *w, struct watched *c, int64_t deadline);
/* The stream that the connection's reply comes from (shared), or NULL for none.  After
 * watch_stop_streams it fails at once. */
void watch_stream(struct watch *w, struct watched *c, struct stream *stream);

int watch_connections(struct watch *w);
/* Fails all streams with 503, and those that come later. */
void watch_stop_streams(struct watch *w);

#endif
