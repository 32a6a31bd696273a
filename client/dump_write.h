/* dump_write.h - values on their way into an unnamed safetensors file. */
#ifndef SAMEBIT_DUMP_WRITE_H
#define SAMEBIT_DUMP_WRITE_H

#include "kernels/base/safetensors.h"

/* Writes count elements, row-major, of array `i` to `to`.  Not 0: failed, err says why. */
typedef int dump_fill(void *user, int i, void *to, struct error *err);

/* A file of the arrays that specs describe, each filled in turn: memory holds one array. */
struct safetensors *dump_write(const char *label, const struct safetensors_spec *specs, int count,
                               const json_t *metadata, dump_fill *fill, void *user,
                               struct error *err);

#endif
