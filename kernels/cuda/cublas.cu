/* cublas.cu - see cublas.h.
 *
 * mirror: torch 2.13.0+cu130: CUDABlas.cpp (gemm_internal, bgemm_internal, gemm_and_bias),
 *         CublasHandlePool.cpp (the handle's workspace by architecture, cuBLASLt's) */
#include "kernels/cuda/cublas.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cublas_api.h"

/* The recorded lines hold these types as numbers. */
static_assert(CUDA_R_16BF == 14 && CUDA_R_32F == 0, "types");
static_assert(CUBLAS_COMPUTE_32F == 68 && CUBLAS_GEMM_DEFAULT_TENSOR_OP == 99, "computation");
static_assert(CUBLAS_DEFAULT_MATH == 0 && CUBLAS_OP_N == 0 && CUBLAS_OP_T == 1, "modes");
static_assert(CUBLASLT_MATMUL_DESC_TRANSA == 3 && CUBLASLT_MATMUL_DESC_TRANSB == 4 &&
                  CUBLASLT_MATMUL_DESC_EPILOGUE == 7 && CUBLASLT_MATMUL_DESC_BIAS_POINTER == 8 &&
                  CUBLASLT_EPILOGUE_BIAS == 4,
              "descriptor");
static_assert(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == 1 &&
                  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES == 5 &&
                  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES == 8,
              "preference");

enum {
    WORKSPACE_LARGE = 33554432, /* architectures 9, 10, 12 */
    WORKSPACE_SMALL = 8519680,
    WORKSPACE_LT = 1048576
};

static const float one = 1.0f, zero = 0.0f;

/* What cuBLASLt's choice of an algorithm depends on. */
struct lt_key {
    int transposed, m, n, k, lda, ldb, ldc;
    uint32_t alignment[4]; /* of A, B, C and the bias */
};

struct lt_choice {
    struct lt_key key; /* m 0: none yet */
    cublasLtMatmulAlgo_t algo;
};

enum { LT_CHOICES = 1024 }; /* a later one takes the place of one with the same hash */

struct blas {
    const struct cublas_api *api;
    struct lt_choice choices[LT_CHOICES];
    cublasHandle_t handle; /* cuBLASLt's too */
    cudaStream_t stream;
    void *workspace, *workspace_lt, *scratch;
    size_t workspace_bytes, scratch_bytes;
    pthread_mutex_t lock;
};

/* ---- opening ---- */

static size_t workspace_bytes(void)
{
    int device = 0, major = 0;

    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    return major == 9 || major == 10 || major == 12 ? WORKSPACE_LARGE : WORKSPACE_SMALL;
}

static const struct cublas_api *api_of_environment(struct error *err)
{
    const char *path = getenv("SAMEBIT_CUBLAS_LOG"), *compute = getenv("SAMEBIT_CUBLAS_COMPUTE");
    const struct cublas_api *api;

    if (!path || !*path)
        return cublas_api_direct();
    if (!cublas_api_recording) {
        error_set(err, 500, "SAMEBIT_CUBLAS_LOG is set: this build cannot record products");
        return NULL;
    }
    api = cublas_api_recording(path, !compute || strcmp(compute, "0"));
    if (!api)
        error_set(err, 500, "cannot write SAMEBIT_CUBLAS_LOG=%s", path);
    return api;
}

static int set_up(struct blas *blas)
{
    blas->workspace_bytes = workspace_bytes();
    if (cudaMalloc(&blas->workspace, blas->workspace_bytes) != cudaSuccess ||
        cudaMalloc(&blas->workspace_lt, WORKSPACE_LT) != cudaSuccess)
        return -1;
    /* Setting a stream sets the library's own workspace, so ours comes after it. */
    if (cublasCreate(&blas->handle) != CUBLAS_STATUS_SUCCESS ||
        cublasSetStream(blas->handle, blas->stream) != CUBLAS_STATUS_SUCCESS ||
        blas->api->set_workspace(blas->handle, blas->workspace, blas->workspace_bytes) !=
            CUBLAS_STATUS_SUCCESS ||
        blas->api->set_math_mode(blas->handle, CUBLAS_DEFAULT_MATH) != CUBLAS_STATUS_SUCCESS)
        return -1;
    return 0;
}

