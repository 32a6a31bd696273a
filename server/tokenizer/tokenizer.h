/* tokenizer.h - tokenizer.json: byte-level BPE, encode and decode as the `tokenizers` package does.
 *
 * Immutable after tokenizer_open; any number of threads may encode and decode at once. */
#ifndef SAMEBIT_TOKENIZER_H
#define SAMEBIT_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

struct tokenizer; /* opaque */

/* Reads FOLDER/tokenizer.json and no other file.  Errors name the file and the key; a kind of
 * normalizer, pre-tokenizer, model, post-processor or decoder that is not supported is an error. */
struct tokenizer *tokenizer_open(const char *folder, struct error *err);
void tokenizer_close(struct tokenizer *t);

/* Returns the number of ids, added tokens included: one more than the largest id. */
int64_t tokenizer_vocab_size(const struct tokenizer *t);

/* Sets *ids to Tokenizer.encode(text, add_special_tokens=special).ids.  *ids is malloc'ed, the
 * caller frees it.  Errors: 400 for text that is not UTF-8 (the byte offset is named). */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int special,
                     int64_t **ids, size_t *count, struct error *err);

/* Appends Tokenizer.decode(ids, skip_special_tokens=skip_special): bytes that are not UTF-8 become
 * U+FFFD as Rust's from_utf8_lossy makes them.  Errors: 400 for an id out of range. */
int tokenizer_decode(const struct tokenizer *t, const int64_t *ids, size_t count, int skip_special,
                     struct buffer *out, struct error *err);

/* Returns the token as Tokenizer.id_to_token does (byte-level characters, as in the vocabulary);
 * NULL for an id that has none.  Borrowed. */
const char *tokenizer_token(const struct tokenizer *t, int64_t id);
/* Returns the id of a token as Tokenizer.token_to_id does, or -1. */
int64_t tokenizer_id(const struct tokenizer *t, const char *token);

/* Decodes token by token.  The bytes of a character that is not complete yet are held back: each
 * output is whole UTF-8 characters, and all outputs together are the decode of all ids. */
struct tokenizer_stream {
    unsigned char held[8];
    int held_size;
};
int tokenizer_stream_push(const struct tokenizer *t, struct tokenizer_stream *s, int64_t id,
                          int skip_special, struct buffer *out, struct error *err);
/* Appends what is still held back, as U+FFFD. */
void tokenizer_stream_finish(struct tokenizer_stream *s, struct buffer *out);

#endif
