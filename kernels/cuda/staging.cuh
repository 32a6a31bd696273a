/* staging.cuh - the pinned memory through which the host's bytes reach the device.
 *
 * Transfers go out on the operations' stream, so what follows them there sees them; the host waits
 * only where STAGING_PIECES of them are still under way. */
#ifndef SAMEBIT_CUDA_STAGING_CUH
#define SAMEBIT_CUDA_STAGING_CUH

#include "kernels/cuda/device.cuh"

enum { STAGING_BYTES = 1 << 20, STAGING_PIECES = 8 };

struct staging;

/* NULL when there is no memory. */
struct staging *staging_open(cudaStream_t stream);
void staging_close(struct staging *s);

/* A piece of STAGING_BYTES to write to, nobody else's until staging_send.  NULL: CUDA failed. */
void *staging_take(struct staging *s);
/* Starts the transfer of the piece's first bytes to the device's dst.  0 or -1. */
int staging_send(struct staging *s, void *dst, size_t bytes);

#endif