struct blas *blas_open(cudaStream_t stream, struct error *err)
{
    const struct cublas_api *api = api_of_environment(err);
    struct blas *blas = api ? (struct blas *)calloc(1, sizeof(*blas)) : NULL;

    if (!api)
        return NULL;
    if (!blas) {
        error_set(err, 500, "no memory for cuBLAS");
        return NULL;
    }
    blas->api = api;
    blas->stream = stream;
    pthread_mutex_init(&blas->lock, NULL);
    if (set_up(blas)) {
        blas_close(blas);
        error_set(err, 500, "cuBLAS does not start");
        return NULL;
    }
    return blas;
}

void blas_close(struct blas *blas)
{
    if (!blas)
        return;
    cudaStreamSynchronize(blas->stream); /* products may still use what is freed here */
    if (blas->handle)
        cublasDestroy(blas->handle);
    cudaFree(blas->workspace);
    cudaFree(blas->workspace_lt);
    cudaFree(blas->scratch);
    pthread_mutex_destroy(&blas->lock);
    free(blas);
}

void blas_lock(struct blas *blas)
{
    pthread_mutex_lock(&blas->lock);
}

void blas_unlock(struct blas *blas)
{
    pthread_mutex_unlock(&blas->lock);
}

void *blas_scratch(const struct blas *blas, size_t bytes)
{
    return bytes <= blas->scratch_bytes ? blas->scratch : NULL;
}

int blas_reserve(struct blas *blas, size_t bytes, struct error *err)
{
    void *scratch;

    if (bytes <= blas->scratch_bytes)
        return 0;
    if (cudaMalloc(&scratch, bytes) != cudaSuccess)
        return error_set(err, 503, "no memory for %zu bytes of copies", bytes);
    blas_lock(blas);
    cudaStreamSynchronize(blas->stream);
    cudaFree(blas->scratch);
    blas->scratch = scratch;
    blas->scratch_bytes = bytes;
    blas_unlock(blas);
    return 0;
}

/* ---- products ---- */

static cublasOperation_t operation(int transpose)
{
    return transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
}

int blas_gemm(struct blas *blas, const struct gemm *g)
{
    return blas->api->gemm(blas->handle, operation(g->transpose_a), operation(g->transpose_b), g->m,
                           g->n, g->k, &one, g->a, CUDA_R_16BF, g->lda, g->b, CUDA_R_16BF, g->ldb,
                           &zero, g->c, CUDA_R_16BF, g->ldc, CUBLAS_COMPUTE_32F,
                           CUBLAS_GEMM_DEFAULT_TENSOR_OP) == CUBLAS_STATUS_SUCCESS
               ? 0
               : -1;
}

int blas_gemm_batched(struct blas *blas, const struct gemm *g)
{
    return blas->api->gemm_batched(
               blas->handle, operation(g->transpose_a), operation(g->transpose_b), g->m, g->n, g->k,
               &one, g->a, CUDA_R_16BF, g->lda, g->stride_a, g->b, CUDA_R_16BF, g->ldb, g->stride_b,
               &zero, g->c, CUDA_R_16BF, g->ldc, g->stride_c, g->batch, CUBLAS_COMPUTE_32F,
               CUBLAS_GEMM_DEFAULT_TENSOR_OP) == CUBLAS_STATUS_SUCCESS
               ? 0
               : -1;
}

/* What a call of cuBLASLt is described by. */
struct lt_call {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulPreference_t preference;
};

static int lt_describe(const struct cublas_api *api, const struct gemm *g, const bf16 *bias,
                       struct lt_call *lt)
{
    const cublasOperation_t a = operation(g->transpose_a), b = operation(g->transpose_b);
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;

