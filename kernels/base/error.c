/* error.c - see error.h. */
#include "kernels/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Returns the bytes of the UTF-8 character at p, 0 when there is none. */
static int character(const unsigned char *p)
{
    int more = *p < 0x80                 ? 0
               : *p >= 0xc2 && *p < 0xe0 ? 1
               : *p >= 0xe0 && *p < 0xf0 ? 2
               : *p >= 0xf0 && *p < 0xf5 ? 3
                                         : -1;

    for (int i = 1; i <= more; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
        (*p == 0xf4 && p[1] > 0x8f))
        return 0;
    return more + 1;
}

/* Makes an error's text one line of UTF-8, so that it fits a log and a JSON string: it may quote any
 * bytes of a file or request, or end in the middle of a character. */
static void clean(char *text)
{
    unsigned char *p = (unsigned char *)text;

    while (*p) {
        int size = character(p);

        if (size == 0 || *p < 0x20 || *p == 0x7f) {
            *p = '?';
            size = 1;
        }
        p += size;
    }
}

static void set(struct error *err, int code, const char *param, const char *format, va_list args)
{
    if (!err || err->code)
        return;
    err->code = code;
    snprintf(err->param, sizeof(err->param), "%s", param);
    vsnprintf(err->text, sizeof(err->text), format, args);
    clean(err->param);
    clean(err->text);
}

int error_set(struct error *err, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set(err, code, "", format, args);
    va_end(args);
    return -1;
}

int error_param(struct error *err, int code, const char *param, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set(err, code, param, format, args);
    va_end(args);
    return -1;
}

int error_prefix(struct error *err, const char *format, ...)
{
    char old[sizeof(err->text)];
    va_list args;
    int n;

    if (!err)
        return -1;
    memcpy(old, err->text, sizeof(old));
    va_start(args, format);
    n = vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(err->text))
        snprintf(err->text + n, sizeof(err->text) - (size_t)n, "%s", old);
    clean(err->text);
    return -1;
}
