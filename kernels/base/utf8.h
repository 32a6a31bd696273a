/* utf8.h - UTF-8 as the Unicode standard has it: checking, and decoding that repairs.
 *
 * Sizes are explicit everywhere; NUL is a character like others. */
#ifndef SAMEBIT_UTF8_H
#define SAMEBIT_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/buffer.h"

/* Reads one character.  Returns its size, 1 to 4, and sets *point; or returns 0 when the bytes do not
 * begin with a whole character.  *bad is then how many bytes to skip (the "maximal subpart", at
 * least 1) and *open whether more bytes could still complete it.  size must be at least 1; bad and
 * open may be NULL. */
int utf8_next(const char *text, size_t size, uint32_t *point, int *bad, int *open);

/* Reads one character of text that is known to be UTF-8; returns its size. */
int utf8_get(const char *text, uint32_t *point);

/* Writes the 1 to 4 bytes of a code point and returns how many. */
int utf8_put(uint32_t point, char out[4]);

/* Returns 0 when all of it is UTF-8; else -1, and *offset is the first byte at fault. */
int utf8_check(const char *text, size_t size, size_t *offset);

/* Appends text with U+FFFD for every maximal subpart of what is not UTF-8, as Rust's
 * String::from_utf8_lossy.  With `more`, bytes at the end that could still become a character are
 * left alone; their number (0 to 3) is returned. */
int utf8_lossy(const char *text, size_t size, int more, struct buffer *out);

#endif
