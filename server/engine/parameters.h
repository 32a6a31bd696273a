/* parameters.h - a checkpoint's tensors in the backend's own form, each opened once, however many
 * programs read it. */
#ifndef SAMEBIT_PARAMETERS_H
#define SAMEBIT_PARAMETERS_H

#include "kernels/backend.h"
#include "server/model/weights.h"

/* Told how far opening has come: a word for what is being done, and bytes. */
typedef void progress_fn(void *user, const char *what, uint64_t done, uint64_t all);

struct parameters; /* opaque; one thread opens, none changes them once the programs are open */

/* weights and backend are borrowed.  progress may be NULL. */
struct parameters *parameters_create(struct weights *weights, struct backend *backend,
                                     progress_fn *progress, void *user, struct error *err);
void parameters_free(struct parameters *p);

/* The tensor for use by op.  NULL with an error that names it, or, when the checkpoint has no such
 * tensor, NULL without one. */
const struct weight *parameters_open(struct parameters *p, const char *name, enum op op,
                                     struct error *err);

#endif
