/* error.c - see error.h. */
#include "server/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set(struct error *err, int code, const char *param, const char *format, va_list args)
{
    if (!err || err->code)
        return;
    err->code = code;
    snprintf(err->param, sizeof(err->param), "%s", param);
    vsnprintf(err->text, sizeof(err->text), format, args);
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
    return -1;
}
