/* npy.h - numpy's file format: a header, and one array.
 *
 * Read here is the header of versions 1 to 3 (numpy/lib/format.py); what numpy writes of a dtype it
 * does not know itself, such as ml_dtypes' bfloat16, comes as raw bytes ("|V2"). */
#ifndef SAMEBIT_NPY_H
#define SAMEBIT_NPY_H

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"
#include "kernels/base/tensor.h"

enum { NPY_MAX_RANK = 8 };

struct npy {
    char kind;   /* numpy's: 'f', 'i', 'u', 'b', 'V', 'c', 'O', ...; '[': records */
    int size;    /* bytes of an element; 0 of objects and records, whose data are not looked at */
    int swapped; /* big-endian */
    int fortran; /* the first axis is the innermost */
    int rank;
    int64_t shape[NPY_MAX_RANK];
    const unsigned char *data; /* into the bytes given */
};

/* Returns whether the bytes begin as such a file does. */
int npy_is(const void *bytes, size_t size);
/* bytes: a whole file, borrowed; label stands for its name in errors (400). */
int npy_read(const char *label, const void *bytes, size_t size, struct npy *out, struct error *err);
/* Appends the header that precedes a contiguous tensor's data; BF16 is written as "|V2", which
 * `array.view(ml_dtypes.bfloat16)` reads back. */
void npy_header(struct buffer *out, const struct tensor *t);

#endif
