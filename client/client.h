/* client.h - talks to samebitd over HTTP.
 *
 * A client is one connection to one daemon with one owner; calls block.  Every error names the
 * address, and carries the daemon's own message and status where it answered with one.  JSON that
 * a call returns is the caller's to json_decref. */
#ifndef SAMEBIT_CLIENT_H
#define SAMEBIT_CLIENT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/error.h"
#include "kernels/base/safetensors.h"

struct client;

/* url: "http://127.0.0.1:8642", "https://...", "unix:/run/samebit.sock"; copied.  Does not connect
 * yet. */
struct client *client_open(const char *url, struct error *err);
void client_close(struct client *c);
const char *client_url(const struct client *c);

/* Whether a text is such an address. */
int client_is_url(const char *text);

/* Sent with every request; copied.  NULL: none. */
int client_set_token(struct client *c, const char *token, struct error *err);
/* A PEM file of who vouches for the daemon's certificate, beside the system's; copied. */
int client_set_authorities(struct client *c, const char *path, struct error *err);

/* A call fails when the daemon sends nothing for so many seconds; 0 waits for ever.  Default 600. */
void client_set_patience(struct client *c, long seconds);

/* poll is called several times a second while a call waits; if it does not return 0, the call ends
 * with an error (code 499). */
void client_set_poll(struct client *c, int (*poll)(void *user), void *user);

/* ---- JSON calls ---- */

json_t *client_get(struct client *c, const char *path, struct error *err);
/* request is borrowed. */
json_t *client_post(struct client *c, const char *path, const json_t *request, struct error *err);
/* Returns text escaped for the query of a URL; the caller's to free. */
char *client_escape(struct client *c, const char *text, struct error *err);

json_t *client_health(struct client *c, struct error *err); /* code 503 while it loads */
json_t *client_model(struct client *c, struct error *err);
/* Array of values: name, aliases, op, inputs, shape, dtype, source.  attention: NULL for the
 * daemon's default; glob: NULL for any; layer: -1. */
json_t *client_values(struct client *c, const char *attention, const char *glob, int64_t layer,
                      struct error *err);
/* The ids of text: an array of integers.  pieces (may be NULL) is set to the text of each. */
json_t *client_tokenize(struct client *c, const char *text, json_t **pieces, struct error *err);
/* ids: array, borrowed.  The text is the caller's to free. */
char *client_detokenize(struct client *c, const json_t *ids, struct error *err);
json_t *client_logits(struct client *c, const json_t *request, struct error *err);

/* Is given each line of a generation: {"token", "text"}, at last {"done": true, ...}.  Returns 0, or
 * something else to end it. */
typedef int client_line(void *user, const json_t *line, struct error *err);
/* Generates; "stream": true is added to the request.  It is an error if the last line is missing. */
int client_generate(struct client *c, const json_t *request, client_line *line, void *user,
                    struct error *err);

/* ---- streams ---- */

/* Is given each piece of a reply as it comes.  Returns 0, or something else with err set to end the
 * call. */
typedef int client_sink(void *user, const void *bytes, size_t size, struct error *err);
/* A client_sink that appends to a buffer: user is the struct buffer. */
client_sink client_into_buffer;

/* Part of a request's body; the bytes stay the caller's. */
struct client_piece {
    const void *data;
    size_t size;
};

/* Sends a request whose body is the pieces in order, and gives the reply's body to sink if its status
 * is 200.  Another status is an error. */
int client_stream(struct client *c, const char *path, const char *content_type,
                  const struct client_piece *body, int pieces, const char *accept,
                  client_sink *sink, void *user, struct error *err);

/* A value to use in place of a computed one. */
struct client_replace {
    const char *name;     /* path, alias, or "step_2/<path>" */
    struct tensor tensor; /* contiguous; borrowed for the call */
};

/* Asks for digests of values.  request: as /v1/trace takes it; "format": "digest" is added. */
json_t *client_digests(struct client *c, const json_t *request,
                       const struct client_replace *replace, int replace_count, struct error *err);

/* Asks for all logits as a safetensors stream (`logits`, `tokens`). */
int client_logits_stream(struct client *c, const json_t *request, client_sink *sink, void *user,
                         struct error *err);

/* Asks for a trace as a safetensors stream.  request: as /v1/trace takes it; borrowed. */
int client_trace(struct client *c, const json_t *request, const struct client_replace *replace,
                 int replace_count, client_sink *sink, void *user, struct error *err);
/* Asks for steps computed alone on another program's values, as a safetensors stream.  request: as
 * /v1/isolate takes it; borrowed. */
int client_isolate(struct client *c, const json_t *request, const struct client_replace *given,
                   int given_count, client_sink *sink, void *user, struct error *err);

#endif
