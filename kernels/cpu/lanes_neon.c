/* lanes_neon.c - DOT8 and FOUR in pairs of registers of 4 lanes; see lanes_body.h. */
#include <arm_neon.h>

#include "kernels/base/bf16.h"

typedef struct {
    float32x4_t low, high;
} eight;

static inline eight eight_all(float x)
{
    return (eight){vdupq_n_f32(x), vdupq_n_f32(x)};
}

static inline eight eight_zero(void)
{
    return eight_all(0.0f);
}

static inline eight eight_load(const float *from)
{
    return (eight){vld1q_f32(from), vld1q_f32(from + 4)};
}

static inline void eight_store(float *to, eight v)
{
    vst1q_f32(to, v.low);
    vst1q_f32(to + 4, v.high);
}

static inline eight eight_widen(const bf16 *x)
{
    const uint16x8_t half = vld1q_u16(x);

    return (eight){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(half), 16)),
                   vreinterpretq_f32_u32(vshll_high_n_u16(half, 16))};
}

static inline eight eight_add(eight a, eight b)
{
    return (eight){vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
}

/* a * b + c, rounded once */
static inline eight eight_fma(eight a, eight b, eight c)
{
    return (eight){vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}

/* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
static inline float eight_sum(eight v)
{
    const float32x4_t four = vaddq_f32(v.low, v.high);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));

    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

#include "kernels/cpu/lanes_body.h"
