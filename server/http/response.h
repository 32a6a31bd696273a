/* response.h - a reply (request.h) as the HTTP library sends it: its header fields, and its body from
 * memory or from a stream. */
#ifndef SAMEBIT_RESPONSE_H
#define SAMEBIT_RESPONSE_H

#include <microhttpd.h>

#include "server/http/request.h"

/* Bytes asked of a stream at a time, where a reply's length is known. */
enum { RESPONSE_BLOCK = 512 * 1024 };

struct response_rules {
    int old;   /* HTTP/1.0: no chunks; where the length is unknown, the connection ends it */
    int close; /* the connection ends with it */
    const char *origin; /* of a page that may read it; else NULL */
};

/* Queues the reply.  Its body in memory is the library's from then on; its stream is shared.  MHD_NO:
 * no memory. */
enum MHD_Result response_send(struct MHD_Connection *c, struct reply *r,
                              const struct response_rules *rules);

#endif
