/* rotary.h - RoPE's frequencies and tables, as PyTorch computes them on the CPU. */
#ifndef SAMEBIT_ROTARY_H
#define SAMEBIT_ROTARY_H

#include <stdint.h>

#include "kernels/base/bf16.h"
#include "kernels/numerics.h"

#ifdef __cplusplus
extern "C" {
#endif

enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3 };

/* config.json's rope_theta and rope_scaling (rope_parameters). */
struct rope_config {
    enum rope_type type;
    double theta;
    double factor;                           /* linear, llama3 */
    double low_freq_factor;                  /* llama3 */
    double high_freq_factor;                 /* llama3 */
    double original_max_position_embeddings; /* llama3 */
};

/* inv_freq [dim/2] in f32 (transformers/modeling_rope_utils.py: ROPE_INIT_FUNCTIONS). */
void rotary_inv_freq(const struct rope_config *rope, int64_t dim, const struct numerics *numerics,
                     float *inv_freq);

/* torch.cos(x), torch.sin(x) of an f32, rounded to bf16, for 0 <= x <= 2^17. */
bf16 rotary_cos(float x);
bf16 rotary_sin(float x);

#ifdef __cplusplus
}
#endif

#endif
