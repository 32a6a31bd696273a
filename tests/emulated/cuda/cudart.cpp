/* cudart.cpp - devices, errors and the log. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/emulated/cuda/cudart.h"

#include <pthread.h>
#include <stdarg.h>

#include "tests/emulated/cuda/control.h"
#include "tests/emulated/cuda/memory.h"
#include "tests/emulated/cuda/stream.h"

static const size_t DEVICE_BYTES = (size_t)80 << 30;

static __thread int device_now;
static __thread cudaError_t last_error;

/* ---- errors ---- */

cudaError_t refuse(cudaError_t error)
{
    last_error = error;
    return error;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;

    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled",
     "peer access is already enabled"},
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
        if (errors[i].error == error)
            return errors[i].name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
        if (errors[i].error == error)
            return errors[i].text;
    return "unrecognized error code";
}

/* ---- the log ---- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static struct emulated_counts counts;

struct emulated_counts emulated_count(void)
{
    struct emulated_counts now;

    pthread_mutex_lock(&log_lock);
    now = counts;
    pthread_mutex_unlock(&log_lock);
    return now;
}

__attribute__((format(printf, 1, 2))) static void log_line(const char *format, ...)
{
    static FILE *file;
    const char *path = getenv("SAMEBIT_EMULATED_LOG");
    va_list arguments;

    if (!path)
        return;
    if (!file && !(file = fopen(path, "ae")))
        emulated_fault("SAMEBIT_EMULATED_LOG=%s: cannot be written", path);
    va_start(arguments, format);
    vfprintf(file, format, arguments);
    va_end(arguments);
    fflush(file);
}

void count_copy(const char *direction, size_t bytes)
{
    pthread_mutex_lock(&log_lock);
    counts.copies++;
    counts.copied_bytes += (long long)bytes;
    log_line("copy %s %zu\n", direction, bytes);
    pthread_mutex_unlock(&log_lock);
}

void count_fill(size_t bytes)
{
    pthread_mutex_lock(&log_lock);
    counts.fills++;
    counts.filled_bytes += (long long)bytes;
    log_line("set %zu\n", bytes);
    pthread_mutex_unlock(&log_lock);
}

void count_launch(const char *name, dim3 g, dim3 b, size_t shared)
{
    pthread_mutex_lock(&log_lock);
    counts.launches++;
    log_line("launch %s %ux%ux%u %ux%ux%u %zu\n", name, g.x, g.y, g.z, b.x, b.y, b.z, shared);
    pthread_mutex_unlock(&log_lock);
}

/* ---- devices ---- */

static int device_count(void)
{
    return min(environment_number("SAMEBIT_EMULATED_DEVICES", 1), (int)DEVICES_MOST);
}

int current_device(void)
{
    return device_now;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = device_count();
    return *count ? cudaSuccess : refuse(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= device_count())
        return refuse(cudaErrorInvalidDevice);
    device_now = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = device_now;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device < 0 || device >= device_count())
        return refuse(cudaErrorInvalidDevice);
    *p = {};
    strcpy(p->name, "emulated");
    p->totalGlobalMem = DEVICE_BYTES;
    p->sharedMemPerBlock = SHARED_USUAL;
    p->sharedMemPerBlockOptin = SHARED_MOST;
    p->sharedMemPerMultiprocessor = SHARED_MOST + 1024;
    p->regsPerBlock = p->regsPerMultiprocessor = 64 << 10;
    p->warpSize = WARP;
    p->maxThreadsPerBlock = BLOCK_THREADS_MOST;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = BLOCK_THREADS_MOST;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 0xffff;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxBlocksPerMultiProcessor = 32;
    p->major = 9;
    p->multiProcessorCount = 132;
    p->l2CacheSize = 50 << 20;
    p->canMapHostMemory = p->unifiedAddressing = p->concurrentKernels = 1;
    p->asyncEngineCount = 3;
    p->pciBusID = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp p;

    if (cudaGetDeviceProperties(&p, device))
        return cudaErrorInvalidDevice;
    const struct {
        enum cudaDeviceAttr attribute;
        int value;
    } known[] = {
        {cudaDevAttrMaxThreadsPerBlock, p.maxThreadsPerBlock},
        {cudaDevAttrMaxSharedMemoryPerBlock, (int)p.sharedMemPerBlock},
        {cudaDevAttrWarpSize, p.warpSize},
        {cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
        {cudaDevAttrMaxThreadsPerMultiProcessor, p.maxThreadsPerMultiProcessor},
        {cudaDevAttrComputeCapabilityMajor, p.major},
        {cudaDevAttrComputeCapabilityMinor, p.minor},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, (int)p.sharedMemPerBlockOptin},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        if (known[i].attribute == attribute) {
            *value = known[i].value;
            return cudaSuccess;
        }
    }
    return refuse(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceSynchronize(void)
{
    streams_finish();
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = DEVICE_BYTES;
    *free_bytes = DEVICE_BYTES - min(DEVICE_BYTES, memory_used(device_now));
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    return cudaRuntimeGetVersion(version);
}
