/* memory.cpp - device memory is the host's, one malloc each, so that AddressSanitizer sees what
 * goes beyond; without it bytes behind each allocation are looked at when it is freed. */
#include "tests/emulated/cuda/memory.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/emulated/cuda/control.h"
#include "tests/emulated/cuda/launch.h"

#if defined(__SANITIZE_ADDRESS__)
enum { GUARD = 0 };
#else
enum { GUARD = 256 };
#endif
enum { ALIGNMENT = 256, GARBAGE = 0xff, GUARD_BYTE = 0xa5 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct allocation *allocations;
static int count, capacity;
static int fails_in = -1; /* allocations until one fails, 0: none will */

void emulated_fail_allocation(int nth)
{
    fails_in = nth;
}

int emulated_allocations(void)
{
    return count;
}

static int shall_fail(void)
{
    if (fails_in < 0)
        fails_in = environment_number("SAMEBIT_EMULATED_FAIL", 0);
    return fails_in > 0 && --fails_in == 0;
}

static int remember(struct allocation a)
{
    if (count == capacity) {
        const int wanted = capacity ? 2 * capacity : 64;
        void *grown = realloc(allocations, wanted * sizeof(*allocations));

        if (!grown)
            return -1;
        allocations = (struct allocation *)grown;
        capacity = wanted;
    }
    allocations[count++] = a;
    return 0;
}

static void *allocate(enum memory_kind kind, int device, size_t bytes)
{
    void *ptr = NULL;

    if (bytes > PTRDIFF_MAX - GUARD || shall_fail() ||
        posix_memalign(&ptr, ALIGNMENT, bytes + GUARD))
        return NULL;
    if (remember({(char *)ptr, bytes, kind, device})) {
        free(ptr);
        return NULL;
    }
    memset(ptr, GARBAGE, bytes);
    memset((char *)ptr + bytes, GUARD_BYTE, GUARD);
    return ptr;
}

void *memory_alloc(enum memory_kind kind, int device, size_t bytes)
{
    void *ptr;

    pthread_mutex_lock(&lock);
    ptr = allocate(kind, device, bytes);
    pthread_mutex_unlock(&lock);
    return ptr;
}

static void demand_guard(const struct allocation *a)
{
    for (int i = 0; i < GUARD; i++)
        if ((unsigned char)a->start[a->bytes + i] != GUARD_BYTE)
            emulated_fault("byte %d behind an allocation of %zu bytes was written", i, a->bytes);
}

void memory_free(enum memory_kind kind, void *ptr)
{
    int i = 0;

    pthread_mutex_lock(&lock);
    while (i < count && (allocations[i].start != ptr || allocations[i].kind != kind))
        i++;
    if (i == count)
        emulated_fault("%p is freed, which is no allocation of %s memory", ptr,
                       kind == MEMORY_DEVICE ? "device" : "pinned");
    demand_guard(&allocations[i]);
    allocations[i] = allocations[--count];
    pthread_mutex_unlock(&lock);
    free(ptr);
}

struct allocation memory_find(const void *ptr)
{
    struct allocation found = {NULL, 0, MEMORY_PAGEABLE, 0};
    const char *at = (const char *)ptr;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++)
        if (at >= allocations[i].start && at <= allocations[i].start + allocations[i].bytes)
            found = allocations[i];
    pthread_mutex_unlock(&lock);
    return found;
}

size_t memory_used(int device)
{
    size_t used = 0;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++)
        if (allocations[i].kind == MEMORY_DEVICE && allocations[i].device == device)
            used += allocations[i].bytes;
    pthread_mutex_unlock(&lock);
    return used;
}
