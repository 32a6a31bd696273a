/* listen.h - a listening socket from an address text. */
#ifndef SAMEBIT_LISTEN_H
#define SAMEBIT_LISTEN_H

#include <stddef.h>

#include "kernels/base/error.h"

/* address: "127.0.0.1:8642", "[::1]:8642", "localhost:8642"; port 0: any free one.  Or
 * "unix:/run/samebit.sock", which its user alone can reach, or "unix:PATH,mode=660".  Returns the
 * socket (non-blocking) and writes the address it got into spelled.  Errors: 400, naming it. */
int listen_open(const char *address, char *spelled, size_t size, struct error *err);
/* Closes it; the file of a unix socket goes too. */
void listen_close(int fd);

/* Whether only this machine can reach the address. */
int listen_is_loopback(const char *address);
/* Whether it is a unix socket's. */
int listen_is_local(const char *address);

#endif
