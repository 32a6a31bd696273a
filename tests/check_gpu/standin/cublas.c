/* cublas.c - a stand-in for libcublas.so.13 and libcublasLt.so.13: it takes every call and computes
 * nothing.  With SAMEBIT_STANDIN_LOG=FILE it writes down which: "cublas NAME M N K". */
#include <cublasLt.h>
#include <cublas_v2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cublasStatus_t told(const char *name, long long m, long long n, long long k)
{
    const char *path = getenv("SAMEBIT_STANDIN_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;

    if (file) {
        fprintf(file, "cublas %s %lld %lld %lld\n", name, m, n, k);
        fclose(file);
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* Each is another, as a recording tells them apart. */
static cublasStatus_t object(void *out)
{
    *(void **)out = malloc(1);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t give(void *object)
{
    free(object);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    return object(handle);
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    return give(handle);
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
    (void)handle, (void)stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    (void)handle, (void)mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *memory, size_t bytes)
{
    (void)handle, (void)memory, (void)bytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                            int m, int n, int k, const void *alpha, const void *a,
                            cudaDataType type_a, int lda, const void *b, cudaDataType type_b,
                            int ldb, const void *beta, void *c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algo)
{
    (void)handle, (void)op_a, (void)op_b, (void)alpha, (void)a, (void)type_a, (void)lda, (void)b;
    (void)type_b, (void)ldb, (void)beta, (void)c, (void)type_c, (void)ldc, (void)compute,
        (void)algo;
    return told("gemm", m, n, k);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a,
                                          cublasOperation_t op_b, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType type_a,
                                          int lda, long long stride_a, const void *b,
                                          cudaDataType type_b, int ldb, long long stride_b,
                                          const void *beta, void *c, cudaDataType type_c, int ldc,
                                          long long stride_c, int batch,
                                          cublasComputeType_t compute, cublasGemmAlgo_t algo)
{
    (void)handle, (void)op_a, (void)op_b, (void)alpha, (void)a, (void)type_a, (void)lda,
        (void)stride_a;
    (void)b, (void)type_b, (void)ldb, (void)stride_b, (void)beta, (void)c, (void)type_c, (void)ldc;
    (void)stride_c, (void)batch, (void)compute, (void)algo;
    return told("gemm-batched", m, n, k);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType scale)
{
    (void)compute, (void)scale;
    return object(out);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t of)
{
    return give(of);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t of,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t size)
{
    (void)of, (void)attribute, (void)value, (void)size;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld)
{
    (void)type, (void)rows, (void)columns, (void)ld;
    return object(out);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t of)
{
    return give(of);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    return object(out);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t of)
{
    return give(of);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t of,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t size)
{
    (void)of, (void)attribute, (void)value, (void)size;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t of,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t by, int most,
                                              cublasLtMatmulHeuristicResult_t *result, int *found)
{
    (void)handle, (void)of, (void)a, (void)b, (void)c, (void)d, (void)by, (void)most;
    memset(result, 0, sizeof(*result));
    *found = 1;
    return told("heuristic", 0, 0, 0);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t of, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t layout_a, const void *b,
                              cublasLtMatrixLayout_t layout_b, const void *beta, const void *c,
                              cublasLtMatrixLayout_t layout_c, void *d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t *algo,
                              void *memory, size_t bytes, cudaStream_t stream)
{
    (void)handle, (void)of, (void)alpha, (void)a, (void)layout_a, (void)b, (void)layout_b,
        (void)beta;
    (void)c, (void)layout_c, (void)d, (void)layout_d, (void)algo, (void)memory, (void)bytes,
        (void)stream;
    return told("lt-matmul", 0, 0, 0);
}
