/* negotiate.h - what kind of body a request brings and what kinds of reply it takes. */
#ifndef SAMEBIT_NEGOTIATE_H
#define SAMEBIT_NEGOTIATE_H

#include "kernels/base/error.h"

#define TYPE_JSON "application/json"
#define TYPE_BINARY "application/octet-stream"
#define TYPE_NDJSON "application/x-ndjson"

/* How much an Accept header ("" = none: anything) wants a media type: 0 (not at all) to 1000. */
int accept_quality(const char *accept, const char *type);

/* The one of types (ends with NULL) that is wanted most, the earlier one among equals; NULL when
 * none is. */
const char *accept_best(const char *accept, const char *const types[]);

/* 400 for an Accept header that is no list of media types. */
int accept_check(const char *accept, struct error *err);

/* Whether a Content-Type header names JSON, parameters aside; "" names nothing.  What `curl -d`
 * says when it is told nothing, application/x-www-form-urlencoded, counts as JSON too. */
int content_is_json(const char *content_type);

/* The media types of a binary reply, ends with NULL; the same data under each. */
extern const char *const types_binary[];
int content_is_binary(const char *content_type);

#endif
