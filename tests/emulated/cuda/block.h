/* block.h - runs the threads of one block on one OS thread. */
#ifndef SAMEBIT_CUDA_EMULATED_BLOCK_H
#define SAMEBIT_CUDA_EMULATED_BLOCK_H

#include "tests/emulated/cuda/emulator.h"

enum { BLOCK_THREADS_MOST = 1024, WARP = 32 };

/* One launch. */
struct grid {
    const char *name; /* of the kernel, borrowed */
    dim3 grid, block;
    size_t shared;
    struct emulated_body body;
    int order; /* control.h */
};

/* What an OS thread needs to run blocks, one after the other.  Made and used on that thread. */
struct runner;
struct runner *runner_open(void);
void runner_block(struct runner *r, const struct grid *grid, size_t index);

/* Fills what the calling OS thread has of static shared memory with `byte`. */
void shared_memory_fill(int byte);

/* Ends the process.  Named after the block and thread that run here, if any do. */
[[noreturn]] __attribute__((format(printf, 1, 2))) void emulated_fault(const char *format, ...);

#endif
