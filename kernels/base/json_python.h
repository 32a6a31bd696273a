/* json_python.h - what Python's json module reads and JSON's own rules do not allow. */
#ifndef SAMEBIT_JSON_PYTHON_H
#define SAMEBIT_JSON_PYTHON_H

#include "kernels/base/buffer.h"

/* Appends text (size bytes) to out with these replaced, so that a strict reader takes it:
 *   NaN, Infinity, -Infinity, and numbers too large for a double   a string of that name
 *   whole numbers that do not fit 64 bits                          a real number
 *   \u0000 and lone surrogates in strings and keys                 \ufffd
 * What is no JSON for Python either stays as it is, for the reader to refuse.  A new line stays on
 * its line.  out->failed when there was no memory. */
void json_python(const char *text, size_t size, struct buffer *out);

#endif
