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

/* Reads FOLDER/tokenizer.json, which says it all.  Errors name the file and the key, also
 * for a kind of normalizer, pre-tokenizer, model, post-processor or decoder that is not supported.
 */
struct tokenizer *tokenizer_open(const char *folder, struct error *err);
void tokenizer_close(struct tokenizer *t);

/* Number of ids, added tokens included: one past the largest id. */
int64_t tokenizer_vocab_size(const struct tokenizer *t);

/* Ids of a text, as Tokenizer.encode(text, add_special_tokens=special).ids.  *ids is malloc'ed, the
 * caller frees it.  Errors: 400 text that is not UTF-8 (the byte offset is named). */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int special,
                     int64_t **ids, size_t *count, struct error *err);

/* Text of ids, as Tokenizer.decode(ids, skip_special_tokens=skip_special): bytes that are no UTF-8
 * become U+FFFD as Rust's from_utf8_lossy makes them.  Errors: 400 an id out of range. */
int tokenizer_decode(const struct tokenizer *t, const int64_t *ids, size_t count, int skip_special,
                     struct buffer *out, struct error *err);

/* The raw token, as Tokenizer.id_to_token (byte-level characters as in the vocabulary); NULL for an
 * id that has none.  Borrowed. */
const char *tokenizer_token(const struct tokenizer *t, int64_t id);
/* The id of a raw token as Tokenizer.token_to_id, or -1. */
int64_t tokenizer_id(const struct tokenizer *t, const char *token);

/* Decoding token by token.  Bytes of a character that is not complete yet are held back: what is
 * given out is always whole UTF-8 characters, and all of it together is the decode of all ids. */
struct tokenizer_stream {
    unsigned char held[8];
    int held_size;
};
int tokenizer_stream_push(const struct tokenizer *t, struct tokenizer_stream *s, int64_t id,
                          int skip_special, struct buffer *out, struct error *err);
/* What is still held back, as U+FFFD. */
void tokenizer_stream_finish(struct tokenizer_stream *s, struct buffer *out);

#endif
