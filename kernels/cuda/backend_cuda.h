/* backend_cuda.h - the CUDA backend, and the operations it is made of. */
#ifndef SAMEBIT_CUDA_BACKEND_CUDA_H
#define SAMEBIT_CUDA_BACKEND_CUDA_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* device: "cuda:0", "cuda:1", ...  See backend_open and backend_close.  Errors: 400 for a device
 * that is not there, or a numerics that lacks an operation, which is named. */
struct backend *backend_cuda_open(const char *device, const struct numerics *numerics,
                                  struct error *err);
void backend_cuda_close(struct backend *b);

/* ---- the operations; ops.h has their contracts ---- */
#define OP(name, ...) op_fn cuda_##name;
#include "kernels/ops.def"

/* ---- operations as one, of numerics torch-cpu; backend.h has their contracts; parts: 1 ---- */
group_fn cuda_group_linears, cuda_group_linear_add, cuda_group_gated, cuda_group_each;

#ifdef __cplusplus
}
#endif

#endif
