/* names.h - what people call the values of a model, and what they are called here. */
#ifndef SAMEBIT_NAMES_H
#define SAMEBIT_NAMES_H

#include <stddef.h>

enum { NAMES_SIZE = 192 };

/* The path that a name of another program most likely means: "blocks.3.attn.hook_q" and "Qcur-3"
 * are "model.layers.3.self_attn.q_proj"; "hidden_states.N" is what output_hidden_states gives, of a
 * model of `layers` layers (0: not known).  A "step_1/" before it stays.  Returns how many values
 * it holds (2 or 3 where matrices are fused: out is the first, as "..q_proj+k_proj+v_proj"), or 0
 * when the name is none that is known. */
int names_guess(const char *name, int layers, char *out, size_t size);

#endif
