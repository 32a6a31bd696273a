/* generation_config.h - what changes the choice of the next token: generation_config.json (or
 * config.json: hf_config_generation), and the fields of the same names in a request, as GenerationConfig of transformers 5.18 has them
 * (generation/configuration_utils.py). */
#ifndef SAMEBIT_GENERATION_CONFIG_H
#define SAMEBIT_GENERATION_CONFIG_H

#include <jansson.h>
#include <stdint.h>

#include "kernels/base/error.h"

struct token_ids {
    int64_t *at;
    int64_t count;
};

/* A row of tokens whose last one gets `bias` where the others come before it. */
struct token_bias {
    struct token_ids ids;
    float bias;
};

struct token_biases {
    struct token_bias *at;
    int64_t count;
};

struct generation_config {
    int64_t vocab_size; /* of the model: every token id is below it */
    struct token_ids eos_token_id;

    struct token_biases sequence_bias;
    double repetition_penalty;     /* 1: none */
    int64_t no_repeat_ngram_size;  /* 0: none */
    struct token_biases bad_words; /* bias -infinity */
    int64_t min_length;            /* of prompt and new tokens; 0: none */
    int64_t min_new_tokens;        /* -1: not given; else it counts instead of min_length */
    int64_t forced_bos_token_id;   /* -1: none */
    struct token_ids forced_eos_token_id;
    int remove_invalid_values;
    int64_t decay_start; /* exponential_decay_length_penalty; -1: none */
    double decay_factor;
    struct token_ids suppress_tokens, begin_suppress_tokens;

    int do_sample;      /* a request's alone: generation_config.json's is not followed */
    double temperature; /* 1: none */
    int64_t top_k;      /* 0: none */
    double top_p;       /* 1: none */
    double min_p;       /* -1: none */
};

/* The keys that the functions below look at, for lists of what an object may hold. */
#define GENERATION_KEYS                                                                            \
    "repetition_penalty", "no_repeat_ngram_size", "min_length", "min_new_tokens",                  \
        "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",                     \
        "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",            \
        "bad_words_ids", "sequence_bias", "do_sample", "temperature", "top_k", "top_p", "min_p",   \
        "num_beams", "num_beam_groups", "num_return_sequences", "penalty_alpha", "guidance_scale", \
        "dola_layers", "prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp",              \
        "constraints", "force_words_ids", "watermarking_config", "stop_strings", "max_time",       \
        "renormalize_logits", "token_healing", "use_cache", "typical_p", "epsilon_cutoff",         \
        "eta_cutoff", "top_h", "encoder_repetition_penalty", "encoder_no_repeat_ngram_size",       \
        "prefill_chunk_size", "cache_implementation"

/* The defaults: the greedy choice, top_k 50 where there is sampling. */
void generation_config_init(struct generation_config *g, int64_t vocab_size);
void generation_config_clear(struct generation_config *g);

/* Reads the keys of an object over what is there; null takes a key back to its default.  where: the
 * file's name; NULL for a request, whose keys are then the param of errors.  Other keys
 * are passed over, and without `sampling` those that matter there alone.  (eos_token_id is the caller's to set.) */
int generation_config_read(struct generation_config *g, const json_t *object, const char *where,
                           int sampling, struct error *err);

/* A 400 that names the first key of either object that would change transformers' choice and is not
 * mirrored here (num_beams 4).  The request's keys go before the file's; sampling: keys that matter
 * there alone count too.  file may be NULL; where: its name. */
int generation_config_check(const json_t *file, const char *where, const json_t *request,
                            int sampling, struct error *err);

/* The keys that generation_config_read takes, one after the other; NULL after the last.  sampling: also
 * those that matter there alone. */
const char *generation_config_key(int i, int sampling);

/* Whether the next token is anything else than the greatest logit. */
int generation_config_is_plain(const struct generation_config *g);

#endif
