/* cublas_api.h - the functions of cuBLAS and cuBLASLt that we call, as a table of pointers, so that a
 * test can record every call.  The only file that includes the library's headers. */
#ifndef SAMEBIT_CUDA_CUBLAS_API_H
#define SAMEBIT_CUDA_CUBLAS_API_H

#include <stdint.h>
#include <stdio.h>

#include "kernels/cuda/device.cuh"

#include <cublasLt.h>
#include <cublas_v2.h>

struct cublas_api {
    cublasStatus_t (*set_math_mode)(cublasHandle_t, cublasMath_t);
    cublasStatus_t (*set_workspace)(cublasHandle_t, void *, size_t);
    cublasStatus_t (*gemm)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n,
                           int k, const void *alpha, const void *a, cudaDataType, int lda,
                           const void *b, cudaDataType, int ldb, const void *beta, void *c,
                           cudaDataType, int ldc, cublasComputeType_t, cublasGemmAlgo_t);
    cublasStatus_t (*gemm_batched)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m,
                                   int n, int k, const void *alpha, const void *a, cudaDataType,
                                   int lda, long long stride_a, const void *b, cudaDataType,
                                   int ldb, long long stride_b, const void *beta, void *c,
                                   cudaDataType, int ldc, long long stride_c, int batch,
                                   cublasComputeType_t, cublasGemmAlgo_t);
    cublasStatus_t (*desc_create)(cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType);
    cublasStatus_t (*desc_set)(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *,
                               size_t);
    cublasStatus_t (*layout_create)(cublasLtMatrixLayout_t *, cudaDataType, uint64_t rows,
                                    uint64_t columns, int64_t ld);
    cublasStatus_t (*preference_set)(cublasLtMatmulPreference_t,
                                     cublasLtMatmulPreferenceAttributes_t, const void *, size_t);
    cublasStatus_t (*heuristic)(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t a,
                                cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t, int most,
                                cublasLtMatmulHeuristicResult_t *, int *found);
    cublasStatus_t (*matmul)(cublasLtHandle_t, cublasLtMatmulDesc_t, const void *alpha,
                             const void *a, cublasLtMatrixLayout_t, const void *b,
                             cublasLtMatrixLayout_t, const void *beta, const void *c,
                             cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t,
                             const cublasLtMatmulAlgo_t *, void *workspace, size_t workspace_bytes,
                             cudaStream_t);
};

/* Returns the table of the library's own functions. */
const struct cublas_api *cublas_api_direct(void);

/* The library, with a line appended to the file for every product.  compute 0: products (and
 * cublasLt's choice of an algorithm) are written down and not called for.
 *
 *   B cublasGemmEx op=A,B m= n= k= alpha= beta= types=A,B,C ld=A,B,C
 *       compute= algo= math= ws= align=A,B,C
 *   B cublasGemmStridedBatchedEx ... ld=A,B,C stride=A,B,C batch= compute= ...
 *   B cublasLtMatmul compute= scale= alpha= beta= desc{ ATTRIBUTE=VALUE ...}
 *       A[tTYPE ROWSxCOLUMNS ldLD] B[...] C[...] ws= pref{ ATTRIBUTE=VALUE ...}
 *
 * each on one line; numbers as in the library's headers; align: the largest power of two, 256 at
 * most; a pointer as -1.  Returns NULL when the file cannot be opened.  One recording at a time in
 * a process: a second call closes the first one's file.
 *
 * Test equipment (tests/emulated/cuda/cublas_recording.cu): its address is NULL in a program that
 * does not link it. */
__attribute__((weak)) const struct cublas_api *cublas_api_recording(const char *path, int compute);

/* Returns the alignment of a pointer in bytes: a power of two, at most 256. */
static inline uint32_t cublas_alignment(const void *pointer)
{
    const uintptr_t address = (uintptr_t)pointer | 256;

    return (uint32_t)(address & -address);
}

#endif
