/* number.h - numbers as JSON text that parses back to the same bits, and the other way. */
#ifndef SAMEBIT_NUMBER_H
#define SAMEBIT_NUMBER_H

#include <stdint.h>

#include "kernels/base/bf16.h"

enum {
    NUMBER_TEXT = 24, /* room for any number and a NUL */
    NUMBER_ROOM = 16  /* for each of number_bf16_list */
};

/* Writes the fewest digits that strtod, then rounding to float, brings back.  Always with a point
 * or an exponent; -0.0, "NaN", "Infinity", "-Infinity" (these three with their quotes). Returns the
 * length; there is no NUL. */
int number_f32(float f, char out[NUMBER_TEXT]);

/* The same for a bf16, looked up in a table of all 65536 (built by the first call; any number of
 * threads may call).  *size: its length.  Not NUL-terminated; lives as long as the process. */
const char *number_bf16(bf16 b, int *size);
/* Writes count of them, each with a comma behind it, into count * NUMBER_ROOM bytes, all of which
 * it may write to.  Returns the end of what counts. */
char *number_bf16_list(const bf16 *x, int64_t count, char *out);

/* Rounds once, nearest even, straight from the wider number.  NaN becomes 0x7fc0. */
bf16 number_to_bf16(long double x);

#endif
