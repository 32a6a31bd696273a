/* file_kind.h - what a file is that is not what its name promises. */
#ifndef SAMEBIT_FILE_KIND_H
#define SAMEBIT_FILE_KIND_H

#include <stddef.h>

/* What the bytes that a file begins with are known for, and what to do then: "a git-lfs pointer, not
 * the file itself: run ...".  NULL where they are none of the kinds that lie in folders of models. */
const char *file_kind(const void *bytes, size_t size);

#endif
