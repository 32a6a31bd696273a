/* dump.h - a file of values as people write them, opened as a safetensors file.
 *
 * Taken are safetensors, .npz, .npy, and a folder of .npy (its files' paths are the names).  What
 * the rest of the client does not compute with is rewritten, by value, into an unnamed file:
 *
 *   integers             I64
 *   U16, V2 (raw bytes)  BF16, whose bits they are; but token ids are ids in any integer dtype
 *   Fortran order, big-endian    row-major, little-endian
 *   more than four axes  axes of one are left out
 *
 * The token ids get the name `tokens`, without a batch axis of one; under several names they must be
 * the same.  What is none of this (complex
 * numbers, strings, objects) is named in the metadata's `left_out`. */
#ifndef SAMEBIT_DUMP_H
#define SAMEBIT_DUMP_H

#include "kernels/base/safetensors.h"

/* Errors (400) name the file, and the array in it.  safetensors_close() ends it. */
struct safetensors *dump_open(const char *path, struct error *err);

/* Row `row` of a dump whose tokens are [rows, T]: every value's part of it; those without that
 * leading axis are left out. */
struct safetensors *dump_row(const struct safetensors *dump, int64_t row, struct error *err);
/* Rows of its batch, 1 where tokens have one axis or there are none. */
int64_t dump_rows(const struct safetensors *dump);

/* Writes a file as .npz (stored, not compressed), whole or not at all.  Its metadata is the member
 * `__metadata__.json`, which dump_open reads back. */
int dump_write_npz(const struct safetensors *file, const char *path, struct error *err);

#endif
