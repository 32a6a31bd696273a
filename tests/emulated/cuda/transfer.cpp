/* transfer.cpp - memory, copies, fills and launches: checked, logged and put on a stream. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sys/mman.h>

#include "tests/emulated/cuda/memory.h"
#include "tests/emulated/cuda/stream.h"
#include "tests/emulated/cuda/symbols.h"

enum { KERNELS_MOST = 256 };

/* ---- memory ---- */

cudaError_t cudaMalloc(void **ptr, size_t bytes)
{
    *ptr = bytes ? memory_alloc(MEMORY_DEVICE, current_device(), bytes) : NULL;
    return *ptr || !bytes ? cudaSuccess : refuse(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *ptr)
{
    streams_finish();
    if (ptr)
        memory_free(MEMORY_DEVICE, ptr);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **ptr, size_t bytes)
{
    *ptr = bytes ? memory_alloc(MEMORY_PINNED, current_device(), bytes) : NULL;
    return *ptr || !bytes ? cudaSuccess : refuse(cudaErrorMemoryAllocation);
}

cudaError_t cudaHostAlloc(void **ptr, size_t bytes, unsigned flags)
{
    (void)flags;
    return cudaMallocHost(ptr, bytes);
}

cudaError_t cudaFreeHost(void *ptr)
{
    streams_finish();
    if (ptr)
        memory_free(MEMORY_PINNED, ptr);
    return cudaSuccess;
}

/* ---- copies ---- */

/* From the first byte of a region of `height` rows to behind its last one. */
static size_t extent(size_t pitch, size_t width, size_t height)
{
    return height ? (height - 1) * pitch + width : 0;
}

/* Returns where the region lies, which must be within one allocation where it is the device's. */
static enum memory_kind demand_region(const char *what, const char *side, const void *start,
                                      size_t bytes)
{
    const struct allocation a = memory_find(start);

    if (a.kind != MEMORY_PAGEABLE && bytes > (size_t)(a.start + a.bytes - (const char *)start))
        emulated_fault("%s: %zu bytes at its %s, %zu bytes before an allocation's end", what, bytes,
                       side, (size_t)(a.start + a.bytes - (const char *)start));
    if (!start && bytes)
        emulated_fault("%s: its %s is NULL", what, side);
    return a.kind;
}

static void demand_kind(const char *what, enum cudaMemcpyKind kind, enum memory_kind dst,
                        enum memory_kind src)
{
    const int to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const int from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;

    if (kind != cudaMemcpyDefault &&
        (to_device != (dst == MEMORY_DEVICE) || from_device != (src == MEMORY_DEVICE)))
        emulated_fault("%s: its kind is not where its pointers lie (%s to %s)", what,
                       src == MEMORY_DEVICE ? "device" : "host",
                       dst == MEMORY_DEVICE ? "device" : "host");
}

static const char *direction(enum memory_kind dst, enum memory_kind src)
{
    if (src == MEMORY_DEVICE)
        return dst == MEMORY_DEVICE ? "device-to-device" : "device-to-host";
    return dst == MEMORY_DEVICE ? "host-to-device" : "host-to-host";
}

/* A copy from or to pageable memory is done when the call returns, as in CUDA. */
static cudaError_t put_copy(const char *what, const struct copy *copy, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    struct work work = {};
    enum memory_kind dst, src;

    if (copy->width > copy->dst_pitch || copy->width > copy->src_pitch)
        return refuse(cudaErrorInvalidValue);
    if (!copy->width || !copy->height)
        return cudaSuccess;
    dst = demand_region(what, "destination", copy->dst,
                        extent(copy->dst_pitch, copy->width, copy->height));
    src = demand_region(what, "source", copy->src,
                        extent(copy->src_pitch, copy->width, copy->height));
    demand_kind(what, kind, dst, src);
    count_copy(direction(dst, src), copy->width * copy->height);
    work.kind = WORK_COPY;
    work.copy = *copy;
    stream_put(stream, &work, dst == MEMORY_PAGEABLE || src == MEMORY_PAGEABLE, what);
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    const struct copy copy = {dst, src, dst_pitch, src_pitch, width, height};

    return put_copy("cudaMemcpy2DAsync", &copy, kind, stream);
}

cudaError_t cudaMemcpy2D(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                         size_t width, size_t height, enum cudaMemcpyKind kind)
{
    const struct copy copy = {dst, src, dst_pitch, src_pitch, width, height};

    return put_copy("cudaMemcpy2D", &copy, kind, NULL);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    const struct copy copy = {dst, src, bytes, bytes, bytes, 1};

    return put_copy("cudaMemcpyAsync", &copy, kind, stream);
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    const struct copy copy = {dst, src, bytes, bytes, bytes, 1};

    return put_copy("cudaMemcpy", &copy, kind, NULL);
}

static void demand_device(const char *what, const void *ptr, int device)
{
    const struct allocation a = memory_find(ptr);

    if (a.kind != MEMORY_DEVICE || a.device != device)
        emulated_fault("%s: %p is no memory of device %d", what, ptr, device);
}

cudaError_t cudaMemcpyPeerAsync(void *dst, int dst_device, const void *src, int src_device,
                                size_t bytes, cudaStream_t stream)
{
    const struct copy copy = {dst, src, bytes, bytes, bytes, 1};

    if (bytes) {
        demand_device("cudaMemcpyPeerAsync", dst, dst_device);
        demand_device("cudaMemcpyPeerAsync", src, src_device);
    }
    return put_copy("cudaMemcpyPeerAsync", &copy, cudaMemcpyDeviceToDevice, stream);
}

cudaError_t cudaMemsetAsync(void *ptr, int value, size_t bytes, cudaStream_t stream)
{
    struct work work = {};

    if (!bytes)
        return cudaSuccess;
    if (demand_region("cudaMemsetAsync", "destination", ptr, bytes) == MEMORY_PAGEABLE)
        emulated_fault("cudaMemsetAsync: memory that the device cannot reach");
    count_fill(bytes);
    work.kind = WORK_FILL;
    work.fill = {ptr, value, bytes};
    stream_put(stream, &work, 0, "cudaMemsetAsync");
    return cudaSuccess;
}

cudaError_t cudaMemset(void *ptr, int value, size_t bytes)
{
    return cudaMemsetAsync(ptr, value, bytes, NULL);
}

/* ---- launches ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    const void *kernel;
    size_t shared;
} allowed[KERNELS_MOST];
static int allowed_count;

/* The dynamic shared memory that a kernel may ask for; set: allows it from now on. */
static size_t shared_most(const void *kernel, size_t set)
{
    size_t most = SHARED_USUAL;
    int i = 0;

    pthread_mutex_lock(&lock);
    while (i < allowed_count && allowed[i].kernel != kernel)
        i++;
    if (i < allowed_count)
        most = allowed[i].shared;
    if (set && i < KERNELS_MOST) {
        allowed[i] = {kernel, set};
        allowed_count = max(allowed_count, i + 1);
    }
    pthread_mutex_unlock(&lock);
    return most;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || value > SHARED_MOST)
        return refuse(cudaErrorInvalidValue);
    shared_most(kernel, max((size_t)value, (size_t)SHARED_USUAL));
    return cudaSuccess;
}

