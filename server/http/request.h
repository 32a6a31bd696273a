/* request.h - what a handler is given and what it gives back; neither knows of sockets. */
#ifndef SAMEBIT_REQUEST_H
#define SAMEBIT_REQUEST_H

#include <jansson.h>

#include "kernels/base/buffer.h"
#include "server/http/server.h"
#include "server/http/stream.h"

enum { REQUEST_QUERIES = 8 };

struct request {
    struct server *server;
    struct engine *engine; /* NULL: only the health route is called */
    const char *method, *path;
    const char *accept, *content_type; /* "" when there is none */
    struct {
        const char *key, *value;
    } query[REQUEST_QUERIES]; /* value "" when there is none */
    int query_count;
    const char *body;
    size_t body_size;
    int64_t deadline; /* clock_ns() at which the reply must be over */
};

struct reply {
    int status;
    const char *type;  /* Content-Type */
    const char *allow; /* of a 405; else NULL */
    int retry_seconds; /* of a 503: when to ask again; 0: soon */
    struct buffer body;
    /* When set, it is the body instead: the reply's reference, released by who sends it.  Until its
     * first byte comes it may fail, and then reply_error's reply takes this one's place. */
    struct stream *stream;
};

/* The one way errors look: {"error": {"message", "param", "code"}}. */
void reply_error(struct reply *r, const struct error *error);
/* 200 and what is in body, as JSON; 500 when there was no memory for it. */
void reply_json(struct reply *r);
void reply_clear(struct reply *r);
/* "Not Found" of 404. */
const char *reply_phrase(int status);

/* Sets *value and returns 1 when ?key= is there, else returns 0. */
int request_query(const struct request *r, const char *key, const char **value);
/* -1 for a parameter that known (ends with NULL) does not list, or one given twice. */
int request_only(const struct request *r, const char *const known[], struct error *err);

/* Whether the body is JSON by its Content-Type, or without one by its first character. */
int request_is_json(const struct request *r);
/* The request's JSON object where the body can be nothing else.  The caller decrefs. */
json_t *request_json(const struct request *r, struct error *err);
/* 406 unless the Accept header allows JSON. */
int request_takes_json(const struct request *r, struct error *err);

/* A handler fills the reply, or returns -1 with err. */
typedef int handler_fn(const struct request *r, struct reply *reply, struct error *err);

#endif
