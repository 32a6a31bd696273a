/* backend_cuda.cu - the CUDA backend: which version of each operation runs, memory and weights. */
#include "kernels/cuda/cuda_state.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/aten/aten.h"
#include "kernels/cuda/aten/copies.h"
#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/reader.cuh"
#include "kernels/cuda/rotary.cuh"
#include "kernels/cuda/staging.cuh"

static op_fn *const ops[OP_COUNT] = {
#define OP(name, ...) cuda_##name,
#include "kernels/ops.def"
};

/* ---- failures ---- */

static thread_local cudaError_t last_failure = cudaSuccess;

int cuda_check(cudaError_t error)
{
    if (error == cudaSuccess)
        return 0;
    last_failure = error;
    cudaGetLastError(); /* clears it, so that the next launch does not report it again */
    return -1;
}

const char *cuda_trouble(void)
{
    return last_failure == cudaSuccess ? NULL : cudaGetErrorString(last_failure);
}

static const char *trouble(struct backend *b)
{
    (void)b;
    return cuda_trouble();
}

int cuda_enter(const struct cuda *cuda)
{
    return cuda_check(cudaSetDevice(cuda->ordinal));
}

static int enter(struct backend *b)
{
    last_failure = cudaSuccess;
    return cuda_enter((const struct cuda *)b->state);
}

/* ---- memory ---- */

static void *cuda_alloc(struct backend *b, size_t bytes)
{
    const struct cuda *cuda = (const struct cuda *)b->state;
    void *ptr;

    if (cuda_enter(cuda) || cuda_check(cudaMalloc(&ptr, bytes ? bytes : 1)))
        return NULL;
    if (cuda_check(cudaMemsetAsync(ptr, 0, bytes, cuda->stream)) == 0)
        return ptr;
    cudaFree(ptr);
    return NULL;
}

static void cuda_free(struct backend *b, void *ptr)
{
    const struct cuda *cuda = (const struct cuda *)b->state;

    if (!ptr || cuda_enter(cuda))
        return;
    /* after an error, operations on it may be under way */
    cuda_check(cudaStreamSynchronize(cuda->stream));
    cuda_check(cudaFree(ptr));
}

/* ---- weights ---- */

static int no_memory(const struct backend *b, size_t bytes, struct error *err)
{
    const char *why = cuda_trouble();

    return error_set(err, 500, "no memory on %s for %zu bytes of weight (%s)", b->device, bytes,
                     why ? why : "none left");
}

static int weight_upload(struct backend *b, struct weight *w, const struct tensor *plain,
                         struct error *err)
{
    w->plain = *plain;
    w->plain.data = cuda_alloc(b, tensor_bytes(plain));
    if (!w->plain.data)
        return no_memory(b, tensor_bytes(plain), err);
    if (cuda_copy(b, &w->plain, plain))
        return error_set(err, 500, "a weight did not reach %s (%s)", b->device, cuda_trouble());
    return 0;
}

static int weight_pack(struct backend *b, struct weight *w, struct error *err)
{
    const size_t bytes = cuda_pack_linear_bytes(&w->plain);

    w->packed = cuda_alloc(b, bytes);
    if (!w->packed)
        return no_memory(b, bytes, err);
    if (cuda_pack_linear((const struct cuda *)b->state, &w->plain, w->packed))
        return error_set(err, 500, "a weight could not be packed on %s (%s)", b->device,
                         cuda_trouble());
    return 0;
}

static void cuda_weight_close(struct backend *b, struct weight *w)
{
    cuda_free(b, w->plain.data);
    cuda_free(b, w->packed);
    w->plain.data = w->packed = NULL;
}

static int cuda_weight_open(struct backend *b, enum op op, const struct tensor *plain,
                            passed_fn *passed, void *user, struct weight *out, struct error *err)
{
    const int packs =
        op == OP_linear && plain->rank == 2 && b->numerics->kernels == KERNELS_TORCH_CPU;
    const int is_read = out->plain.data != NULL; /* by another op */

    (void)passed;
    (void)user;
    if (packs && out->packed)
        return 0;
    if ((!is_read && weight_upload(b, out, plain, err)) || (packs && weight_pack(b, out, err))) {
        cuda_weight_close(b, out);
        return -1;
    }
    /* The products read the packed form alone. */
    if (packs && !is_read) {
        cuda_free(b, out->plain.data);
        out->plain.data = NULL;
    }
    return 0;
}

/* ---- torch-cuda ---- */

static int aten_prepare(struct backend *b, enum op op, const struct op_call *call,
                        struct error *err)
{
    const size_t bytes = aten_scratch_bytes(op, call);

    if (bytes == 0)
        return 0;
    return cuda_enter((const struct cuda *)b->state) || aten_reserve(b, bytes, err)
               ? error_set(err, 503, "no memory on %s for %s", b->device, op_name(op))
               : 0;
}

/* ---- opening ---- */

