/* settings.h - configs/server.json: where to listen, and the limits.
 *
 * Every key may be left out; one that is not known, or of a wrong type or size, is an error that
 * names file and key. */
#ifndef SAMEBIT_SETTINGS_H
#define SAMEBIT_SETTINGS_H

#include <stdint.h>

#include "kernels/base/error.h"

struct settings {
    char address[128];    /* "127.0.0.1:8642", "[::1]:0"; port 0: any free one */
    int64_t body_bytes;   /* of a request's body: 413 */
    int64_t json_bytes;   /* of the JSON in it: 413 */
    int64_t tokens;       /* prompt and steps: 400 */
    int64_t steps;        /* decode steps, max_tokens: 400 */
    int64_t values;       /* values that one trace gives: 400 */
    int64_t top_k;        /* 400 */
    int64_t memory_bytes; /* arena and cache of one run: 413 */
    int64_t seconds; /* from the request's last byte to the reply's: 504 before the reply's first */
    int64_t receive_seconds; /* from a request's first byte to its last: the connection is closed */
    int64_t idle_seconds;    /* a connection may wait this long for its next request */
    int64_t connections;     /* open at once: 503 */
    int64_t running;  /* runs at once that give much (many values), each on a thread of its own */
    int64_t together; /* runs at once that share their passes over the weights; 0: none does */
    int64_t waiting;  /* runs that may wait for one of these places: 503 */
    int64_t all_memory_bytes; /* of all that run; others wait */
    int64_t reuse_bytes;      /* of caches kept for runs that begin alike; 0: none are */
};

/* path NULL: all defaults. */
int settings_read(const char *path, struct settings *out, struct error *err);

#endif
