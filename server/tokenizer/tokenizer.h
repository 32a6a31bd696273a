/* tokenizer.h - a model's tokenizer: encode and decode as the `tokenizers` package does.
 *
 * Immutable after tokenizer_open; any number of threads may encode and decode at once. */
#ifndef SAMEBIT_TOKENIZER_H
#define SAMEBIT_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

struct tokenizer; /* opaque */

/* Whose ids: those of tokenizer.json, or those of AutoTokenizer.from_pretrained of transformers 5.18,
 * which differ for some classes (auto_class.h). */
enum tokenizer_ids { TOKENIZER_FILE, TOKENIZER_AUTO };

/* Returns "file" or "auto". */
const char *tokenizer_ids_name(enum tokenizer_ids ids);

/* Reads a model folder: tokenizer.json, else vocab.json and merges.txt, with the added tokens that
 * stand only in tokenizer_config.json.  Errors (400) name the file and the key, also for a kind of
 * normalizer, pre-tokenizer, model, post-processor or decoder that is not supported, and say what
 * is missing and how to make it. */
struct tokenizer *tokenizer_open(const char *folder, enum tokenizer_ids ids, struct error *err);
void tokenizer_close(struct tokenizer *t);

/* Returns what a user should know about the ids (one sentence each, i from 0 on), or NULL. */
const char *tokenizer_notice(const struct tokenizer *t, int i);

/* Returns the number of ids, added tokens included: one more than the largest id. */
int64_t tokenizer_vocab_size(const struct tokenizer *t);

/* Sets *ids to Tokenizer.encode(text, add_special_tokens=special).ids.  *ids is malloc'ed, the
 * caller frees it.  Errors: 400 for text that is not UTF-8 (the byte offset is named). */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int special,
                     int64_t **ids, size_t *count, struct error *err);

/* Appends Tokenizer.decode(ids, skip_special_tokens=skip_special): bytes that are not UTF-8 become
 * U+FFFD as Rust's from_utf8_lossy makes them, and an id without a token nothing.  Errors: 400 for
 * a negative id. */
int tokenizer_decode(const struct tokenizer *t, const int64_t *ids, size_t count, int skip_special,
                     struct buffer *out, struct error *err);

/* Returns the token as Tokenizer.id_to_token does (byte-level characters, as in the vocabulary);
 * NULL for an id that has none.  Borrowed. */
const char *tokenizer_token(const struct tokenizer *t, int64_t id);
/* Returns the id of a token as Tokenizer.token_to_id does, or -1. */
int64_t tokenizer_id(const struct tokenizer *t, const char *token);

/* Decodes token by token.  What a later token could still change is held back, a character that is
 * not complete for one: each output is whole UTF-8 characters, and all outputs together are the
 * decode of all ids.  Initialize with zeros. */
struct tokenizer_stream {
    struct decoding *decoding;
};
int tokenizer_stream_push(const struct tokenizer *t, struct tokenizer_stream *s, int64_t id,
                          int skip_special, struct buffer *out, struct error *err);
/* Appends what is still held back.  A next push begins a new text. */
int tokenizer_stream_finish(struct tokenizer_stream *s, struct buffer *out, struct error *err);
/* Frees a stream that may not have been finished. */
void tokenizer_stream_close(struct tokenizer_stream *s);

#endif
