/* aligned.h - text that is rewritten, and how much of its beginning stems from the very beginning.
 *
 * Metaspace's prepend_scheme "first" asks whether a piece begins where the text began.  The
 * `tokenizers` package answers from the place that every byte came from; of all these only "the
 * first character of the text, or not" matters here: `zero` leading bytes do. */
#ifndef SAMEBIT_ALIGNED_H
#define SAMEBIT_ALIGNED_H

#include <stddef.h>

#include "kernels/base/buffer.h"

struct aligned {
    struct buffer *out;
    size_t from;     /* where in `out` this text begins */
    size_t zero;     /* leading bytes of the text read that stem from the very beginning */
    size_t zero_out; /* the same of the text written */
};

/* Writing begins at the end of `out`. */
struct aligned aligned_begin(struct buffer *out, size_t zero);
/* Appends bytes that stand for the byte `at` of the text read. */
void aligned_put(struct aligned *a, const char *bytes, size_t size, size_t at);
/* Appends the bytes [at, at + size) of the text read. */
void aligned_copy(struct aligned *a, const char *text, size_t at, size_t size);

#endif
