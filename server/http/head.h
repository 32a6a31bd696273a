/* head.h - the head of an HTTP/1.1 request, by the letter of RFC 9112: what is allowed, and how long
 * the request is.
 *
 * What a request's length is must be beyond doubt, or another reader of the same bytes sees another
 * request in them: Content-Length twice with two values, a list or a sign in it, beside
 * Transfer-Encoding, are errors. */
#ifndef SAMEBIT_HEAD_H
#define SAMEBIT_HEAD_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/error.h"

enum {
    HEAD_MOST = 32 * 1024, /* bytes of a head: 431 */
    HEAD_FIELDS = 100,     /* lines of a head: 431 */
    HEAD_TARGET = 8 * 1024 /* bytes of the target: 414 */
};

struct head {
    char method[20];
    const char *target; /* into the head's bytes; "/v1/values?layer=0", "http://host/v1/values" */
    size_t target_size;
    int minor;      /* of HTTP/1.x */
    int fields;     /* lines read */
    int hosts;      /* Host lines */
    char host[256]; /* "" when there is none */
    char origin[256];
    char encoding[32]; /* Content-Encoding */
    int64_t length;    /* Content-Length; -1: none */
    int chunked;
    int expects;  /* 100-continue */
    size_t bytes; /* of the whole head */
};

enum head_state { HEAD_PARTIAL, HEAD_WHOLE, HEAD_WRONG };

/* Reads the head that bytes begin with.  WRONG: err says why (400, 413, 414, 431, 501, 505). */
enum head_state head_read(const char *bytes, size_t size, struct head *out, struct error *err);

/* The same for who has the fields already: head_begin, head_field for each, head_check. */
void head_begin(struct head *h);
int head_field(struct head *h, const char *name, size_t name_size, const char *value,
               size_t value_size, struct error *err);
int head_check(const struct head *h, struct error *err);

/* How far a chunked body's bytes are: 1 its end is among them, 0 not yet, -1 with err (400) where
 * they are no chunks. */
int head_chunks(const char *bytes, size_t size, struct error *err);

/* Where the path of a target begins: "http://host/x" is "/x" (as sent to a proxy).  size: up to
 * there. */
size_t head_path(const char *target, size_t size);

/* Query parameters of a target. */
int head_queries(const char *target, size_t size);

#endif
