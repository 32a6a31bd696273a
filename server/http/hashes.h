/* hashes.h - the SHA-256 of one value after another, computed by threads beside the one that brings
 * the bytes: a value is hashed by one thread at a time, several values at once.
 *
 * The bytes are copied, as their memory is written over by the values that follow; the copies are
 * bounded, and who brings more waits until some of them are hashed.  Small values are hashed where
 * they are brought, and threads start with the first that is not small.  One owner, one caller. */
#ifndef SAMEBIT_HASHES_H
#define SAMEBIT_HASHES_H

#include <stddef.h>

#include "kernels/base/error.h"

enum {
    HASHES_BYTES = 32,      /* of a SHA-256 */
    HASHES_VALUES = 64,     /* at most begun and not taken */
    HASHES_PIECE = 1 << 18, /* a value of more than one piece is not small */
    HASHES_PIECES = 32      /* copies for each thread */
};

struct hashes;

/* threads: at least 1.  NULL: no memory, or no SHA-256 in libcrypto (500). */
struct hashes *hashes_create(int threads, struct error *err);
/* At any time; what was not taken is lost. */
void hashes_free(struct hashes *h);

/* More bytes of the value that is being brought.  Errors: 500. */
int hashes_add(struct hashes *h, const void *bytes, size_t size, struct error *err);
/* That was all of it.  The next may be begun when fewer than HASHES_VALUES are not taken. */
int hashes_end(struct hashes *h, struct error *err);
/* Takes the hash of the first ended value that was not taken: 1.  0: there is none, or it is not
 * ready (wait: never).  -1: failed (500). */
int hashes_take(struct hashes *h, int wait, unsigned char out[HASHES_BYTES], struct error *err);

#endif
