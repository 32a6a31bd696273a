/* neon.h - what the files for ARM share. */
#ifndef SAMEBIT_CPU_NEON_H
#define SAMEBIT_CPU_NEON_H

#include <arm_neon.h>

/* Transposes four rows of four words: word i of a[j] goes to to[i * step + j]. */
static inline void neon_store_turned(const uint32x4_t *a, uint32_t *to, int64_t step)
{
    const uint64x2_t even01 = vreinterpretq_u64_u32(vtrn1q_u32(a[0], a[1]));
    const uint64x2_t even23 = vreinterpretq_u64_u32(vtrn1q_u32(a[2], a[3]));
    const uint64x2_t odd01 = vreinterpretq_u64_u32(vtrn2q_u32(a[0], a[1]));
    const uint64x2_t odd23 = vreinterpretq_u64_u32(vtrn2q_u32(a[2], a[3]));

    vst1q_u32(to, vreinterpretq_u32_u64(vtrn1q_u64(even01, even23)));
    vst1q_u32(to + step, vreinterpretq_u32_u64(vtrn1q_u64(odd01, odd23)));
    vst1q_u32(to + 2 * step, vreinterpretq_u32_u64(vtrn2q_u64(even01, even23)));
    vst1q_u32(to + 3 * step, vreinterpretq_u32_u64(vtrn2q_u64(odd01, odd23)));
}

#endif
