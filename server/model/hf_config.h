/* hf_config.h - config.json and generation_config.json of a Hugging Face folder.
 *
 * Keys are read as transformers 5.18 reads them: as Python's json takes the file, with the defaults
 * of the config class, and with its derived values (head_dim, num_key_value_heads, layer_types).
 * model_type names the config class; architectures is looked at only where model_type is missing or
 * not one of those that we know. */
#ifndef SAMEBIT_HF_CONFIG_H
#define SAMEBIT_HF_CONFIG_H

#include <jansson.h>
#include <stdint.h>

#include "kernels/rotary.h"
#include "kernels/base/error.h"

struct hf_config; /* opaque; immutable after hf_config_open */

/* Errors name the file and the key. */
struct hf_config *hf_config_open(const char *folder, struct error *err);
void hf_config_close(struct hf_config *c);

const char *hf_config_folder(const struct hf_config *c);
/* What AutoModelForCausalLM makes of model_type: "Qwen2ForCausalLM" of "qwen2", whatever
 * architectures says; architectures[0] where we do not know the model_type. */
const char *hf_config_architecture(const struct hf_config *c);

/* Reads a number.  true and false count as 1 and 0, null as 0 for `sliding_window`.  Errors: the
 * key is missing, or not a number. */
int hf_config_number(const struct hf_config *c, const char *key, double *out, struct error *err);
/* The same of layer n (-1: outside the layers): a list has a number for every layer. */
int hf_config_number_of(const struct hf_config *c, const char *key, int64_t layer, double *out,
                        struct error *err);
/* Reads a positive whole number, such as num_hidden_layers. */
int hf_config_count(const struct hf_config *c, const char *key, int64_t *out, struct error *err);
int hf_config_bool(const struct hf_config *c, const char *key, int otherwise);
/* "full_attention" | "sliding_attention" of a layer (config's layer_types, or derived as the
 * architecture's config class derives it). */
const char *hf_config_layer_type(const struct hf_config *c, int64_t layer);
/* rope_theta with rope_scaling (transformers 4) or rope_parameters (transformers 5).  Errors: a
 * rope type that is not supported; parameters by layer type. */
int hf_config_rope(const struct hf_config *c, struct rope_config *out, struct error *err);
/* The same of a config class that has them by layer type; ROTARY_ALL: of any other. */
int hf_config_rope_of(const struct hf_config *c, enum rotary_layers layers, struct rope_config *out,
                      struct error *err);
/* Elements of a head that rope turns: head_dim times partial_rotary_factor. */
int hf_config_rope_width(const struct hf_config *c, int64_t *out, struct error *err);
/* Token ids that end a text: eos_token_id of hf_config_generation; negative ones mean none.  Returns
 * how many were written, at most `most`. */
int hf_config_eos(const struct hf_config *c, int64_t *ids, int most);
/* What generate() of transformers goes by: generation_config.json, whatever config.json says; only
 * where there is no such file, the keys of the same names in config.json.  Borrowed. */
const json_t *hf_config_generation(const struct hf_config *c);
/* The name of that file. */
const char *hf_config_generation_file(const struct hf_config *c);
/* What config.json says and transformers does not follow, one sentence each; NULL behind the last. */
const char *hf_config_notice(const struct hf_config *c, int i);
/* config.json as compact JSON text; borrowed.  What JSON cannot say stands in it as json_python.h
 * replaces it. */
const char *hf_config_text(const struct hf_config *c);

#endif
