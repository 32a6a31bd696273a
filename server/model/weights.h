/* weights.h - a checkpoint's tensors by name: model.safetensors, or the shards that
 * model.safetensors.index.json lists. */
#ifndef SAMEBIT_WEIGHTS_H
#define SAMEBIT_WEIGHTS_H

#include "kernels/base/tensor.h"
#include "kernels/base/error.h"

struct weights; /* opaque; any number of threads may use it: what changes inside it is locked */

/* bf16 tensors stay mapped; f16, f32 and f64 ones are converted to bf16 when they are used, as
 * from_pretrained(dtype=bfloat16) does.  Errors name the file and the tensor. */
struct weights *weights_open(const char *folder, struct error *err);
void weights_close(struct weights *w);

/* Returns a tensor as contiguous bf16.  NULL with an error: its dtype cannot be converted, or there
 * is no memory.  NULL without an error: the checkpoint has no such tensor.  As in transformers, a
 * name "model.X" that is not there is also looked for as "X", and any "X" as "model.X". */
const struct tensor *weights_find(struct weights *w, const char *name, struct error *err);

/* 0 as long as no file has been written to since weights_open, else -1 with 503, from then on: tensors
 * that are mapped would have other bits than the digest says.  check looks, state says what was seen. */
int weights_check(struct weights *w, struct error *err);
int weights_state(const struct weights *w, struct error *err);

/* How many tensors weights_find was never asked for, and the first one's name (borrowed).  While no
 * other thread uses w. */
int weights_unused(const struct weights *w, const char **first);
int weights_count(const struct weights *w);
/* Returns the bytes of all tensors as they are stored. */
uint64_t weights_bytes(const struct weights *w);
/* Gives back the memory of bytes of a tensor that are not needed again soon.  They can still be
 * read, from the file. */
void weights_passed(const struct weights *w, const void *data, size_t bytes);
/* Gives back the memory of a tensor that is not needed again, and its converted copy.  Its data may
 * be read again only after another weights_find. */
void weights_release(struct weights *w, const struct tensor *t);

/* SHA-256 of the checkpoint's content, independent of how it is cut into files: over the tensors in
 * name order (bytewise), for each `name NUL dtype NUL shape NUL` (shape as "2,3") and its bytes as
 * stored.  64 hex digits into out.  progress (may be NULL) is told bytes done of all. */
int weights_digest(const struct weights *w, char out[65],
                   void (*progress)(void *user, uint64_t done, uint64_t all), void *user,
                   struct error *err);

#endif
