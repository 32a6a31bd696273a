/* daemon.h - the HTTP daemon: its address, its threads, its start and stop.
 *
 * With exchange.h, guest.h and response.h, which it is made of, the only one that knows libmicrohttpd. */
#ifndef SAMEBIT_DAEMON_H
#define SAMEBIT_DAEMON_H

#include "server/http/guard.h"
#include "server/http/request.h"

struct daemon;

struct daemon_options {
    const char *address; /* see listen.h */
    struct guard_rules guard;
    const char *certificate, *key; /* PEM files of TLS; NULL: none */
};

/* Listens and serves, on threads of its own, until daemon_stop.  server is borrowed, and so are the
 * options' texts. */
struct daemon *daemon_start(struct server *server, const struct daemon_options *options,
                            struct error *err);

/* Reads tokens and certificate again, and takes names from the settings (NULL: they have a fault).  -1:
 * one has a fault, and the old one stays. */
int daemon_reload(struct daemon *d, struct settings *fresh, struct error *err);

/* The address it listens on, "http://127.0.0.1:8642", "unix:/run/samebit.sock". */
const char *daemon_address(const struct daemon *d);

/* Stops accepting, fails the replies that are being computed, gives their last words a moment to
 * leave, and closes everything.  The runs themselves end by their next poll. */
void daemon_stop(struct daemon *d);

#endif
