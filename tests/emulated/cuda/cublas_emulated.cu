/* cublas_emulated.cu - see cublas_emulated.h.  Built for the emulator only. */
#include "tests/emulated/cuda/cublas_emulated.h"

#ifndef __CUDACC__

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/emulated/cuda/control.h"
#include "tests/emulated/cuda/tensor_core.h"

struct cublasContext {
    struct tensor_core core; /* of no group: a chain of f32 fma */
    cudaStream_t stream;
};

struct lt_desc {
    cublasOperation_t op_a, op_b;
    cublasLtEpilogue_t epilogue;
    const bf16 *bias;
};

struct lt_layout {
    uint64_t rows, columns;
    int64_t ld;
};

struct lt_preference {
    uint64_t workspace;
    uint32_t alignment[4]; /* of A, B, C, D; 0: not said */
};

/* ---- products ---- */

/* Where element p of row i of op(A), or of column j of op(B), lies: base + p * step. */
struct operand {
    const bf16 *base;
    int64_t step;
};

static struct operand row_of(const bf16 *a, cublasOperation_t op, int ld, int i)
{
    if (op == CUBLAS_OP_T)
        return {a + (int64_t)i * ld, 1};
    return {a + i, ld};
}

static struct operand column_of(const bf16 *b, cublasOperation_t op, int ld, int j)
{
    return row_of(b, op == CUBLAS_OP_T ? CUBLAS_OP_N : CUBLAS_OP_T, ld, j);
}

static float chain(struct operand a, struct operand b, int k)
{
    float sum = 0.0f;

    for (int p = 0; p < k; p++)
        sum = fmaf(bf16_to_f32(a.base[p * a.step]), bf16_to_f32(b.base[p * b.step]), sum);
    return sum;
}

static int is_finite(bf16 x)
{
    return (x & 0x7f80) != 0x7f80;
}

/* A sum that meets an infinity or a NaN goes on as a chain. */
static float on_tensor_core(const struct tensor_core *core, struct operand a, struct operand b,
                            int k)
{
    struct tensor_core_number x[16], y[16];
    float sum = 0.0f;

    for (int p = 0; p < k; p += core->group) {
        const int count = k - p < core->group ? k - p : core->group;

        for (int i = 0; i < count; i++) {
            const bf16 u = a.base[(p + i) * a.step], v = b.base[(p + i) * b.step];

            if (!is_finite(u) || !is_finite(v) || !isfinite(sum))
                return chain(a, b, k);
            x[i] = tensor_core_read(u);
            y[i] = tensor_core_read(v);
        }
        sum = tensor_core_step(core, x, y, count, sum);
    }
    return sum;
}

struct product {
    struct tensor_core core;
    cublasOperation_t op_a, op_b;
    int m, n, k, lda, ldb, ldc, batch;
    long long stride_a, stride_b, stride_c;
    const bf16 *a, *b;
    bf16 *c;
    const bf16 *bias; /* or NULL */
};

enum { PIECE = 64 }; /* rows of C of a block */

/* A kernel of one thread, so that it waits in its stream like any other. */
static __global__ void cublas_kernel(struct product p)
{
    const int j = (int)blockIdx.y, first = (int)blockIdx.x * PIECE;
    const bf16 *a = p.a + blockIdx.z * p.stride_a, *b = p.b + blockIdx.z * p.stride_b;
    bf16 *c = p.c + blockIdx.z * p.stride_c;

    for (int i = first; i < p.m && i < first + PIECE; i++) {
        const struct operand x = row_of(a, p.op_a, p.lda, i), y = column_of(b, p.op_b, p.ldb, j);
        const float sum = p.core.group ? on_tensor_core(&p.core, x, y, p.k) : chain(x, y, p.k);

        c[i + (int64_t)j * p.ldc] = bf16_from_f32(p.bias ? sum + bf16_to_f32(p.bias[i]) : sum);
    }
}

static cublasStatus_t multiply(cublasHandle_t handle, const struct product *p)
{
    const struct product product = *p;

    LAUNCH(cublas_kernel,
           dim3((unsigned)((p->m + PIECE - 1) / PIECE), (unsigned)p->n, (unsigned)p->batch),
           dim3(1), 0, handle->stream, product);
    return cudaGetLastError() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

/* Whether it is the one kind of product that is emulated. */
static int is_plain(const void *alpha, const void *beta, cudaDataType a, cudaDataType b,
                    cudaDataType c, cublasComputeType_t compute)
{
    return *(const float *)alpha == 1.0f && *(const float *)beta == 0.0f && a == CUDA_R_16BF &&
           b == CUDA_R_16BF && c == CUDA_R_16BF && compute == CUBLAS_COMPUTE_32F;
}

/* ---- cuBLAS ---- */

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    const char *core = getenv("SAMEBIT_EMULATED_TENSOR_CORES");

    *handle = (cublasHandle_t)calloc(1, sizeof(**handle));
    if (!*handle)
        return CUBLAS_STATUS_ALLOC_FAILED;
    if (core && !strcmp(core, "ampere"))
        (*handle)->core = tensor_core_ampere;
    if (core && !strcmp(core, "hopper"))
        (*handle)->core = tensor_core_hopper;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *workspace, size_t bytes)
{
    return workspace || !bytes ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a,
                                          cublasOperation_t op_b, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType type_a,
                                          int lda, long long stride_a, const void *b,
                                          cudaDataType type_b, int ldb, long long stride_b,
                                          const void *beta, void *c, cudaDataType type_c, int ldc,
                                          long long stride_c, int batch,
                                          cublasComputeType_t compute, cublasGemmAlgo_t)
{
    const struct product p = {handle->core,
                              op_a,
                              op_b,
                              m,
                              n,
                              k,
                              lda,
                              ldb,
                              ldc,
                              batch,
                              stride_a,
                              stride_b,
                              stride_c,
                              (const bf16 *)a,
                              (const bf16 *)b,
                              (bf16 *)c,
                              NULL};

    if (!is_plain(alpha, beta, type_a, type_b, type_c, compute))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return multiply(handle, &p);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                            int m, int n, int k, const void *alpha, const void *a,
                            cudaDataType type_a, int lda, const void *b, cudaDataType type_b,
                            int ldb, const void *beta, void *c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algo)
{
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b,
                                      type_b, ldb, 0, beta, c, type_c, ldc, 0, 1, compute, algo);
}

