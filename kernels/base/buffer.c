/* buffer.c - see buffer.h. */
#include "kernels/base/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int reserve(struct buffer *b, size_t more)
{
    size_t capacity = b->capacity ? b->capacity : 256;
    char *data;

    if (b->failed || more > SIZE_MAX / 2 - b->size) {
        b->failed = 1;
        return -1;
    }
    if (b->size + more < b->capacity)
        return 0;
    while (capacity <= b->size + more)
        capacity *= 2;
    data = realloc(b->data, capacity);
    if (!data) {
        b->failed = 1;
        return -1;
    }
    b->data = data;
    b->capacity = capacity;
    return 0;
}

char *buffer_room(struct buffer *b, size_t more)
{
    return reserve(b, more) ? NULL : b->data + b->size;
}

void buffer_append(struct buffer *b, const void *bytes, size_t size)
{
    if (reserve(b, size))
        return;
    if (size)
        memcpy(b->data + b->size, bytes, size);
    b->size += size;
    b->data[b->size] = '\0';
}

void buffer_text(struct buffer *b, const char *text)
{
    buffer_append(b, text, strlen(text));
}

void buffer_format(struct buffer *b, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || reserve(b, (size_t)n))
        return;
    va_start(args, format);
    vsnprintf(b->data + b->size, (size_t)n + 1, format, args);
    va_end(args);
    b->size += (size_t)n;
}

void buffer_clear(struct buffer *b)
{
    free(b->data);
    memset(b, 0, sizeof(*b));
}
