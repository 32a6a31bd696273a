/* json_memory.c - see json_memory.h. */
#include "kernels/base/json_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void *(*source)(size_t size);
static _Thread_local int failed;

/* What jansson cannot go without while it reads: the text of a token, which grows by powers of two from
 * 16 up to twice the JSON's size, all of them together four times.  Lists and hash tables grow
 * like that too; of these at most one does before the value that it grew for finds no memory. */
static _Thread_local struct {
    char *data;
    size_t size, used;
} reserve;

enum { TIMES = 16, LEAST = 4096, ALIGNED = 16 };

static void *from_reserve(size_t size)
{
    void *data = reserve.data + reserve.used;

    if (size < ALIGNED || (size & (size - 1)) || size > reserve.size - reserve.used)
        return NULL;
    reserve.used += size;
    return data;
}

static void *take(size_t size)
{
    void *data = reserve.data && failed ? NULL : source(size);

    failed |= !data;
    return data || !reserve.data ? data : from_reserve(size);
}

static void give_back(void *data)
{
    const uintptr_t at = (uintptr_t)data, begin = (uintptr_t)reserve.data;

    if (!reserve.data || at < begin || at >= begin + reserve.size)
        free(data);
}

void json_memory_watch(void *(*allocate)(size_t size))
{
    source = allocate;
    json_set_alloc_funcs(take, give_back);
}

int json_memory_failed(void)
{
    const int before = failed;

    failed = 0;
    return before;
}

json_t *json_memory_read(const char *text, size_t size, size_t flags, json_error_t *fault)
{
    json_error_t unread;
    json_t *root = NULL;

    fault = fault ? fault : &unread;
    memset(fault, 0, sizeof(*fault));
    failed = 0;
    reserve.size = size < SIZE_MAX / TIMES - LEAST ? size * TIMES + LEAST : 0;
    reserve.used = 0;
    reserve.data = reserve.size ? malloc(reserve.size) : NULL;
    failed = !reserve.data;
    if (!failed)
        root = json_loadb(text, size, flags, fault);
    if (failed) {
        json_decref(root);
        root = NULL;
        strcpy(fault->text, "no memory");
    }
    free(reserve.data);
    reserve.data = NULL;
    return root;
}

char *json_memory_text(const json_t *value, size_t flags)
{
    const int before = failed;
    char *text;

    failed = 0;
    text = json_dumps(value, flags);
    if (failed) {
        free(text);
        text = NULL;
    }
    failed |= before;
    return text;
}