/* ---- cuBLASLt ---- */

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *desc = (cublasLtMatmulDesc_t)calloc(1, sizeof(**desc));
    return *desc ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t size)
{
    void *field = attribute == CUBLASLT_MATMUL_DESC_TRANSA     ? (void *)&desc->op_a
                  : attribute == CUBLASLT_MATMUL_DESC_TRANSB   ? (void *)&desc->op_b
                  : attribute == CUBLASLT_MATMUL_DESC_EPILOGUE ? (void *)&desc->epilogue
                                                               : (void *)&desc->bias;
    const size_t room =
        attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(desc->bias) : sizeof(desc->op_a);

    if (size != room)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    free(desc);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld)
{
    if (type != CUDA_R_16BF)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *layout = (cublasLtMatrixLayout_t)malloc(sizeof(**layout));
    if (!*layout)
        return CUBLAS_STATUS_ALLOC_FAILED;
    **layout = {rows, columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    free(layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = (cublasLtMatmulPreference_t)calloc(1, sizeof(**preference));
    return *preference ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t size)
{
    const int is_workspace = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;

    if (size != (is_workspace ? sizeof(uint64_t) : sizeof(uint32_t)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (is_workspace)
        memcpy(&preference->workspace, value, size);
    else
        memcpy(&preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
               value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    free(preference);
    return CUBLAS_STATUS_SUCCESS;
}

/* What an algorithm is chosen for; another product refuses it. */
static uint64_t product_digest(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                               cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c)
{
    const uint64_t parts[] = {(uint64_t)desc->op_a,
                              (uint64_t)desc->op_b,
                              (uint64_t)desc->epilogue,
                              a->rows,
                              a->columns,
                              (uint64_t)a->ld,
                              b->rows,
                              b->columns,
                              (uint64_t)b->ld,
                              c->rows,
                              c->columns,
                              (uint64_t)c->ld};
    uint64_t digest = 1;

    for (uint64_t part : parts)
        digest = (digest ^ part) * 0x9e3779b97f4a7c15u;
    return digest;
}

static long long heuristics;

long long emulated_heuristics(void)
{
    return __atomic_load_n(&heuristics, __ATOMIC_SEQ_CST);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t *results, int *found)
{
    __atomic_add_fetch(&heuristics, 1, __ATOMIC_SEQ_CST);
    *found = most > 0;
    if (!*found)
        return CUBLAS_STATUS_SUCCESS;
    results[0].workspaceSize = (size_t)preference->workspace;
    results[0].algo.data[0] = product_digest(desc, a, b, c);
    for (int i = 0; i < 4; i++)
        results[0].algo.data[i + 1] = preference->alignment[i];
    return CUBLAS_STATUS_SUCCESS;
}

/* Whether an algorithm was chosen for this product, and for pointers that are as aligned. */
static int was_chosen_for(const cublasLtMatmulAlgo_t *algo, uint64_t digest,
                          const void *const pointers[4])
{
    if (algo->data[0] != digest)
        return 0;
    for (int i = 0; i < 4; i++)
        if (algo->data[i + 1] && (uintptr_t)pointers[i] % algo->data[i + 1])
            return 0;
    return 1;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t layout_a, const void *b,
                              cublasLtMatrixLayout_t layout_b, const void *beta, const void *c,
                              cublasLtMatrixLayout_t layout_c, void *d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t *algo,
                              void *, size_t, cudaStream_t)
{
    const uint64_t k = desc->op_a == CUBLAS_OP_T ? layout_a->rows : layout_a->columns;
    const uint64_t m = desc->op_a == CUBLAS_OP_T ? layout_a->columns : layout_a->rows;
    const uint64_t k_of_b = desc->op_b == CUBLAS_OP_T ? layout_b->columns : layout_b->rows;
    const uint64_t n = desc->op_b == CUBLAS_OP_T ? layout_b->rows : layout_b->columns;
    const struct product p = {((cublasHandle_t)handle)->core,
                              desc->op_a,
                              desc->op_b,
                              (int)m,
                              (int)n,
                              (int)k,
                              (int)layout_a->ld,
                              (int)layout_b->ld,
                              (int)layout_d->ld,
                              1,
                              0,
                              0,
                              0,
                              (const bf16 *)a,
                              (const bf16 *)b,
                              (bf16 *)d,
                              desc->epilogue == CUBLASLT_EPILOGUE_BIAS ? desc->bias : NULL};

    const void *const pointers[] = {a, b, c, desc->bias};

    if (!was_chosen_for(algo, product_digest(desc, layout_a, layout_b, layout_c), pointers))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (k != k_of_b || m != layout_d->rows || n != layout_d->columns || layout_c != layout_d ||
        c != d || *(const float *)alpha != 1.0f || *(const float *)beta != 0.0f)
        return CUBLAS_STATUS_INVALID_VALUE;
    return multiply((cublasHandle_t)handle, &p);
}

#endif
