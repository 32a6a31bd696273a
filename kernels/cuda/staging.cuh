/* staging.cuh - pinned memory, in pieces, through which the host's bytes reach the device.
 *
 * Transfers are in the operations' stream, so later operations see them.  The host waits only while
 * all STAGING_PIECES pieces are still being transferred. */
#ifndef SAMEBIT_CUDA_STAGING_CUH
#define SAMEBIT_CUDA_STAGING_CUH

#include "kernels/cuda/device.cuh"

enum { STAGING_BYTES = 1 << 20, STAGING_PIECES = 8 };

struct staging;

/* NULL when there is no memory. */
struct staging *staging_open(cudaStream_t stream);
void staging_close(struct staging *s);

/* Returns a piece of STAGING_BYTES to write to; others wait until its staging_send.  NULL: CUDA failed.
 */
void *staging_take(struct staging *s);
/* Starts the transfer of the piece's first bytes to the device's dst.  0 or -1. */
int staging_send(struct staging *s, void *dst, size_t bytes);

#endif
