/* linear.cuh - a linear's weight as the CUDA backend keeps it.
 *
 * Panels of 64 columns, one after the other: uint32 [pairs][64], the element of even k in the
 * low half, that of odd k in the high one; pairs = ceil(K / 2) rounded up to 16.  What lies beyond
 * K or N is zero; all bits of the checkpoint are kept, denormals too.  Behind the last panel is an int
 * for each panel: how small the exponents of x may be for plain chains to be exact (products.cuh).
 * Every numerics uses this form: nothing needs the plain weight once it is packed. */
#ifndef SAMEBIT_CUDA_LINEAR_CUH
#define SAMEBIT_CUDA_LINEAR_CUH

#include "kernels/cuda/products.cuh"

/* plain: of rank 2, [N, K]. */
size_t cuda_pack_linear_bytes(const struct tensor *plain);
/* Enqueues the packing on the stream; plain (contiguous) and packed are memory of the device, and
 * plain must live until the stream has passed.  0, or -1 where a launch was refused. */
int cuda_pack_linear(const struct cuda *cuda, const struct tensor *plain, void *packed);

/* The operands of a linear, and whether it is one of few rows, which few_kernel does (at most 8, in
 * chains of pairs): such ones can be done with others in one launch. */
int linear_is_few(const struct op_call *call, struct matmul *p);

#endif
