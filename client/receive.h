/* receive.h - takes a safetensors stream as it comes, and leaves a whole file or none.
 *
 * Its bytes go to a temporary file beside the one asked for, renamed when the last byte is there;
 * to standard output ("-"); or to an unnamed file that is mapped.  The header is read on the way:
 * it says how many bytes will come and which value is coming. */
#ifndef SAMEBIT_RECEIVE_H
#define SAMEBIT_RECEIVE_H

#include <stdint.h>

#include "kernels/base/error.h"
#include "kernels/base/safetensors.h"

struct receive;

/* path: NULL for an unnamed file.  progress (may be NULL) is told of every piece; name "" while the
 * header comes. */
struct receive *receive_open(const char *path,
                             void (*progress)(void *user, const char *name, uint64_t done,
                                              uint64_t all),
                             void *user, struct error *err);

/* A client_sink: user is the struct receive. */
int receive_write(void *user, const void *bytes, size_t size, struct error *err);

/* Checks that everything came, and gives the file its name.  Else, and without this call, nothing
 * is left. */
int receive_finish(struct receive *r, struct error *err);

/* The file, checked and mapped; after receive_finish.  The caller's to close.  Not for "-". */
struct safetensors *receive_file(struct receive *r, const char *label, struct error *err);

uint64_t receive_bytes(const struct receive *r);
void receive_close(struct receive *r);

#endif