    return api->desc_create(&lt->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) ||
           api->desc_set(lt->desc, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof(a)) ||
           api->desc_set(lt->desc, CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof(b)) ||
           api->desc_set(lt->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)) ||
           api->desc_set(lt->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias)) ||
           api->layout_create(&lt->a, CUDA_R_16BF, (uint64_t)(g->transpose_a ? g->k : g->m),
                              (uint64_t)(g->transpose_a ? g->m : g->k), g->lda) ||
           api->layout_create(&lt->b, CUDA_R_16BF, (uint64_t)(g->transpose_b ? g->n : g->k),
                              (uint64_t)(g->transpose_b ? g->k : g->n), g->ldb) ||
           api->layout_create(&lt->c, CUDA_R_16BF, (uint64_t)g->m, (uint64_t)g->n, g->ldc);
}

static struct lt_key lt_key_of(const struct gemm *g, const bf16 *bias)
{
    /* The last is PyTorch's for D: the bias's alignment, not the result's. */
    return lt_key{g->transpose_a * 2 + g->transpose_b,
                  g->m,
                  g->n,
                  g->k,
                  g->lda,
                  g->ldb,
                  g->ldc,
                  {cublas_alignment(g->a), cublas_alignment(g->b), cublas_alignment(g->c),
                   cublas_alignment(bias)}};
}

static int lt_prefer(const struct cublas_api *api, const struct lt_key *key, struct lt_call *lt)
{
    const size_t workspace = WORKSPACE_LT;
    int failed = cublasLtMatmulPreferenceCreate(&lt->preference) ||
                 api->preference_set(lt->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                     &workspace, sizeof(workspace));

    for (int i = 0; i < 4 && !failed; i++)
        failed = api->preference_set(
            lt->preference,
            (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
            &key->alignment[i], sizeof(key->alignment[i]));
    return failed;
}

static struct lt_choice *lt_place(struct blas *blas, const struct lt_key *key)
{
    const unsigned char *bytes = (const unsigned char *)key;
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < sizeof(*key); i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return &blas->choices[hash % LT_CHOICES];
}

/* The library's choice, asked for once per key: it takes many times as long as a launch.  NULL: it
 * has none. */
static const cublasLtMatmulAlgo_t *lt_choose(struct blas *blas, const struct lt_key *key,
                                             const struct lt_call *lt)
{
    struct lt_choice *choice = lt_place(blas, key);
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;

    if (memcmp(&choice->key, key, sizeof(*key)) == 0)
        return &choice->algo;
    memset(&found, 0, sizeof(found));
    if (blas->api->heuristic((cublasLtHandle_t)blas->handle, lt->desc, lt->a, lt->b, lt->c, lt->c,
                             lt->preference, 1, &found, &count) ||
        count < 1)
        return NULL;
    choice->key = *key;
    choice->algo = found.algo;
    return &choice->algo;
}

static int lt_run(struct blas *blas, const struct gemm *g, const struct lt_key *key,
                  const struct lt_call *lt)
{
    const cublasLtMatmulAlgo_t *algo = lt_choose(blas, key, lt);

    return !algo || blas->api->matmul((cublasLtHandle_t)blas->handle, lt->desc, &one, g->a, lt->a,
                                      g->b, lt->b, &zero, g->c, lt->c, g->c, lt->c, algo,
                                      blas->workspace_lt, WORKSPACE_LT, blas->stream)
               ? -1
               : 0;
}

int blas_linear_bias(struct blas *blas, const struct gemm *g, const bf16 *bias)
{
    const struct lt_key key = lt_key_of(g, bias);
    struct lt_call lt = {};
    int status = -1;

    if (!lt_describe(blas->api, g, bias, &lt) && !lt_prefer(blas->api, &key, &lt))
        status = lt_run(blas, g, &key, &lt);
    if (lt.preference)
        cublasLtMatmulPreferenceDestroy(lt.preference);
    if (lt.c)
        cublasLtMatrixLayoutDestroy(lt.c);
    if (lt.b)
        cublasLtMatrixLayoutDestroy(lt.b);
    if (lt.a)
        cublasLtMatrixLayoutDestroy(lt.a);
    if (lt.desc)
        cublasLtMatmulDescDestroy(lt.desc);
    return status;
}
