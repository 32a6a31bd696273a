/* seats.h - the connections inside the door (door.h): how many there may be, of which addresses, and who
 * leaves when all seats are taken.  Any thread may call. */
#ifndef SAMEBIT_SEATS_H
#define SAMEBIT_SEATS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "server/http/door.h"

struct seats;

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* `places` seats, and `spare` more for those who ask for /health; `each`: seats of one address that is
 * not this machine; 0: no limit.  NULL: no memory. */
struct seats *seats_create(int places, int spare, int each);
void seats_free(struct seats *all);

/* A free seat for a socket from that address, with fd written into it; NULL: there is none.
 * spare: it asks for /health. */
struct seat *seats_take(struct seats *all, int fd, const union address *address, int spare);
/* The seat of a socket; NULL: it has none. */
struct seat *seats_find(struct seats *all, int fd);
/* See door_stage. */
void seats_stage(struct seats *all, struct seat *s, enum door_stage stage);
int seat_is_spare(const struct seat *s);
/* Whether somebody has found no seat since seats_forget_waiting. */
int seats_leave(struct seats *all, struct seat *s);
void seats_forget_waiting(struct seats *all);

/* Asks one who idles, or sends for long, to leave: the HTTP library sees the end of its connection. */
void seats_make_room(struct seats *all);
/* Ends connections whose clients have left with a part of a request unsent; called from time to time. */
void seats_end_leavers(struct seats *all);

#endif
