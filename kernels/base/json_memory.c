/* json_memory.c - see json_memory.h. */
#include "kernels/base/json_memory.h"

#include <jansson.h>
#include <stdlib.h>

static void *(*source)(size_t size);
static _Thread_local int failed;

static void *take(size_t size)
{
    void *data = source(size);

    failed |= !data;
    return data;
}

void json_memory_watch(void *(*allocate)(size_t size))
{
    source = allocate;
    json_set_alloc_funcs(take, free);
}

int json_memory_failed(void)
{
    const int before = failed;

    failed = 0;
    return before;
}
