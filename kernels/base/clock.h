/* clock.h - time that only goes forward. */
#ifndef SAMEBIT_CLOCK_H
#define SAMEBIT_CLOCK_H

#include <stdint.h>
#include <time.h>

enum { CLOCK_SECOND = 1000000000 };

/* Returns nanoseconds since some fixed moment. */
static inline int64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * CLOCK_SECOND + t.tv_nsec;
}

#endif
