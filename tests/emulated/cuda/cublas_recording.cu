/* cublas_recording.cu - the library's calls, written down as they pass.  See cublas_api.h. */
#include "kernels/cuda/cublas_api.h"

#include <stdarg.h>
#include <string.h>

/* ---- recording ---- */

/* What has been said of a description, until the next one. */
struct noted {
    void *of;
    char text[160];
};

static FILE *file;
static int computes;
static int math_mode;
static size_t workspace;
static thread_local struct noted desc, preference, layouts[3];
static thread_local int next_layout;

static void note(struct noted *noted, const char *format, ...)
{
    const size_t used = strlen(noted->text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(noted->text + used, sizeof(noted->text) - used, format, arguments);
    va_end(arguments);
}

static void note_attribute(struct noted *noted, int attribute, const void *value, size_t size)
{
    long long number = 0;

    memcpy(&number, value, size < sizeof(number) ? size : sizeof(number));
    /* A pointer's value says nothing. */
    note(noted, " %d=%lld", attribute, size == 8 && number > (1ll << 40) ? -1 : number);
}

static const char *layout_text(const void *layout)
{
    for (int i = 0; i < 3; i++)
        if (layouts[i].of == layout)
            return layouts[i].text;
    return "?";
}

static double number_at(const void *f32)
{
    return (double)*(const float *)f32;
}

static cublasStatus_t note_math_mode(cublasHandle_t handle, cublasMath_t mode)
{
    math_mode = (int)mode;
    return cublasSetMathMode(handle, mode);
}

static cublasStatus_t note_workspace(cublasHandle_t handle, void *memory, size_t bytes)
{
    workspace = bytes;
    return cublasSetWorkspace(handle, memory, bytes);
}

static cublasStatus_t record_gemm(cublasHandle_t handle, cublasOperation_t op_a,
                                  cublasOperation_t op_b, int m, int n, int k, const void *alpha,
                                  const void *a, cudaDataType type_a, int lda, const void *b,
                                  cudaDataType type_b, int ldb, const void *beta, void *c,
                                  cudaDataType type_c, int ldc, cublasComputeType_t compute,
                                  cublasGemmAlgo_t algo)
{
    fprintf(file,
            "B cublasGemmEx op=%d,%d m=%d n=%d k=%d alpha=%g beta=%g types=%d,%d,%d ld=%d,%d,%d "
            "compute=%d algo=%d math=%d ws=%zu align=%u,%u,%u\n",
            op_a, op_b, m, n, k, number_at(alpha), number_at(beta), type_a, type_b, type_c, lda,
            ldb, ldc, compute, algo, math_mode, workspace, cublas_alignment(a), cublas_alignment(b),
            cublas_alignment(c));
    return computes ? cublas_api_direct()->gemm(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda,
                                                b, type_b, ldb, beta, c, type_c, ldc, compute, algo)
                    : CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t record_gemm_batched(cublasHandle_t handle, cublasOperation_t op_a,
                                          cublasOperation_t op_b, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType type_a,
                                          int lda, long long stride_a, const void *b,
                                          cudaDataType type_b, int ldb, long long stride_b,
                                          const void *beta, void *c, cudaDataType type_c, int ldc,
                                          long long stride_c, int batch,
                                          cublasComputeType_t compute, cublasGemmAlgo_t algo)
{
    fprintf(file,
            "B cublasGemmStridedBatchedEx op=%d,%d m=%d n=%d k=%d alpha=%g beta=%g types=%d,%d,%d "
            "ld=%d,%d,%d stride=%lld,%lld,%lld batch=%d compute=%d algo=%d math=%d ws=%zu "
            "align=%u,%u,%u\n",
            op_a, op_b, m, n, k, number_at(alpha), number_at(beta), type_a, type_b, type_c, lda,
            ldb, ldc, stride_a, stride_b, stride_c, batch, compute, algo, math_mode, workspace,
            cublas_alignment(a), cublas_alignment(b), cublas_alignment(c));
    return computes
               ? cublas_api_direct()->gemm_batched(handle, op_a, op_b, m, n, k, alpha, a, type_a,
                                                   lda, stride_a, b, type_b, ldb, stride_b, beta, c,
                                                   type_c, ldc, stride_c, batch, compute, algo)
               : CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t note_desc(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                cudaDataType scale)
{
    const cublasStatus_t status = cublasLtMatmulDescCreate(out, compute, scale);

    desc.of = *out;
    snprintf(desc.text, sizeof(desc.text), "compute=%d scale=%d\n", compute, scale);
    return status;
}

static cublasStatus_t note_desc_attribute(cublasLtMatmulDesc_t of,
                                          cublasLtMatmulDescAttributes_t attribute,
                                          const void *value, size_t size)
{
    note_attribute(&desc, (int)attribute, value, size);
    return cublasLtMatmulDescSetAttribute(of, attribute, value, size);
}

static cublasStatus_t note_layout(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                  uint64_t columns, int64_t ld)
{
    const cublasStatus_t status = cublasLtMatrixLayoutCreate(out, type, rows, columns, ld);
    struct noted *noted = &layouts[next_layout];

    next_layout = (next_layout + 1) % 3;
    noted->of = *out;
    snprintf(noted->text, sizeof(noted->text), "t%d %lldx%lld ld%lld", type, (long long)rows,
             (long long)columns, (long long)ld);
    return status;
}

static cublasStatus_t note_preference(cublasLtMatmulPreference_t of,
                                      cublasLtMatmulPreferenceAttributes_t attribute,
                                      const void *value, size_t size)
{
    if (preference.of != of || attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        preference.text[0] = '\0';
    preference.of = of;
    note_attribute(&preference, (int)attribute, value, size);
    return cublasLtMatmulPreferenceSetAttribute(of, attribute, value, size);
}

static cublasStatus_t note_heuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t of,
                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                     cublasLtMatmulPreference_t by, int most,
                                     cublasLtMatmulHeuristicResult_t *result, int *found)
{
    if (computes)
        return cublasLtMatmulAlgoGetHeuristic(handle, of, a, b, c, d, by, most, result, found);
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t
record_matmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t of, const void *alpha, const void *a,
              cublasLtMatrixLayout_t layout_a, const void *b, cublasLtMatrixLayout_t layout_b,
              const void *beta, const void *c, cublasLtMatrixLayout_t layout_c, void *d,
              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t *algo, void *memory,
              size_t bytes, cudaStream_t stream)
{
    const char *attributes = strchr(desc.text, '\n');

    fprintf(file,
            "B cublasLtMatmul %.*s alpha=%g beta=%g desc{%s} A[%s] B[%s] C[%s] ws=%zu pref{%s}\n",
            (int)(attributes - desc.text), desc.text, number_at(alpha), number_at(beta),
            attributes + 1, layout_text(layout_a), layout_text(layout_b), layout_text(layout_c),
            bytes, preference.text);
    return computes ? cublasLtMatmul(handle, of, alpha, a, layout_a, b, layout_b, beta, c, layout_c,
                                     d, layout_d, algo, memory, bytes, stream)
                    : CUBLAS_STATUS_SUCCESS;
}

const struct cublas_api *cublas_api_recording(const char *path, int compute)
{
    static const struct cublas_api recording = {
        note_math_mode,      note_workspace, record_gemm,     record_gemm_batched, note_desc,
        note_desc_attribute, note_layout,    note_preference, note_heuristic,      record_matmul};

    if (file)
        fclose(file);
    file = fopen(path, "a");
    if (!file)
        return NULL;
    setvbuf(file, NULL, _IOLBF, 0);
    computes = compute;
    return &recording;
}
