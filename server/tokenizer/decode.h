/* decode.h - the decoders of tokenizer.json: raw tokens to text, as they come.
 *
 * A decoder maps a list of strings to another; a Sequence does so one after the other, and the last
 * list is joined.  Here every one of them works on what has come so far and holds back only what a
 * later token could still change, so a text that is streamed is the text that is decoded at once. */
#ifndef SAMEBIT_DECODE_H
#define SAMEBIT_DECODE_H

#include <jansson.h>
#include <stddef.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

struct decoder; /* opaque, immutable */

/* From the value of "decoder" (null: tokens with a space between them).  Knows ByteLevel,
 * ByteFallback, Fuse, Strip, Replace, Metaspace, WordPiece, BPEDecoder and Sequence; refuses others
 * by name. */
struct decoder *decoder_open(const json_t *json, struct error *err);
void decoder_close(struct decoder *d);

struct decoding; /* one text in the making; used by one thread */

struct decoding *decoding_open(const struct decoder *d, struct error *err);
void decoding_close(struct decoding *d);

/* Appends what is certain after one more token: whole UTF-8 characters.  The token is UTF-8. */
int decoding_push(struct decoding *d, const char *token, size_t size, struct buffer *out,
                  struct error *err);
/* Appends what was held back.  No token may follow. */
int decoding_finish(struct decoding *d, struct buffer *out, struct error *err);

#endif
