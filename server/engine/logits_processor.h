/* logits_processor.h - what transformers' generate() does to the last row of logits before it takes a
 * token from it (generation/logits_process.py, utils.py: _get_logits_processor, _sample). */
#ifndef SAMEBIT_LOGITS_PROCESSOR_H
#define SAMEBIT_LOGITS_PROCESSOR_H

#include <stdint.h>

#include "kernels/base/bf16.h"
#include "kernels/base/error.h"
#include "kernels/numerics.h"
#include "server/model/generation_config.h"

struct logits_processor; /* of one text; used by one thread at a time */

/* config is borrowed.  prompt: tokens of the prompt; max_new_tokens: as generate() is told; seed: of
 * the draws where do_sample is set. */
struct logits_processor *logits_processor_create(const struct generation_config *config,
                                                 int64_t prompt, int64_t max_new_tokens,
                                                 uint64_t seed, const struct numerics *numerics,
                                                 struct error *err);
void logits_processor_free(struct logits_processor *p);

/* The next token of a text: ids are all `count` tokens up to now, logits a row of vocab_size.
 *
 * types:  logits to f32, then every processor in f32
 * order:  sequence_bias, repetition_penalty, no_repeat_ngram_size, bad_words_ids, min_length,
 *         min_new_tokens, forced_bos_token_id, forced_eos_token_id, remove_invalid_values,
 *         exponential_decay_length_penalty, suppress_tokens, begin_suppress_tokens; where do_sample:
 *         temperature, top_k, top_p, min_p
 * choice: torch.argmax; where do_sample, one draw from softmax(scores).  The scores that are drawn
 *         from have PyTorch's bits; the draw is our own (the same seed, text and configuration give
 *         the same tokens on every machine), since torch.multinomial's is bound to its generator.
 *         -1 where no token has a probability (all suppressed, or a NaN), as torch.multinomial fails.
 * not mirrored: which of equal scores top_p drops first, where only some of them go: torch.sort is
 *         not stable and its order there follows from the CPU's instructions; here the lower id
 *         goes first. */
int64_t logits_processor_choose(struct logits_processor *p, const int64_t *ids, int64_t count,
                                const bf16 *logits);

/* The scores of the last choice, [vocab_size]: what generate(output_scores=True) gives. */
const float *logits_processor_scores(const struct logits_processor *p);

#endif
