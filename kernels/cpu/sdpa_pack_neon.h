/* sdpa_pack_neon.h - the packing functions that sdpa_block.h needs, with NEON. */
#ifndef SAMEBIT_CPU_SDPA_PACK_NEON_H
#define SAMEBIT_CPU_SDPA_PACK_NEON_H

#include "kernels/cpu/neon.h"
#include "kernels/cpu/flush_neon.h"
#include "kernels/cpu/sdpa.h"

static inline uint16x8_t load_eight(const bf16 *from)
{
    return from ? vld1q_u16(from) : vdupq_n_u16(0);
}

/* ---- magnitudes seen ---- */

struct seen_sizes {
    uint16x8_t most, least; /* least: minus one, so that a zero is the greatest */
};

static inline struct seen_sizes no_sizes(void)
{
    return (struct seen_sizes){vdupq_n_u16(0), vdupq_n_u16(0xffff)};
}

static inline void see_sizes(struct seen_sizes *seen, uint16x8_t x)
{
    const uint16x8_t size = vandq_u16(x, vdupq_n_u16(0x7fff));

    seen->most = vmaxq_u16(seen->most, size);
    seen->least = vminq_u16(seen->least, vsubq_u16(size, vdupq_n_u16(1)));
}

static inline struct extremes extremes_of(const struct seen_sizes *seen)
{
    const int least = vminvq_u16(seen->least);

    return (struct extremes){vmaxvq_u16(seen->most), least < 0x7fff ? least + 1 : 0x7fff};
}

/* ---- turning ---- */

/* Eight elements of each of eight keys, of which `count` are there: to[i * STRIP + key] is the pair of
 * elements 2 * i and 2 * i + 1. */
static inline void pack_square(const bf16 *from, int64_t step, int64_t count, uint32_t *to,
                               struct seen_sizes *seen)
{
    uint32x4_t a[8];

    for (int i = 0; i < 8; i++) {
        const uint16x8_t x = load_eight(i < count ? from + i * step : NULL);

        see_sizes(seen, x);
        a[i] = vreinterpretq_u32_u16(vrev32q_u16(x));
    }
    neon_store_turned(a, to, STRIP);
    neon_store_turned(a + 4, to + 4, STRIP);
}

/* Makes words with element l of a key in the lower half and l + 4 in the upper; NULL: zeros. */
static inline void pack_halves(const bf16 *key, uint32_t *to)
{
    const uint16x8_t x = load_eight(key);

    vst1q_u32(to, vreinterpretq_u32_u16(vzip1q_u16(x, vextq_u16(x, x, 4))));
}

/* Makes eight pairs of an element of `first` and one of `second`; NULL: zeros. */
static inline void pack_two(const bf16 *first, const bf16 *second, uint32_t *to,
                            struct seen_sizes *seen)
{
    const uint16x8_t a = load_eight(first), b = load_eight(second);
    const uint16x8_t low = vzip1q_u16(b, a), high = vzip2q_u16(b, a);

    see_sizes(seen, low);
    see_sizes(seen, high);
    vst1q_u32(to, vreinterpretq_u32_u16(low));
    vst1q_u32(to + 4, vreinterpretq_u32_u16(high));
}

#endif
