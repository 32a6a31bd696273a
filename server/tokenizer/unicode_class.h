/* unicode_class.h - questions about code points, answered as the `tokenizers` package answers them.
 */
#ifndef SAMEBIT_UNICODE_CLASS_H
#define SAMEBIT_UNICODE_CLASS_H

#include <stddef.h>
#include <stdint.h>

/* Returns the code point that PCRE2 must see instead of this one, to find the category that the
 * package's matcher finds.  It has the same UTF-8 size; nearly all code points stand for themselves.
 */
uint32_t unicode_stand_in(uint32_t point);

/* Returns whether a code point of this range has such a stand-in or is one. */
int unicode_has_stand_in(uint32_t first, uint32_t last);

int unicode_is_space(uint32_t point);       /* White_Space */
int unicode_is_numeric(uint32_t point);     /* Nd, Nl or No */
int unicode_is_word(uint32_t point);        /* a letter, mark, digit or connector */
int unicode_is_punctuation(uint32_t point); /* of any kind, and ASCII's symbols */
int unicode_is_mark(uint32_t point);        /* a combining mark, as StripAccents has it */

/* Size of the extended grapheme cluster that text begins with; size is at least 1. */
size_t unicode_cluster(const char *text, size_t size);

/* Returns whether the package's normalization leaves this code point as it is and where it is, even
 * if utf8proc's would not. */
int unicode_is_plain(uint32_t point);

/* Sets out to the lower case of a code point; returns how many code points that is, 1 or 2. */
int unicode_lower_of(uint32_t point, uint32_t out[2]);

#endif
