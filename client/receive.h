/* receive.h - receives a safetensors stream, and leaves a whole file or none.
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

/* path: NULL for an unnamed file.  progress (may be NULL) is called for every piece, with the name of
 * the value that is coming ("" during the header). */
struct receive *receive_open(const char *path,
                             void (*progress)(void *user, const char *name, uint64_t done,
                                              uint64_t all),
                             void *user, struct error *err);

/* A client_sink: user is the struct receive. */
int receive_write(void *user, const void *bytes, size_t size, struct error *err);

/* Checks that everything has come, and gives the file its name.  If it fails, or is not called, no
 * file is left. */
int receive_finish(struct receive *r, struct error *err);

/* Returns the file, checked and mapped, after receive_finish.  The caller closes it.  Not for "-". */
struct safetensors *receive_file(struct receive *r, const char *label, struct error *err);

uint64_t receive_bytes(const struct receive *r);
void receive_close(struct receive *r);

#endif
