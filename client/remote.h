/* remote.h - a daemon as one side of a comparison. */
#ifndef SAMEBIT_REMOTE_H
#define SAMEBIT_REMOTE_H

#include "client/client.h"
#include "client/compare.h"

/* Returns whether text is the address of a daemon, not a path. */
int remote_is_url(const char *text);

/* Returns the request for the same run that a file comes from: its attention, its steps, the values
 * that the daemon knows; its prompt's ids with positions, padding, batch and chunks.  The members of
 * `asked` (borrowed) take precedence; if it has a prompt, nothing of the file's prompt is used.  The
 * caller decrefs. */
json_t *remote_request_like(struct client *c, const struct side *file, const json_t *asked,
                            struct error *err);

/* Returns 0 if the file says which ids it was computed from, else -1 with a 400. */
int remote_has_ids(const struct side *file, struct error *err);

/* Asks for the digests of everything in request. */
struct side *remote_digests(struct client *c, const json_t *request, struct error *err);

/* Fetches everything in request into an unnamed file. */
struct side *remote_fetch(struct client *c, const json_t *request, struct error *err);

/* Fetches the numbers that the open rows lack on side s (A if is_a).  request: the one that was asked
 * for digests. */
int remote_complete(struct client *c, struct side *s, const struct compare *rows, int is_a,
                    const json_t *request, struct error *err);

#endif