/* Peer access is one way; a device reaches its own memory. */
static int peers[DEVICES_MOST][DEVICES_MOST];

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    int count = 0;

    cudaGetDeviceCount(&count);
    if (device < 0 || device >= count || peer < 0 || peer >= count)
        return refuse(cudaErrorInvalidDevice);
    *can = device != peer;
    return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags)
{
    int can = 0;

    if (flags || cudaDeviceCanAccessPeer(&can, current_device(), peer) || !can)
        return refuse(cudaErrorInvalidDevice);
    if (peers[current_device()][peer])
        return refuse(cudaErrorPeerAccessAlreadyEnabled);
    peers[current_device()][peer] = 1;
    return cudaSuccess;
}

/* Whether a number is an address of the process.  Its program, heap and stacks lie above `least`;
 * what AddressSanitizer maps below would make pairs of small integers look like addresses. */
static int is_mapped(uintptr_t address)
{
    const uintptr_t least = (uintptr_t)0x50 << 40, page = 4096;

    return address >= least && msync((void *)(address / page * page), page, MS_ASYNC) == 0;
}

static void demand_reachable(const char *name, int number, const void *ptr, int device)
{
    const struct allocation a = memory_find(ptr);

    if (a.kind == MEMORY_PAGEABLE)
        emulated_fault("%s: argument %d holds %p, a pointer to the host's memory", name, number,
                       ptr);
    if (a.kind == MEMORY_DEVICE && a.device != device && !peers[device][a.device])
        emulated_fault("%s: argument %d points to memory of device %d, the stream is of %d", name,
                       number, a.device, device);
}

/* A struct is searched for words that are addresses. */
void emulated_check_argument(const void *kernel, cudaStream_t stream, int number, const void *value,
                             size_t bytes, int is_pointer)
{
    const char *name = kernel_name(kernel);
    const int device = stream_device(stream, name);

    for (size_t i = 0; i + sizeof(uintptr_t) <= bytes; i += sizeof(uintptr_t)) {
        uintptr_t word;

        memcpy(&word, (const char *)value + i, sizeof(word));
        if (word && (is_pointer || is_mapped(word)))
            demand_reachable(name, number, (const void *)word, device);
    }
}

static cudaError_t refused(const void *kernel, dim3 g, dim3 b, size_t shared)
{
    const uint64_t threads = (uint64_t)b.x * b.y * b.z;

    if (!threads || threads > BLOCK_THREADS_MOST || b.z > 64 || !g.x || !g.y || !g.z ||
        g.x > 0x7fffffffu || g.y > 0xffff || g.z > 0xffff)
        return cudaErrorInvalidConfiguration;
    return shared > shared_most(kernel, 0) ? cudaErrorInvalidValue : cudaSuccess;
}

void emulated_launch(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                     struct emulated_body body)
{
    const char *name = kernel_name(kernel);
    const cudaError_t error = refused(kernel, grid, block, shared);
    struct work work = {};

    if (stream_device(stream, name) != current_device())
        emulated_fault("%s: launched on a stream of device %d while device %d is current", name,
                       stream_device(stream, name), current_device());
    if (error) {
        body.end(body.arguments);
        refuse(error);
        return;
    }
    count_launch(name, grid, block, shared);
    work.kind = WORK_LAUNCH;
    work.launch = {name, grid, block, shared, body, grid_order()};
    stream_put(stream, &work, 0, name);
}
