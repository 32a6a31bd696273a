/* listen.h - a listening socket from an address text. */
#ifndef SAMEBIT_LISTEN_H
#define SAMEBIT_LISTEN_H

#include <stddef.h>

#include "kernels/base/error.h"

/* address: "127.0.0.1:8642", "[::1]:8642", "localhost:8642"; port 0: any free one.  Returns the
 * socket (non-blocking) and writes the address it got into spelled; *v6 tells its family.  Errors:
 * 400, naming the address. */
int listen_open(const char *address, char *spelled, size_t size, int *v6, struct error *err);

/* Whether only this machine can reach the address. */
int listen_is_loopback(const char *address);

#endif
