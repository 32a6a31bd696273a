/* token_text.h - one token, for people to read. */
#ifndef SAMEBIT_TOKEN_TEXT_H
#define SAMEBIT_TOKEN_TEXT_H

#include "kernels/base/buffer.h"
#include "server/tokenizer/tokenizer.h"

/* Appends `"token":"text"`, and `,"bytes":[...]` where the token's bytes alone are no whole
 * UTF-8 characters, so that text would lose them. */
void token_put(struct buffer *out, const struct tokenizer *t, int64_t id);

#endif
