/* stream.h - work that streams have put off. */
#ifndef SAMEBIT_CUDA_EMULATED_STREAM_H
#define SAMEBIT_CUDA_EMULATED_STREAM_H

#include "tests/emulated/cuda/launch.h"

struct copy {
    void *dst;
    const void *src;
    size_t dst_pitch, src_pitch, width, height;
};
struct fill {
    void *dst;
    int value;
    size_t bytes;
};
struct record {
    cudaEvent_t event;
    long long version;
};

enum work_kind { WORK_LAUNCH, WORK_COPY, WORK_FILL, WORK_RECORD, WORK_WAIT };

/* What its kind names is set; a WORK_WAIT waits for `record`. */
struct work {
    enum work_kind kind;
    struct grid launch;
    struct copy copy;
    struct fill fill;
    struct record record;
    struct work *next;
};

/* Appends a copy of `work` to a stream (NULL: the legacy one of this thread's device, which waits
 * for all streams and is waited for).  at_once: does it, and all before it, now.  `what` names the
 * call in messages. */
void stream_put(cudaStream_t stream, const struct work *work, int at_once, const char *what);

/* Does the work of every stream. */
void streams_finish(void);

/* The device of a stream; of NULL, this thread's. */
int stream_device(cudaStream_t stream, const char *what);

/* ---- cudart.cpp ---- */

int current_device(void);
/* Sets this thread's last error, and returns it. */
cudaError_t refuse(cudaError_t error);
/* One line each into SAMEBIT_EMULATED_LOG. */
void count_copy(const char *direction, size_t bytes);
void count_fill(size_t bytes);
void count_launch(const char *name, dim3 grid, dim3 block, size_t shared);

enum { DEVICES_MOST = 16, SHARED_USUAL = 48 << 10, SHARED_MOST = 99 << 10 }; /* bytes a block */

#endif
