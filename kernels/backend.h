/* backend.h - what a device must provide to run a program. */
#ifndef SAMEBIT_BACKEND_H
#define SAMEBIT_BACKEND_H

#include "kernels/numerics.h"
#include "kernels/ops.h"
#include "server/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One device under one numerics.  Immutable once opened; ops may be called from any number of
 * threads at once (they share the device's pool of workers, and a call that finds it busy does its
 * work alone: bits do not depend on it). */
struct backend {
    const char *device; /* "cpu" */
    enum numerics numerics;
    const char *isa; /* which of the equal-bit versions runs: "avx512_bf16", "avx2", "plain" */
    int threads;
    op_fn *op[OP_COUNT];

    /* Memory of the device, 64-byte aligned, zeroed.  NULL when there is none left. */
    void *(*alloc)(struct backend *b, size_t bytes);
    void (*free)(struct backend *b, void *ptr);
    /* dst = src; equal dtype and shape, any strides; src may be host memory. */
    int (*copy)(struct backend *b, const struct tensor *dst, const struct tensor *src);
    /* Reads a tensor of the device into contiguous host memory. */
    int (*read)(struct backend *b, void *host, const struct tensor *src);
    /* Makes the device's form of a checkpoint tensor, for use by `op`.  `plain` stays borrowed.
     * Undone by weight_close. */
    int (*weight_open)(struct backend *b, enum op op, const struct tensor *plain,
                       struct weight *out, struct error *err);
    void (*weight_close)(struct backend *b, struct weight *w);
    void *state; /* the backend's own */
};

/* device: "cpu".  threads: 0 = one per core that this process may use.  isa: NULL = the best this
 * CPU has, else one of the names above (the bits are the same).  Errors: 400, naming what is
 * known. */
struct backend *backend_open(const char *device, enum numerics numerics, const char *isa,
                             int threads, struct error *err);
void backend_close(struct backend *b);

#ifdef __cplusplus
}
#endif

#endif
