/* rotary.h - RoPE's frequencies and tables, as PyTorch computes them on the CPU. */
#ifndef SAMEBIT_ROTARY_H
#define SAMEBIT_ROTARY_H

#include <stdint.h>

#include "kernels/base/bf16.h"
#include "kernels/numerics.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_YARN, ROPE_LONGROPE, ROPE_LLAMA3 };

enum { ROPE_MOST_PAIRS = 256 }; /* D / 2 at most */

/* config.json's rope_theta and rope_scaling (rope_parameters). */
struct rope_config {
    enum rope_type type;
    double theta;
    double factor;                           /* linear, dynamic, yarn, longrope, llama3 */
    double low_freq_factor;                  /* llama3 */
    double high_freq_factor;                 /* llama3 */
    double original_max_position_embeddings; /* yarn, longrope, llama3 */
    double max_position_embeddings;          /* dynamic */
    double beta_fast, beta_slow;             /* yarn */
    int truncate;                            /* yarn */
    int factors;                             /* longrope: how many of each there are */
    float short_factor[ROPE_MOST_PAIRS];     /* longrope */
    float long_factor[ROPE_MOST_PAIRS];
    double attention_factor; /* what cos and sin are multiplied by; 1 where nothing is said */
};

/* inv_freq [dim/2] in f32 of a call whose positions all lie below `length`
 * (transformers/modeling_rope_utils.py: ROPE_INIT_FUNCTIONS, dynamic_rope_update). */
void rotary_inv_freq(const struct rope_config *rope, int64_t dim, int64_t length,
                     const struct numerics *numerics, float *inv_freq);

/* The greatest length up to which all calls have the same inv_freq; INT64_MAX: always. */
int64_t rotary_same_up_to(const struct rope_config *rope);

/* The inv_freq of a call: its attributes' own, or made in `room` [ROPE_MOST_PAIRS]. */
const float *rotary_of_call(const struct op_call *call, float *room);

/* torch.cos(x) * scale, torch.sin(x) * scale of an f32, rounded to bf16, for 0 <= x <= 2^17.  Equal
 * to PyTorch's for every x where rotary_is_listed(scale); else for all but one in ten million. */
bf16 rotary_cos(float x, float scale);
bf16 rotary_sin(float x, float scale);
int rotary_is_listed(float scale);

/* How many of cos and sin below a position PyTorch may round to the other
 * bf16: those so near the middle between two that the last bit of an f32 decides.  0: all have
 * PyTorch's bits.  first: the first such position, where there is one. */
int64_t rotary_unsure(const float *inv_freq, int64_t pairs, float scale, int64_t positions,
                      int64_t *first);

#ifdef __cplusplus
}
#endif

#endif
