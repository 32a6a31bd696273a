/* emulator.h - CUDA's kernel language for a C++ compiler: the threads of a block are fibers of one
 * OS thread, blocks are spread over a pool of OS threads.
 *
 * What CUDA leaves undefined ends the process with a message: lanes of a mask that meet different
 * warp primitives, or none; a shuffle that reads a lane outside the mask or the block; threads of a
 * block at different barriers, or ended while others wait at one; a pointer argument that the
 * device cannot follow.  See control.h for the order of threads.
 *
 * A static __shared__ variable is one per OS thread, that is, per running block; it must be local
 * to a function.
 */
#ifndef SAMEBIT_CUDA_EMULATED_EMULATOR_H
#define SAMEBIT_CUDA_EMULATED_EMULATOR_H

#if defined(__FAST_MATH__)
#error "kernels need IEEE arithmetic: no -ffast-math"
#endif

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmath>
#include <tuple>
#include <type_traits>

#include "tests/emulated/cuda/cudart.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local

#include "tests/emulated/cuda/vector_types.h"

/* ---- the block that this OS thread runs ---- */

struct emulated_block {
    uint3 thread; /* of the fiber that runs now */
    int lane;
    uint3 index;
    dim3 dim, grid;
    void *dynamic_shared;
};
extern __thread struct emulated_block *emulated_now;

#define threadIdx (emulated_now->thread)
#define blockIdx (emulated_now->index)
#define blockDim (emulated_now->dim)
#define gridDim (emulated_now->grid)
static const int warpSize = 32;

#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emulated_now->dynamic_shared)

/* ---- barriers ---- */

#define EMULATED_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* Returns for how many threads of the block `predicate` was not zero. */
int emulated_barrier(int predicate, const char *file, int line);

static inline void __syncthreads(EMULATED_HERE)
{
    emulated_barrier(0, file, line);
}

static inline int __syncthreads_count(int predicate, EMULATED_HERE)
{
    return emulated_barrier(predicate != 0, file, line);
}

static inline int __syncthreads_or(int predicate, EMULATED_HERE)
{
    return emulated_barrier(predicate != 0, file, line) != 0;
}

static inline int __syncthreads_and(int predicate, EMULATED_HERE)
{
    return emulated_barrier(predicate == 0, file, line) == 0;
}

/* Never changes what another thread of a block sees here: they take turns on one OS thread. */
static inline void __threadfence_block(void)
{
}

static inline void __threadfence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ---- warp primitives ---- */

enum emulated_primitive { EMULATED_SYNC, EMULATED_SHUFFLE, EMULATED_BALLOT };

/* source: the lane that a shuffle reads.  Returns its value; of a ballot, the mask. */
uint64_t emulated_warp(enum emulated_primitive primitive, unsigned mask, uint64_t value, int source,
                       const char *file, int line);

static inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_HERE)
{
    emulated_warp(EMULATED_SYNC, mask, 0, 0, file, line);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATED_HERE)
{
    return (unsigned)emulated_warp(EMULATED_BALLOT, mask, predicate != 0, 0, file, line);
}

static inline int __any_sync(unsigned mask, int predicate, EMULATED_HERE)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, EMULATED_HERE)
{
    return __ballot_sync(mask, !predicate, file, line) == 0;
}

template <class T>
static inline T emulated_shuffle(unsigned mask, T value, int source, const char *file, int line)
{
    uint64_t bits = 0;

    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles 4 or 8 bytes");
    memcpy(&bits, &value, sizeof(T));
    bits = emulated_warp(EMULATED_SHUFFLE, mask, bits, source, file, line);
    memcpy(&value, &bits, sizeof(T));
    return value;
}

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATED_HERE)
{
    const int first = emulated_now->lane & ~(width - 1);

    return emulated_shuffle(mask, value, first | (source & (width - 1)), file, line);
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                 EMULATED_HERE)
{
    const int lane = emulated_now->lane, within = (lane & (width - 1)) + (int)delta;

    return emulated_shuffle(mask, value, within < width ? lane + (int)delta : lane, file, line);
}

template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                               EMULATED_HERE)
{
    const int lane = emulated_now->lane, within = (lane & (width - 1)) - (int)delta;

    return emulated_shuffle(mask, value, within >= 0 ? lane - (int)delta : lane, file, line);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, EMULATED_HERE)
{
    const int lane = emulated_now->lane, source = lane ^ flip;
    const int last = lane | (width - 1); /* of this lane's segment; earlier ones may be read */

    return emulated_shuffle(mask, value, source <= last ? source : lane, file, line);
}

/* ---- launches ---- */

/* What a launch runs in each thread: `run` with the arguments, which it owns. */
struct emulated_body {
    void (*run)(const void *arguments);
    void (*end)(void *arguments);
    void *arguments;
};
void emulated_launch(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                     struct emulated_body body);

/* Ends the process where a device cannot follow a pointer among these bytes.  In a struct each word
 * that is an address of the process counts; padding has been cleared. */
void emulated_check_argument(const void *kernel, cudaStream_t stream, int number, const void *value,
                             size_t bytes, int is_pointer);

template <class... Parameters> struct emulated_call {
    void (*kernel)(Parameters...);
    std::tuple<typename std::decay<Parameters>::type...> arguments;

    static void run(const void *call)
    {
        const emulated_call *c = static_cast<const emulated_call *>(call);

        std::apply(c->kernel, c->arguments);
    }
    static void end(void *call)
    {
        delete static_cast<emulated_call *>(call);
    }
};

template <class... Parameters>
static inline void emulated_enqueue(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                                    size_t shared, cudaStream_t stream,
                                    typename std::common_type<Parameters>::type... arguments)
{
    using call = emulated_call<Parameters...>;
    int number = 0;

    (void)number;
    (__builtin_clear_padding(&arguments), ...);
    (emulated_check_argument((const void *)kernel, stream, ++number, &arguments, sizeof(arguments),
                             std::is_pointer<Parameters>::value),
     ...);
    emulated_launch((const void *)kernel, grid, block, shared, stream,
                    emulated_body{call::run, call::end, new call{kernel, {arguments...}}});
}

#define LAUNCH(kernel, grid, block, shared, stream, ...)                                           \
    emulated_enqueue(kernel, (grid), (block), (shared), (stream), __VA_ARGS__)

#include "tests/emulated/cuda/device_functions.h"

#endif
