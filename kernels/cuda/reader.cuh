/* reader.cuh - how values leave the device: pinned double buffers on a second stream.
 *
 * A value is first copied, on the operations' stream, to the slot's memory on the device, so that
 * later operations may overwrite the value; the slot then goes to pinned memory, on the reader's
 * stream.  Pinning memory is slow, so a closed reader is kept for the next one that is opened. */
#ifndef SAMEBIT_CUDA_READER_CUH
#define SAMEBIT_CUDA_READER_CUH

#include "kernels/cuda/cuda_state.cuh"

struct reader_pool;

struct reader_pool *reader_pool_open(void); /* NULL when there is no memory */
void reader_pool_close(struct reader_pool *pool);

/* See struct backend. */
struct reader *cuda_reader_open(struct backend *b, size_t bytes, struct error *err);
void cuda_reader_close(struct backend *b, struct reader *r);
int cuda_reader_put(struct reader *r, int slot, size_t offset, const struct tensor *src);
int cuda_reader_send(struct reader *r, int slot, size_t bytes);
const void *cuda_reader_wait(struct reader *r, int slot);

#endif
