/* copy.cuh - copies of tensors to the device, from it, and within it. */
#ifndef SAMEBIT_CUDA_COPY_CUH
#define SAMEBIT_CUDA_COPY_CUH

#include "kernels/cuda/cuda_state.cuh"

/* copy and read of struct backend. */
int cuda_copy(struct backend *b, const struct tensor *dst, const struct tensor *src);
int cuda_read(struct backend *b, void *host, const struct tensor *src);

/* Writes src, row-major and without gaps, to the device's memory at `to` (16-byte aligned), on the
 * operations' stream.  src: fewer than 2^32 bytes. */
int cuda_gather(const struct cuda *cuda, void *to, const struct tensor *src);

#endif