/* Returns the number in "cuda:N", or -1. */
static int read_ordinal(const char *device, struct error *err)
{
    const char *digits = device + strlen("cuda:");
    const size_t length = strspn(digits, "0123456789");
    int count = 0;

    if (length < 1 || length > 4 || digits[length])
        return error_param(err, 400, "device",
                           "device \"%.40s\": \"cuda:0\" or another number is expected", device);
    if (cuda_check(cudaGetDeviceCount(&count)))
        return error_param(
            err, 400, "device",
            "device \"%.40s\": CUDA does not start (%s): no GPU, or no driver for it?", device,
            cuda_trouble());
    if (atoi(digits) >= count)
        return error_param(err, 400, "device", "there is no %s: this machine has %d CUDA device%s",
                           device, count, count == 1 ? "" : "s");
    return atoi(digits);
}

static int read_properties(struct cuda *cuda)
{
    struct cudaDeviceProp properties;

    if (cuda_check(cudaGetDeviceProperties(&properties, cuda->ordinal)))
        return -1;
    snprintf(cuda->isa, sizeof(cuda->isa), "sm_%d%d", properties.major, properties.minor);
    snprintf(cuda->name, sizeof(cuda->name), "%.255s", properties.name);
    return 0;
}

static int open_state(struct cuda *cuda)
{
    if (cuda_enter(cuda) || read_properties(cuda) ||
        cuda_check(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking)))
        return -1;
    cuda->staging = staging_open(cuda->stream);
    cuda->rotary = rotary_tables_open();
    cuda->readers = reader_pool_open();
    return cuda->staging && cuda->rotary && cuda->readers ? 0 : -1;
}

static int check_table(const struct backend *b, struct error *err)
{
    for (int i = 0; i < OP_COUNT; i++)
        if (!b->op[i] && !(i == OP_sdpa && b->numerics->sdpa == SDPA_NONE) &&
            !(b->numerics->lacks >> i & 1))
            return error_param(err, 400, "numerics", "numerics %s has no operation %s on %s",
                               b->numerics->name, op_name((enum op)i), b->device);
    return 0;
}

static int fill_table(struct backend *b, struct error *err)
{
    memcpy(b->op, ops, sizeof(ops));
    if (b->numerics->kernels == KERNELS_TORCH_CUDA) {
        b->prepare = aten_prepare;
        if (aten_open(b, err))
            return -1;
    } else {
        b->group[GROUP_LINEARS] = cuda_group_linears;
        b->group[GROUP_LINEAR_ADD] = cuda_group_linear_add;
        b->group[GROUP_GATED] = cuda_group_gated;
        b->group[GROUP_EACH] = cuda_group_each;
    }
    return check_table(b, err);
}

static void fill_functions(struct backend *b)
{
    b->alloc = cuda_alloc;
    b->free = cuda_free;
    b->copy = cuda_copy;
    b->read = cuda_read;
    b->weight_open = cuda_weight_open;
    b->weight_close = cuda_weight_close;
    b->enter = enter;
    b->trouble = trouble;
    b->reader_open = cuda_reader_open;
    b->reader_close = cuda_reader_close;
    b->reader_put = cuda_reader_put;
    b->reader_send = cuda_reader_send;
    b->reader_wait = cuda_reader_wait;
}

struct backend *backend_cuda_open(const char *device, const struct numerics *numerics,
                                  struct error *err)
{
    const int ordinal = read_ordinal(device, err);
    struct backend *b;
    struct cuda *cuda;

    if (ordinal < 0)
        return NULL;
    b = (struct backend *)calloc(1, sizeof(*b));
    cuda = (struct cuda *)calloc(1, sizeof(*cuda));
    if (!b || !cuda || !(b->device = strdup(device))) {
        error_set(err, 500, "no memory for a backend");
        free(b);
        free(cuda);
        return NULL;
    }
    b->numerics = numerics;
    b->isa = cuda->isa;
    b->hardware = cuda->name;
    b->state = cuda;
    b->alignment = COPIES_ALIGNMENT; /* as PyTorch's: cuBLAS chooses by it */
    cuda->ordinal = ordinal;
    fill_functions(b);
    if (open_state(cuda))
        error_set(err, 500, "%s cannot be opened (%s)", device,
                  cuda_trouble() ? cuda_trouble() : "no memory");
    else if (fill_table(b, err) == 0)
        return b;
    backend_cuda_close(b);
    return NULL;
}

void backend_cuda_close(struct backend *b)
{
    struct cuda *cuda = (struct cuda *)b->state;

    cuda_enter(cuda);
    aten_close(b);
    reader_pool_close(cuda->readers);
    rotary_tables_close(cuda->rotary);
    if (cuda->stream)
        cudaStreamSynchronize(cuda->stream);
    staging_close(cuda->staging);
    if (cuda->stream)
        cudaStreamDestroy(cuda->stream);
    free((void *)(uintptr_t)b->device);
    free(cuda);
    free(b);
}
