/* memory.h - every allocation of device and pinned memory, and whether a pointer lies in one. */
#ifndef SAMEBIT_CUDA_EMULATED_MEMORY_H
#define SAMEBIT_CUDA_EMULATED_MEMORY_H

#include <stddef.h>

enum memory_kind { MEMORY_PAGEABLE, MEMORY_PINNED, MEMORY_DEVICE };

struct allocation {
    char *start;
    size_t bytes;
    enum memory_kind kind;
    int device;
};

/* 256-byte aligned, not zeroed: full of NaN.  NULL when there is none left, or it shall fail. */
void *memory_alloc(enum memory_kind kind, int device, size_t bytes);
/* Ends the process when `ptr` is not the start of an allocation of that kind. */
void memory_free(enum memory_kind kind, void *ptr);

/* The allocation that a pointer lies in, its end included.  One of kind MEMORY_PAGEABLE: none. */
struct allocation memory_find(const void *ptr);

size_t memory_used(int device); /* bytes */

#endif
