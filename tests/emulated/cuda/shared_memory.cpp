/* shared_memory.cpp - where static __shared__ variables lie.  They are thread_local variables local
 * to functions; their mangled names tell them from others. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/emulated/cuda/block.h"

#include <elf.h>
#include <link.h>
#include <pthread.h>

#include "tests/emulated/cuda/symbols.h"

struct range {
    size_t offset, bytes; /* in a thread's block of thread_local variables */
};
static struct range *ranges;
static int range_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static __thread char *base; /* of the calling thread's block */

/* _ZZ begins the name of what is local to a C++ function. */
static void take_range(const struct symbol *symbol, void *)
{
    if (symbol->type != STT_TLS || strncmp(symbol->name, "_ZZ", 3) != 0)
        return;
    ranges = (struct range *)realloc(ranges, (range_count + 1) * sizeof(*ranges));
    if (!ranges)
        emulated_fault("no memory for the places of __shared__ variables");
    ranges[range_count++] = {symbol->value, symbol->bytes};
}

static void find_ranges(void)
{
    symbols_visit(take_range, NULL);
}

/* The first object that the loader names is the program. */
static int take_base(struct dl_phdr_info *object, size_t, void *)
{
    base = (char *)object->dlpi_tls_data;
    return 1;
}

void shared_memory_fill(int byte)
{
    pthread_once(&once, find_ranges);
    if (range_count > 0 && !base)
        dl_iterate_phdr(take_base, NULL);
    for (int i = 0; i < range_count; i++)
        memset(base + ranges[i].offset, byte, ranges[i].bytes);
}
