/* daemon.h - the HTTP daemon: sockets, bodies, limits of connections.  The only file that knows
 * libmicrohttpd. */
#ifndef SAMEBIT_DAEMON_H
#define SAMEBIT_DAEMON_H

#include "server/http/guard.h"
#include "server/http/request.h"

struct daemon;

/* Listens and serves, on threads of its own, until daemon_stop.  server is borrowed. */
struct daemon *daemon_start(struct server *server, const char *address,
                            const struct guard_rules *rules, struct error *err);

/* Reads the tokens again.  -1: they have a fault, and the old ones stay. */
int daemon_reload(struct daemon *d, struct error *err);

/* The address it listens on, "127.0.0.1:8642". */
const char *daemon_address(const struct daemon *d);

/* Stops accepting, fails the replies that are being computed, gives their last words a moment to
 * leave, and closes everything.  The runs themselves end by their next poll. */
void daemon_stop(struct daemon *d);

#endif
