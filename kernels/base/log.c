/* log.c - see log.h. */
#include "kernels/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int enabled;

void log_enable(int verbose)
{
    enabled = verbose;
}

void log_line(const char *format, ...)
{
    char line[1024];
    struct timespec now;
    struct tm utc;
    size_t n;
    int more;
    va_list args;

    if (!enabled)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03ldZ ", now.tv_nsec / 1000000);
    va_start(args, format);
    more = vsnprintf(line + n, sizeof(line) - n - 1, format, args);
    va_end(args);
    if (more < 0)
        return;
    n += (size_t)more < sizeof(line) - n - 1 ? (size_t)more : sizeof(line) - n - 2;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 127)
            line[i] = '?';
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nobody to tell */
}
