/* inflate.h - bodies that were sent compressed. */
#ifndef SAMEBIT_INFLATE_H
#define SAMEBIT_INFLATE_H

#include <stdint.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

/* Puts what the body is of that Content-Encoding ("", "identity", "gzip", "deflate") in its place.
 * most: bytes that it may have then, 413.  415: an encoding that is not known.  400: not so encoded,
 * or not to its end. */
int inflate_body(struct buffer *body, const char *encoding, int64_t most, struct error *err);

#endif
