/* error.h - the one error type.
 *
 * A function that can fail takes a caller-owned `struct error *` as its last argument and returns
 * -1 or NULL.  The first error set is the one kept; callers add where it happened with
 * error_prefix().  `code` is the HTTP status to answer with, so that routes need no mapping:
 * 400 the caller's mistake, 413 a limit, 499 the reader left, 500 ours, 503 not now, 504 too slow.
 */
#ifndef SAMEBIT_ERROR_H
#define SAMEBIT_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

struct error {
    int code;       /* 0: no error */
    char param[96]; /* the request field, file key or value at fault; "" when there is none */
    char text[512]; /* one line of UTF-8 (other bytes become ?), names the place */
};

/* Sets code and text unless an error is already set.  Returns -1, so `return error_set(...)` works.
 * err may be NULL. */
int error_set(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As error_set, and names the field at fault. */
int error_param(struct error *err, int code, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts text before the message: error_prefix(err, "%s: ", path).  Returns -1. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif

#endif
