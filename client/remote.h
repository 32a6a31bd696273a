/* remote.h - a daemon as one side of a comparison. */
#ifndef SAMEBIT_REMOTE_H
#define SAMEBIT_REMOTE_H

#include "client/client.h"
#include "client/compare.h"

/* 1 when text is the address of a daemon and not a path. */
int remote_is_url(const char *text);

/* The request that gives what a file holds: its attention, its steps and the values that the daemon
 * knows; and its prompt's ids with positions, padding, batch and chunks.  asked: what is to be
 * asked in place of these, borrowed; with a prompt of its own nothing of the file's prompt is
 * taken.  The caller decrefs. */
json_t *remote_request_like(struct client *c, const struct side *file, const json_t *asked,
                            struct error *err);

/* 0 where the file says which ids it was made of, else -1 and a 400. */
int remote_has_ids(const struct side *file, struct error *err);

/* The digests of everything in request. */
struct side *remote_digests(struct client *c, const json_t *request, struct error *err);

/* Everything in request, in an unnamed file. */
struct side *remote_fetch(struct client *c, const json_t *request, struct error *err);

/* Fetches the numbers that the open rows lack on side s (A where is_a).  request: as digested. */
int remote_complete(struct client *c, struct side *s, const struct compare *rows, int is_a,
                    const json_t *request, struct error *err);

#endif
