/* dump_arrays.h - the arrays of a dump, as its file has them: in any dtype, order and number of axes. */
#ifndef SAMEBIT_DUMP_ARRAYS_H
#define SAMEBIT_DUMP_ARRAYS_H

#include <jansson.h>

#include "client/npy.h"
#include "kernels/base/safetensors.h"

/* The member of an .npz in which dump_write_npz keeps the metadata. */
#define DUMP_METADATA "__metadata__.json"

struct dump_array {
    char *name;
    struct npy npy;
    void *owned; /* what npy.data points into, where it is its own */
};

struct dump_arrays {
    struct dump_array *at;
    int count, room;
    json_t *
        left_out; /* {"name": "what it is"} of those that no tensor can hold; the opener's to make */
    json_t *metadata; /* of the file, or NULL */
};

void dump_arrays_clear(struct dump_arrays *a);

/* Adds an array, whose name has `length` bytes, or its name to left_out.  Takes over owned, also after an
 * error. */
int dump_arrays_add(struct dump_arrays *all, const char *name, size_t length, struct npy npy,
                    void *owned, struct error *err);
int dump_arrays_leave_out(struct dump_arrays *all, const char *name, size_t length,
                          const char *what, struct error *err);

/* Returns whether a name is one that token ids have. */
int dump_is_tokens(const char *name);

/* What there is in a file, added to all.  Errors (400) do not name the file. */
int dump_arrays_from_safetensors(struct dump_arrays *all, const struct safetensors *f,
                                 struct error *err);
/* name: the array's, with or without ".npy". */
int dump_arrays_from_npy(struct dump_arrays *all, const char *path, const char *name,
                         struct error *err);
int dump_arrays_from_npz(struct dump_arrays *all, const char *path, struct error *err);
/* Each .npy in it and in the folders in it; the path from here on is the name. */
int dump_arrays_from_folder(struct dump_arrays *all, const char *path, struct error *err);

#endif
