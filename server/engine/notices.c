/* notices.c - see notices.h. */
#include "server/engine/notices.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void notices_add(struct notices *n, const char *format, ...)
{
    char **more = realloc(n->at, (size_t)(n->count + 1) * sizeof(*more));
    va_list args;

    if (!more) {
        n->failed = 1;
        return;
    }
    n->at = more;
    va_start(args, format);
    if (vasprintf(&n->at[n->count], format, args) < 0)
        n->failed = 1;
    else
        n->count++;
    va_end(args);
}

void notices_clear(struct notices *n)
{
    for (int i = 0; i < n->count; i++)
        free(n->at[i]);
    free(n->at);
    memset(n, 0, sizeof(*n));
}
