/* safetensors.h - the file format: 8 bytes of header length, a JSON header, the data.
 *
 * The reader checks everything that the safetensors crate checks (header size and UTF-8, duplicate
 * keys, dtypes, shape x dtype against the offsets with overflow, no hole, no overlap, the end of
 * the file) before it hands out a pointer; a file is mapped, never copied. */
#ifndef SAMEBIT_SAFETENSORS_H
#define SAMEBIT_SAFETENSORS_H

#include <jansson.h>
#include <stdint.h>

#include "kernels/base/mapping.h"
#include "kernels/base/tensor.h"
#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

enum { SAFETENSORS_MAX_HEADER = 100000000 };

struct safetensors_entry {
    char *name;
    int supported;       /* 0: a dtype we do not compute with (rank and offsets still checked) */
    char dtype_text[16]; /* as in the file */
    char *shape_text;    /* "2,3"; of any rank */
    struct tensor
        tensor; /* where supported and rank <= TENSOR_MAX_RANK; data points into the file */
    uint64_t begin, end; /* in the data section */
};

struct safetensors {
    char *path;
    struct safetensors_entry *entries; /* sorted by begin */
    int count;
    json_t *metadata; /* object of strings, or NULL */
    const unsigned char *data;
    /* private */
    struct mapping mapping; /* of a file; else all zero */
    void *index;
};

/* Errors (code 400) name the path and the tensor. */
struct safetensors *safetensors_open(const char *path, struct error *err);
/* The same over memory that stays the caller's; label stands for the path in errors. */
struct safetensors *safetensors_open_memory(const char *label, const void *bytes, size_t size,
                                            struct error *err);
void safetensors_close(struct safetensors *s);
const struct safetensors_entry *safetensors_find(const struct safetensors *s, const char *name);

/* The writer's half: the header of a file whose data will be written in the order given, without
 * holes.  metadata: object of strings or NULL.  Appends length and header (space-padded to 8). */
struct safetensors_spec {
    const char *name;
    enum dtype dtype;
    int rank;
    int64_t shape[TENSOR_MAX_RANK];
};
int safetensors_header(struct buffer *out, const struct safetensors_spec *specs, int count,
                       const json_t *metadata, struct error *err);

#endif
