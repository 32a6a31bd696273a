/* buffer.h - growable bytes. */
#ifndef SAMEBIT_BUFFER_H
#define SAMEBIT_BUFFER_H

#include <stddef.h>

/* Initialize with zeros.  After a failed allocation `failed` stays set and appends do nothing, so
 * that a caller checks once, at the end. */
struct buffer {
    char *data; /* size bytes and a terminating NUL */
    size_t size, capacity;
    int failed;
};

void buffer_append(struct buffer *b, const void *bytes, size_t size);
/* Makes room for `more` bytes and returns where they begin, or NULL.  The caller writes n of them and
 * adds n to size; a NUL behind them is the caller's to write, too. */
char *buffer_room(struct buffer *b, size_t more);
void buffer_text(struct buffer *b, const char *text);
void buffer_format(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_clear(struct buffer *b); /* frees; the buffer is empty afterwards */

#endif
