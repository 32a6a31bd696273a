/* sampler.h - logits to tokens and probabilities, as PyTorch computes them. */
#ifndef SAMEBIT_SAMPLER_H
#define SAMEBIT_SAMPLER_H

#include <stdint.h>

#include "kernels/base/bf16.h"
#include "kernels/numerics.h"

/* torch.argmax: the lowest index among equal maxima; the first NaN wins. */
int64_t sampler_argmax(const bf16 *logits, int64_t count);
/* The same of binary64 ("ideal"), which is nobody's choice. */
int64_t sampler_argmax_f64(const double *logits, int64_t count);

/* torch.log_softmax(logits.float(), dim=-1) with numerics->lanes, on the host.
 * out: [count]. */
void sampler_log_softmax(const bf16 *logits, int64_t count, const struct numerics *numerics,
                         float *out);

/* The k largest, largest first, lower index first among equals.  k <= count. */
void sampler_top_k(const bf16 *logits, int64_t count, int64_t k, int64_t *index);

#endif
