/* head.h - reads the head of an HTTP/1.1 request strictly by RFC 9112: whether it is allowed, and how
 * long the request is.
 *
 * The length must be beyond doubt, or a proxy might find another request in the same bytes.  So these
 * are errors: two Content-Lengths with different values, a list or a sign in it, or one beside a
 * Transfer-Encoding. */
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

/* The same for a caller that has the fields already: head_begin, head_field for each, head_check. */
void head_begin(struct head *h);
int head_field(struct head *h, const char *name, size_t name_size, const char *value,
               size_t value_size, struct error *err);
int head_check(const struct head *h, struct error *err);

/* Returns 1 if the bytes hold a whole chunked body, 0 if more must come, -1 with err (400) if they are
 * not chunks. */
int head_chunks(const char *bytes, size_t size, struct error *err);

/* Returns where the path of a target begins: of "http://host/x" (as sent to a proxy) at "/x". */
size_t head_path(const char *target, size_t size);

/* Returns the number of query parameters of a target. */
int head_queries(const char *target, size_t size);

#endif
