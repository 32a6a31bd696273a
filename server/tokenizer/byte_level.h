/* byte_level.h - the 256 printable characters that stand for bytes in byte-level vocabularies. */
#ifndef SAMEBIT_BYTE_LEVEL_H
#define SAMEBIT_BYTE_LEVEL_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/buffer.h"

/* Returns the byte that a character stands for, or -1. */
int byte_level_byte(uint32_t point);

/* Appends the characters of `size` bytes, as UTF-8. */
void byte_level_encode(const char *bytes, size_t size, struct buffer *out);

/* Appends the bytes that the characters of a token (UTF-8) stand for.  If one of them stands for
 * none, appends the token as it is. */
void byte_level_decode(const char *token, size_t size, struct buffer *out);

#endif
