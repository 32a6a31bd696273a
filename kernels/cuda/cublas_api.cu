/* cublas_api.cu - the table that calls the library itself.  See cublas_api.h. */
#include "kernels/cuda/cublas_api.h"

/* The header overloads this name. */
static cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                           int m, int n, int k, const void *alpha, const void *a,
                           cudaDataType type_a, int lda, const void *b, cudaDataType type_b,
                           int ldb, const void *beta, void *c, cudaDataType type_c, int ldc,
                           cublasComputeType_t compute, cublasGemmAlgo_t algo)
{
    return cublasGemmEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, b, type_b, ldb, beta, c,
                        type_c, ldc, compute, algo);
}

static cublasStatus_t gemm_batched(cublasHandle_t handle, cublasOperation_t op_a,
                                   cublasOperation_t op_b, int m, int n, int k, const void *alpha,
                                   const void *a, cudaDataType type_a, int lda, long long stride_a,
                                   const void *b, cudaDataType type_b, int ldb, long long stride_b,
                                   const void *beta, void *c, cudaDataType type_c, int ldc,
                                   long long stride_c, int batch, cublasComputeType_t compute,
                                   cublasGemmAlgo_t algo)
{
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, stride_a,
                                      b, type_b, ldb, stride_b, beta, c, type_c, ldc, stride_c,
                                      batch, compute, algo);
}

const struct cublas_api *cublas_api_direct(void)
{
    static const struct cublas_api direct = {cublasSetMathMode,
                                             cublasSetWorkspace,
                                             gemm,
                                             gemm_batched,
                                             cublasLtMatmulDescCreate,
                                             cublasLtMatmulDescSetAttribute,
                                             cublasLtMatrixLayoutCreate,
                                             cublasLtMatmulPreferenceSetAttribute,
                                             cublasLtMatmulAlgoGetHeuristic,
                                             cublasLtMatmul};

    return &direct;
}
