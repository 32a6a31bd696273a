/* flush_x86.h - denormals as zeros, of inputs and results, as AVX512_BF16 and AMX have them. */
#ifndef SAMEBIT_CPU_FLUSH_X86_H
#define SAMEBIT_CPU_FLUSH_X86_H

#include <xmmintrin.h>

enum { FLUSH_MAY_FAIL = 0 };

typedef unsigned flush_mode;

/* What is computed until flush_end has to be in a function that is not inlined. */
static inline flush_mode flush_begin(void)
{
    enum { FTZ_AND_DAZ = 0x8040 };
    const unsigned mode = _mm_getcsr();

    _mm_setcsr(mode | FTZ_AND_DAZ);
    return mode;
}

/* Returns whether a result may be wrong, so that all have to be computed one by one: never here. */
static inline int flush_end(flush_mode mode)
{
    _mm_setcsr(mode);
    return 0;
}

#endif
