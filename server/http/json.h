/* json.h - typed readers of a request's JSON, and a writer of JSON text.
 *
 * Readers fill struct error (400) with the field at fault. */
#ifndef SAMEBIT_JSON_H
#define SAMEBIT_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

/* The object in text.  label: what is at fault when it is none ("body").  The caller decrefs. */
json_t *json_object_read(const char *label, const char *text, size_t size, struct error *err);

/* -1 when object has a field that known (ends with NULL) does not list. */
int json_only(const json_t *object, const char *const known[], struct error *err);

/* Each leaves *out as it is when the field is missing or null. */
int json_read_int(const json_t *object, const char *key, int64_t least, int64_t most, int64_t *out,
                  struct error *err);
int json_read_bool(const json_t *object, const char *key, int *out, struct error *err);
/* A word or name: not empty, no NUL in it.  Borrowed from object. */
int json_read_name(const json_t *object, const char *key, const char **out, struct error *err);

/* A list of whole numbers, as a malloc'ed array (the caller's; NULL for none).  Elements at fault
 * are named "tokens[3]". */
int json_read_ints(const json_t *list, const char *key, int64_t least, int64_t most, int64_t **out,
                   int64_t *count, struct error *err);
/* A list of names, as a malloc'ed array of borrowed strings. */
int json_read_names(const json_t *list, const char *key, const char ***out, int64_t *count,
                    struct error *err);

/* "an object", "a list", "a string", ...: what a value is, for errors. */
const char *json_kind(const json_t *value);

/* Appends a JSON string with its quotes.  What is no UTF-8 becomes U+FFFD. */
void json_put_text(struct buffer *out, const char *text, size_t size);
void json_put_name(struct buffer *out, const char *text); /* NUL-terminated */
/* Appends "[1,2]". */
void json_put_ints(struct buffer *out, const int64_t *ints, int64_t count);

#endif
