/* cublas.h - cuBLAS as PyTorch calls it: the products of numerics torch-cuda.
 *
 * cuBLAS's bits follow from its version, the GPU, every argument, the alignment of every pointer,
 * the workspace and the math mode; so all of these are PyTorch 2.13.0+cu130's.  Only cublas.cu
 * calls the library, through cublas_api.h; built for the emulator, the library is
 * tests/emulated/cuda/cublas_emulated.cu.
 *
 * SAMEBIT_CUBLAS_LOG=FILE      appends a line for each product to FILE, with all its arguments
 * SAMEBIT_CUBLAS_COMPUTE=0     with it: the products are not computed, what they write is undefined
 */
#ifndef SAMEBIT_CUDA_CUBLAS_H
#define SAMEBIT_CUDA_CUBLAS_H

#include "kernels/cuda/device.cuh"

#include "kernels/base/error.h"

/* One handle on one stream.  Products and scratch memory of different threads must not mix on it:
 * callers hold the lock from taking scratch memory to the last launch that uses it. */
struct blas;

/* C = op(A) op(B), column-major; element (i, j) of a matrix lies at [i + j * ld].
 * op(A) [m, k], op(B) [k, n], C [m, n]. */
struct gemm {
    int transpose_a, transpose_b;
    int m, n, k;
    const bf16 *a, *b;
    bf16 *c;
    int lda, ldb, ldc;
    int64_t stride_a, stride_b, stride_c; /* blas_gemm_batched: from one matrix to the next */
    int batch;                            /* likewise: how many */
};

/* NULL with err set (500) when the library does not answer or there is no memory. */
struct blas *blas_open(cudaStream_t stream, struct error *err);
void blas_close(struct blas *blas); /* NULL does nothing */

void blas_lock(struct blas *blas);
void blas_unlock(struct blas *blas);

/* Device memory of at least that size, 512-byte aligned, the same at every call; NULL when more is
 * asked for than was reserved. */
void *blas_scratch(const struct blas *blas, size_t bytes);
/* Waits for the stream where it has to grow.  0, or -1 with err set (503). */
int blas_reserve(struct blas *blas, size_t bytes, struct error *err);

/* 0, or -1 when the library refuses. */
int blas_gemm(struct blas *blas, const struct gemm *gemm);
int blas_gemm_batched(struct blas *blas, const struct gemm *gemm);
/* C = op(A) op(B) + bias [m], to every column, before the one rounding. */
int blas_linear_bias(struct blas *blas, const struct gemm *gemm, const bf16 *bias);

#endif
