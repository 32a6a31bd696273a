/* cudart.c - a stand-in for libcudart.so.13: programs built by nvcc start and run with it, on a device
 * that has memory and streams and computes nothing.
 *
 * It shows what a program asks of CUDA and what its host code costs: memory is the host's, copies are
 * made at once, launches are counted and, with SAMEBIT_STANDIN_LOG=FILE, written down as the emulator
 * writes them (tests/emulated/cuda/cudart.h): "launch NAME GRID BLOCK SHARED", "copy WAY BYTES".
 * The device is an H100 by its properties: 9.0, 132 multiprocessors. */
#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FUNCTIONS = 4096 };

static struct {
    const void *host;
    const char *name;
} functions[FUNCTIONS];
static int function_count;

static __thread struct {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
} configuration;

static FILE *log_file(void)
{
    static FILE *file;
    static int asked;
    const char *path = asked ? NULL : getenv("SAMEBIT_STANDIN_LOG");

    asked = 1;
    if (path && (file = fopen(path, "a")))
        setvbuf(file, NULL, _IOLBF, 0);
    return file;
}

static cudaError_t told(const char *what, size_t bytes)
{
    FILE *file = log_file();

    if (file)
        fprintf(file, "%s %zu\n", what, bytes);
    return cudaSuccess;
}

/* ---- what nvcc's code calls ---- */

void **__cudaRegisterFatBinary(void *binary)
{
    static void *handle;

    (void)binary;
    return &handle;
}

void __cudaRegisterFatBinaryEnd(void **handle)
{
    (void)handle;
}

void __cudaUnregisterFatBinary(void **handle)
{
    (void)handle;
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int limit, uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid, int *warp)
{
    (void)handle, (void)device, (void)limit, (void)tid, (void)bid, (void)block, (void)grid,
        (void)warp;
    if (function_count < FUNCTIONS) {
        functions[function_count].host = host;
        functions[function_count++].name = name;
    }
}

void __cudaRegisterVar(void **handle, char *host, char *address, const char *name, int external,
                       size_t size, int constant, int global)
{
    (void)handle, (void)host, (void)address, (void)name, (void)external, (void)size, (void)constant;
    (void)global;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared,
                                     struct CUstream_st *stream)
{
    configuration.grid = grid;
    configuration.block = block;
    configuration.shared = shared;
    configuration.stream = stream;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream)
{
    *grid = configuration.grid;
    *block = configuration.block;
    *shared = configuration.shared;
    *(cudaStream_t *)stream = configuration.stream;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host)
{
    *kernel = (cudaKernel_t)(uintptr_t)host;
    return cudaSuccess;
}

static const char *name_of(const void *host)
{
    for (int i = 0; i < function_count; i++)
        if (functions[i].host == host)
            return functions[i].name;
    return "?";
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments,
                               size_t shared, cudaStream_t stream)
{
    FILE *file = log_file();

    (void)arguments, (void)stream;
    if (file)
        fprintf(file, "launch %s %ux%ux%u %ux%ux%u %zu\n", name_of((const void *)kernel), grid.x,
                grid.y, grid.z, block.x, block.y, block.z, shared);
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void *host, dim3 grid, dim3 block, void **arguments,
                             size_t shared, cudaStream_t stream)
{
    return __cudaLaunchKernel((cudaKernel_t)(uintptr_t)host, grid, block, arguments, shared,
                              stream);
}

/* ---- memory ---- */

static cudaError_t take(void **out, size_t bytes)
{
    *out = aligned_alloc(512, (bytes + 511) / 512 * 512);
    return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    return take(out, bytes);
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    return take(out, bytes);
}

cudaError_t cudaFree(void *pointer)
{
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *pointer)
{
    return cudaFree(pointer);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    static const char *const ways[] = {"copy host-to-host", "copy host-to-device",
                                       "copy device-to-host", "copy device-to-device",
                                       "copy default"};

    (void)stream;
    memmove(to, from, bytes);
    return told(ways[kind], bytes);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    return cudaMemcpyAsync(to, from, bytes, kind, NULL);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    memset(to, value, bytes);
    return told("fill", bytes);
}

/* ---- the device ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device ? cudaErrorInvalidDevice : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    (void)device;
    memset(p, 0, sizeof(*p));
    strcpy(p->name, "stand-in");
    p->major = 9;
    p->multiProcessorCount = 132;
    p->warpSize = 32;
    p->totalGlobalMem = (size_t)80 << 30;
    p->sharedMemPerBlock = 48 << 10;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    (void)device;
    *value = attribute == cudaDevAttrMultiProcessorCount      ? 132
             : attribute == cudaDevAttrComputeCapabilityMajor ? 9
                                                              : 0;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error)
{
    (void)error;
    return "an error of the stand-in";
}

/* ---- streams and events: all is done at once ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    return take((void **)stream, 1);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    return cudaFree(stream);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)stream, (void)event, (void)flags;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    return take((void **)event, 1);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    return cudaFree(event);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)event, (void)stream;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return cudaSuccess;
}
