/* unicode_class.h - questions about code points, answered as the `tokenizers` package answers them.
 */
#ifndef SAMEBIT_UNICODE_CLASS_H
#define SAMEBIT_UNICODE_CLASS_H

#include <stdint.h>

/* The code point to show to the pattern matcher instead of this one: of equal UTF-8 size and of the
 * category that the package's matcher sees.  Itself for nearly all. */
uint32_t unicode_stand_in(uint32_t point);

/* Whether a code point of this range has a stand-in or is one. */
int unicode_has_stand_in(uint32_t first, uint32_t last);

int unicode_is_space(uint32_t point);   /* White_Space */
int unicode_is_numeric(uint32_t point); /* Nd, Nl or No */
int unicode_is_word(uint32_t point);    /* a letter, mark, digit or connector */

/* True for code points that normalization neither changes nor moves, whatever utf8proc knows. */
int unicode_is_plain(uint32_t point);

/* Lower case: 1 or 2 code points in out, their number is returned. */
int unicode_lower_of(uint32_t point, uint32_t out[2]);

#endif
