/* flush_neon.h - denormals as zeros, of inputs and results, as nearly as ARM has them.
 *
 * FPCR.FZ takes denormal inputs as zeros, as numerics.h demands, but makes a zero of a result that is
 * below the least normal number before it is rounded, not after: one that rounds up to that number
 * would be lost.  FPSR.UFC tells whether any result became zero.  Where none did, the results are those
 * of numerics.h; where one did, they have to be computed again without FZ, and each be looked at. */
#ifndef SAMEBIT_CPU_FLUSH_NEON_H
#define SAMEBIT_CPU_FLUSH_NEON_H

#include <stdint.h>

enum { FLUSH_MAY_FAIL = 1 };

typedef uint64_t flush_mode;

/* What is computed until flush_end has to be in a function that is not inlined. */
static inline flush_mode flush_begin(void)
{
    enum { FZ = 1 << 24 };
    uint64_t mode;

    __asm__ volatile("mrs %0, fpcr" : "=r"(mode)::"memory");
    __asm__ volatile("msr fpsr, xzr\n\tmsr fpcr, %0" ::"r"(mode | FZ) : "memory");
    return mode;
}

/* Returns whether a result has been flushed to zero since flushing was switched on. */
static inline int flush_happened(void)
{
    enum { UFC = 1 << 3 };
    uint64_t flags;

    __asm__ volatile("mrs %0, fpsr" : "=r"(flags)::"memory");
    return (flags & UFC) != 0;
}

/* Returns whether a result may be wrong. */
static inline int flush_end(flush_mode mode)
{
    const int happened = flush_happened();

    __asm__ volatile("msr fpcr, %0" ::"r"(mode) : "memory");
    return happened;
}

#endif
