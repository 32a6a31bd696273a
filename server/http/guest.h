/* guest.h - a connection that was let in: its seat inside the door, and its place at the watch. */
#ifndef SAMEBIT_GUEST_H
#define SAMEBIT_GUEST_H

#include <microhttpd.h>

#include "server/http/door.h"
#include "server/http/watch.h"

struct guest {
    struct watched *watched;
    struct seat *seat;
};

/* Where guests have their places; both borrowed. */
struct guest_places {
    struct door *door;
    struct watch *watch;
};

/* A guest who must have begun by the deadline, in clock_ns().  NULL: no memory, or the door does not
 * know the socket. */
struct guest *guest_create(const struct guest_places *p, int fd, int64_t deadline);
void guest_free(const struct guest_places *p, struct guest *g);

/* The guest of a connection: its socket context.  NULL: it has none. */
struct guest *guest_of(struct MHD_Connection *c);
/* The socket of a connection; -1: unknown. */
int guest_socket(struct MHD_Connection *c);

#endif
