/* sdpa_neon.c - scaled_dot_product_attention in registers of 4 lanes: 8 rows x 8 columns in
 * 16 registers. */
#include "kernels/cpu/sdpa_pack_neon.h"

enum { LANES = 4, ROWS = 8 };

#define VECTOR float32x4_t
#define ZERO vdupq_n_f32(0.0f)
#define ALL(x) vdupq_n_f32(x)
#define FOUR(from) vld1q_f32(from)
#define ADD(a, b) vaddq_f32(a, b)
#define FLOATS(from) vld1q_f32(from)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define STORE(to, x) vst1q_f32(to, x)
#define WIDEN_LOW(from) vreinterpretq_f32_u32(vshlq_n_u32(vld1q_u32(from), 16))
#define WIDEN_HIGH(from) vreinterpretq_f32_u32(vandq_u32(vld1q_u32(from), vdupq_n_u32(0xffff0000u)))

#include "kernels/cpu/sdpa_body.h"

int cpu_sdpa_neon(const struct op_call *call)
{
    return sdpa_run(call);
}
