/* backend.h - what a device must provide to run a program. */
#ifndef SAMEBIT_BACKEND_H
#define SAMEBIT_BACKEND_H

#include "kernels/numerics.h"
#include "kernels/ops.h"
#include "kernels/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A way out for values; see struct backend. */
struct reader;

enum { READER_SLOTS = 2 };

/* Told of bytes of a checkpoint tensor that a backend has read and will not read again. */
typedef void passed_fn(void *user, const void *data, size_t bytes);

/* Operations that a backend may do as one, for several calls of the model (parts) at once. */
enum group {
    GROUP_SAME, /* one operation: with linear the weight is read once for all parts */
    /* Several operations, each on its own or on what those before it made.  Only the last output of
     * LINEAR_ADD and GATED has to be written; no output of these three may lie where an input of
     * theirs does. */
    GROUP_LINEARS,    /* linears of one input */
    GROUP_LINEAR_ADD, /* linear, add of its output and another */
    GROUP_GATED, /* linear, linear, activation of the first one's, mul of that and the second's */
    GROUP_EACH,  /* any but linears: a part's are done in order */
    GROUP_COUNT
};
enum { GROUP_PARTS = 64, GROUP_STEPS = 12 };

/* call[s * parts + k]: step s of the group, for part k.  An input that another step of the group
 * makes is that step's `out`, the same pointer.  Parts do not depend on each other, and each has
 * the bits that it would have alone, one operation after the other.  0, or -1. */
typedef int group_fn(const struct op_call *call, int steps, int parts);

/* One device under one numerics.  Immutable once opened; ops may be called from any number of
 * threads at once (they share the CPU's pool of workers, where a call that finds it busy does its
 * work alone, or the GPU's one stream: bits do not depend on it).
 *
 * On a GPU, copies and ops are done in the order in which they were asked for, after the call has
 * returned; only read, reader_wait and prepare wait for it. */
struct backend {
    const char *device;              /* "cpu", "cuda:0" */
    const struct numerics *numerics; /* a row of the table of numerics.c; never compared */
    const char *isa; /* which of the equal-bit versions runs: "avx512_bf16", "avx2", "plain", on
                        ARM "neon", "plain"; of a GPU its architecture: "sm_90" */
    const char *hardware;    /* a GPU's name; NULL: the CPU of this machine */
    int threads;             /* of the CPU for one product; of a GPU 0 */
    struct torch_host torch; /* where numerics->of_host, for calls that have none of their own in
                                their scope; set before the first weight and op */
    op_fn *op[OP_COUNT]; /* NULL: this numerics has none (sdpa and layer_norm under torch-cuda) */
    int host_readable;   /* 1: the host may read and write the device's memory as its own */
    size_t alignment;    /* bytes: values and caches that share memory begin at multiples of it */

    /* Memory of the device, aligned to that, of any content.  NULL when there is none left. */
    void *(*alloc)(struct backend *b, size_t bytes);
    void (*free)(struct backend *b, void *ptr);
    /* dst = src, of host memory, which is free again on return; any strides; equal shape, and
     * equal dtype or F16 or F32 rounded to BF16. */
    int (*copy)(struct backend *b, const struct tensor *dst, const struct tensor *src);
    /* Reads a tensor of the device into contiguous host memory. */
    int (*read)(struct backend *b, void *host, const struct tensor *src);
    /* Makes the device's form of a checkpoint tensor, for use by `op`.  out: zeros, or what has been
     * made of the same tensor for other ops, which it goes on to serve.  `plain` is borrowed as
     * long as out->plain.data is its data.  passed (may be NULL) is told of parts that are done
     * with before all are.  Undone by weight_close, also after a failure. */
    int (*weight_open)(struct backend *b, enum op op, const struct tensor *plain, passed_fn *passed,
                       void *user, struct weight *out, struct error *err);
    void (*weight_close)(struct backend *b, struct weight *w);

    /* ---- optional: NULL where the device does without ---- */

    /* GROUP_SAME NULL: calls of the model do not run together here. */
    group_fn *group[GROUP_COUNT];

    /* Before a thread's first op. */
    int (*enter)(struct backend *b);
    /* What the device said about the failure that this thread last met, or NULL. */
    const char *(*trouble)(struct backend *b);
    /* Takes the memory that op needs of its own for such a call; data pointers are not read.
     * Before a run: it may wait for the device.  Errors: 503. */
    int (*prepare)(struct backend *b, enum op op, const struct op_call *call, struct error *err);

    /* How values leave a device that is not host_readable, which has all five.  A reader has two
     * slots of `bytes` each: one fills on the device while the other goes to the host, and neither
     * stalls the ops.  It has one user at a time. */
    struct reader *(*reader_open)(struct backend *b, size_t bytes, struct error *err);
    void (*reader_close)(struct backend *b, struct reader *r);
    /* Copies src, of any strides, into a slot at `offset` (a multiple of 16), row-major.  Later ops
     * may write src's memory.  The slot has not been sent, or has been waited for. */
    int (*reader_put)(struct reader *r, int slot, size_t offset, const struct tensor *src);
    /* Starts the way of a slot's first bytes to the host. */
    int (*reader_send)(struct reader *r, int slot, size_t bytes);
    /* Waits for a slot that was sent; its bytes, until the next reader_put into it.  NULL: it
     * failed. */
    const void *(*reader_wait)(struct reader *r, int slot);
    void *state; /* the backend's own */
};

/* device: "cpu", "cuda:0", "cuda:1", ...  threads: 0 = one per core that this process may use.
 * isa: one of the names above (the bits are the same); NULL = the one that the environment's
 * SAMEBIT_ISA names, else the best this CPU has.  Both are the CPU's only.  Errors: 400, naming what
 * is known. */
struct backend *backend_open(const char *device, const struct numerics *numerics, const char *isa,
                             int threads, struct error *err);
void backend_close(struct backend *b);

#ifdef __cplusplus
}
#endif

#endif
