/* door.h - where connections arrive.
 *
 * One thread accepts them and lets each wait outside until its request is there: the whole of it, or
 * a large body's first part.  So a client that sends slowly takes no place, and what is no HTTP is
 * answered here.  It looks at the bytes without taking them from the socket: the HTTP library reads
 * them again.  Inside there are `places` seats, and a few more for /health, which is answered when
 * all are taken; a request that finds none makes the connection leave that has been idle longest,
 * or, where none idles, has been sending its body longest; not before a second, or five. */
#ifndef SAMEBIT_DOOR_H
#define SAMEBIT_DOOR_H

#include <stdint.h>
#include <sys/socket.h>

#include "kernels/base/error.h"

struct door;
struct seat; /* a connection that is inside */

enum { DOOR_SPARE = 16 }; /* seats beyond the places */

struct door_rules {
    int fd;      /* listening; stays the caller's */
    int sealed;  /* TLS: what arrives cannot be looked at */
    int places;  /* seats */
    int outside; /* connections that may wait outside; beyond, the one that waited longest goes */
    int each;    /* seats of one address that is not this machine; 0: no limit */
    /* Of the settings: they may change. */
    const _Atomic int64_t *seconds; /* that a request may take to arrive: 408 */
    const _Atomic int64_t *body;    /* most bytes of a body */
    /* Takes over the socket: door_enter is called for it, on any thread, and door_leave at its end.
     * -1: it has closed it. */
    int (*let_in)(void *user, int fd, const struct sockaddr *address, socklen_t size);
    void *user;
};

/* Sets *out before the first connection is let in.  0 or -1. */
int door_open(struct door **out, const struct door_rules *rules, struct error *err);
/* Nobody comes in any more; those who wait outside are closed. */
void door_close(struct door *d);
void door_free(struct door *d); /* all seats have been left */

enum door_stage { DOOR_IDLE, DOOR_SENDING, DOOR_BUSY };

/* The seat of a socket that was let in. */
struct seat *door_enter(struct door *d, int fd);
/* What its connection does: waits for a next request, sends one, or is being answered. */
void door_stage(struct door *d, struct seat *s, enum door_stage stage);
/* Whether it sits beyond the places, to ask for /health only. */
int door_is_spare(const struct seat *s);
void door_leave(struct door *d, struct seat *s);

#endif
