/* auto_class.h - whose ids AutoTokenizer gives: the tokenizer classes of transformers 5.18.
 *
 * AutoTokenizer.from_pretrained does not always give the ids of tokenizer.json: several classes take
 * only its vocabulary, merges and post-processor and bring their own normalizer, pre-tokenizer and
 * decoder.  Which class it is, tokenizer_config.json and config.json say together.  Mirrors
 * transformers/models/auto/tokenization_auto.py, tokenization_utils_tokenizers.py and
 * models/X/tokenization_X.py. */
#ifndef SAMEBIT_AUTO_CLASS_H
#define SAMEBIT_AUTO_CLASS_H

#include <jansson.h>
#include <stddef.h>

struct auto_class_files { /* each may be NULL */
    const json_t *config, *tokenizer_config, *special_tokens_map;
};

/* Returns the document (tokenizer.json's layout) that AutoTokenizer builds.  root: tokenizer.json, and
 * file: the same with the added tokens of tokenizer_config.json, which is returned with one more
 * reference when AutoTokenizer takes it as it is; or root is a document with only a model, and file
 * NULL.  NULL: that is not known here, and why says the reason. */
json_t *auto_class_build(const struct auto_class_files *files, json_t *root, json_t *file,
                         char *why, size_t why_size);

/* Returns whether a list like "added_tokens" has a token of this content. */
int auto_class_knows(const json_t *tokens, const char *content);

/* Returns tokenizer_config.json's "added_tokens_decoder" as a list like "added_tokens", in the order
 * of ids; empty when it has none.  The caller owns it. */
json_t *auto_class_decoder(const json_t *tokenizer_config);

#endif
