/* sleef.h - exp, log, pow and tanh of an f32 as SLEEF's u10 functions give them, which is what
 * PyTorch's vector loops call.  Any number of lanes has the same bits.
 *
 * Written without branches where loops call them, so that a compiler may put a loop in vectors;
 * fmaf is one rounding, everything else one IEEE operation each.  A GPU calls sleef_expf and sleef_tanhf. */
#ifndef SAMEBIT_CPU_SLEEF_H
#define SAMEBIT_CPU_SLEEF_H

#include <math.h>
#include <stdint.h>

#include "kernels/base/bf16.h"

#define SLEEF_R_LN2 1.442695040888963407359924681001892137426645954152985934135449406931f
#define SLEEF_L2U 0.693145751953125f
#define SLEEF_L2L 1.428606765330187045e-06f

/* 2^q for -126 <= q <= 127. */
BF16_INLINE float sleef_pow2(int32_t q)
{
    return f32_from_bits((uint32_t)(q + 127) << 23);
}

/* Nearest even integer of |x| < 2^22, as adding and taking away 1.5 * 2^23 rounds. */
BF16_INLINE float sleef_rint(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

/* Outside [-104, 100] the result is 0 or infinity whatever the polynomial gives; the clamp keeps
 * the exponent's integer in range there.  A NaN comes out as one. */
BF16_INLINE float sleef_expf(float d)
{
    const float low = d > -110.0f ? d : -110.0f;
    const float clamped = low < 110.0f ? low : 110.0f;
    const float q = sleef_rint(f32_product(clamped, SLEEF_R_LN2));
    const int32_t e = (int32_t)q;
    float s = fmaf(q, -SLEEF_L2U, d), u = 0.000198527617612853646278381f;

    s = fmaf(q, -SLEEF_L2L, s);
    u = fmaf(u, s, 0.00139304355252534151077271f);
    u = fmaf(u, s, 0.00833336077630519866943359f);
    u = fmaf(u, s, 0.0416664853692054748535156f);
    u = fmaf(u, s, 0.166666671633720397949219f);
    u = fmaf(u, s, 0.5f);
    u = 1.0f + fmaf(s * s, u, s);
    u = (u * sleef_pow2(e >> 1)) * sleef_pow2(e - (e >> 1));
    u = d < -104.0f ? 0.0f : u;
    return d > 100.0f ? INFINITY : u;
}

/* ---- numbers of two floats, hi + lo ---- */

struct sleef_two {
    float hi, lo;
};

BF16_INLINE struct sleef_two sleef_add_exact(float x, float y)
{
    const float s = x + y, v = s - x;

    return (struct sleef_two){s, (x - (s - v)) + (y - v)};
}

BF16_INLINE struct sleef_two sleef_add_two_one_exact(struct sleef_two x, float y)
{
    const float s = x.hi + y, v = s - x.hi, t = (x.hi - (s - v)) + (y - v);

    return (struct sleef_two){s, t + x.lo};
}

BF16_INLINE struct sleef_two sleef_add_two_two_exact(struct sleef_two x, struct sleef_two y)
{
    const float s = x.hi + y.hi, v = s - x.hi, t = (x.hi - (s - v)) + (y.hi - v);

    return (struct sleef_two){s, t + (x.lo + y.lo)};
}

/* |x| >= |y| in the three below. */
BF16_INLINE struct sleef_two sleef_add_two_two(struct sleef_two x, struct sleef_two y)
{
    const float s = x.hi + y.hi;

    return (struct sleef_two){s, (((x.hi - s) + y.hi) + x.lo) + y.lo};
}

BF16_INLINE struct sleef_two sleef_add_two_one(struct sleef_two x, float y)
{
    const float s = x.hi + y;

    return (struct sleef_two){s, ((x.hi - s) + y) + x.lo};
}

BF16_INLINE struct sleef_two sleef_add_one_two(float x, struct sleef_two y)
{
    const float s = x + y.hi;

    return (struct sleef_two){s, ((x - s) + y.hi) + y.lo};
}

BF16_INLINE struct sleef_two sleef_mul_one(struct sleef_two x, float y)
{
    const float s = f32_product(x.hi, y);

    return (struct sleef_two){s, fmaf(x.lo, y, fmaf(x.hi, y, -s))};
}

BF16_INLINE struct sleef_two sleef_mul_two(struct sleef_two x, struct sleef_two y)
{
    const float s = f32_product(x.hi, y.hi);

    return (struct sleef_two){s, fmaf(x.hi, y.lo, fmaf(x.lo, y.hi, fmaf(x.hi, y.hi, -s)))};
}

BF16_INLINE struct sleef_two sleef_square(struct sleef_two x)
{
    const float s = f32_product(x.hi, x.hi);

    return (struct sleef_two){s, fmaf(x.hi + x.hi, x.lo, fmaf(x.hi, x.hi, -s))};
}

BF16_INLINE struct sleef_two sleef_div(struct sleef_two n, struct sleef_two d)
{
    const float t = 1.0f / d.hi, s = f32_product(n.hi, t), u = fmaf(t, n.hi, -s);
    const float v = fmaf(-d.lo, t, fmaf(-d.hi, t, 1.0f));

    return (struct sleef_two){s, fmaf(s, v, fmaf(n.lo, t, u))};
}

BF16_INLINE struct sleef_two sleef_reciprocal(struct sleef_two d)
{
    const float s = 1.0f / d.hi;

    return (struct sleef_two){s, f32_product(s, fmaf(-d.lo, s, fmaf(-d.hi, s, 1.0f)))};
}

/* ---- log and pow ---- */

/* d > 0 and normal: d = m * 2^e, m in [0.75, 1.5); returns (m - 1) / (m + 1). */
static inline struct sleef_two sleef_log_split(float d, float *e)
{
    const uint32_t scaled = f32_bits(d * (1.0f / 0.75f));
    const int32_t exponent = (int32_t)((scaled >> 23) & 0xffu) - 127;
    const float m = f32_from_bits(f32_bits(d) - ((uint32_t)exponent << 23));

    *e = (float)exponent;
    return sleef_div(sleef_add_exact(-1.0f, m), sleef_add_exact(1.0f, m));
}

/* e * ln 2 + 2 * x */
static inline struct sleef_two sleef_log_head(struct sleef_two x, float e)
{
    const struct sleef_two ln2 = {0.69314718246459960938f, -1.904654323148236017e-09f};

    return sleef_add_two_two(sleef_mul_one(ln2, e), (struct sleef_two){x.hi * 2.0f, x.lo * 2.0f});
}

static inline float sleef_logf(float d)
{
    float e, shift = 0.0f, t = 0.3027294874e+0f, x2;
    struct sleef_two x, s;

    if (d == 0.0f)
        return -INFINITY;
    if (d != d || d < 0.0f)
        return NAN;
    if (d == INFINITY)
        return INFINITY;
    if (d < 0x1p-126f) {
        d *= 0x1p64f;
        shift = 64.0f;
    }
    x = sleef_log_split(d, &e);
    x2 = x.hi * x.hi;
    t = fmaf(t, x2, 0.3996108174e+0f);
    t = fmaf(t, x2, 0.6666694880e+0f);
    s = sleef_add_two_one(sleef_log_head(x, e - shift), (x2 * x.hi) * t);
    return s.hi + s.lo;
}

/* log of d > 0, normal, to two floats. */
static inline struct sleef_two sleef_log_two(float d)
{
    const struct sleef_two c = {0.66666662693023681640625f, 3.69183861259614332084311e-09f};
    float e, t = 0.240320354700088500976562f;
    const struct sleef_two x = sleef_log_split(d, &e), x2 = sleef_square(x);

    t = fmaf(t, x2.hi, 0.285112679004669189453125f);
    t = fmaf(t, x2.hi, 0.400007992982864379882812f);
    return sleef_add_two_two(
        sleef_log_head(x, e),
        sleef_mul_two(sleef_mul_two(x2, x), sleef_add_two_two_exact(sleef_mul_one(x2, t), c)));
}

/* exp of two floats within [-87, 88]. */
static inline float sleef_exp_two(struct sleef_two d)
{
    const float q = sleef_rint((d.hi + d.lo) * SLEEF_R_LN2);
    struct sleef_two s = sleef_add_two_one_exact(d, q * -SLEEF_L2U), t;
    float u = 0.00136324646882712841033936f, sum;

    s = sleef_add_two_one_exact(s, q * -SLEEF_L2L);
    sum = s.hi + s.lo;
    s = (struct sleef_two){sum, (s.hi - sum) + s.lo};
    u = fmaf(u, s.hi, 0.00836596917361021041870117f);
    u = fmaf(u, s.hi, 0.0416710823774337768554688f);
    u = fmaf(u, s.hi, 0.166665524244308471679688f);
    u = fmaf(u, s.hi, 0.499999850988388061523438f);
    t = sleef_add_two_two(s, sleef_mul_one(sleef_square(s), u));
    t = sleef_add_one_two(1.0f, t);
    return ldexpf(t.hi + t.lo, (int)q);
}

/* x^y for a normal x > 0 and a result that is normal. */
static inline float sleef_powf(float x, float y)
{
    if (y == 0.0f || x == 1.0f)
        return 1.0f;
    return sleef_exp_two(sleef_mul_one(sleef_log_two(x), y));
}

/* ---- tanh ---- */

/* exp(d) to two floats, 0 <= d <= 10. */
BF16_INLINE struct sleef_two sleef_exp_to_two(float d)
{
    const float q = sleef_rint(f32_product(d, SLEEF_R_LN2)), two = sleef_pow2((int32_t)q);
    struct sleef_two s = sleef_add_exact(d, f32_product(q, -SLEEF_L2U)), t;
    float u = 0.1980960224e-3f;

    s = sleef_add_two_one_exact(s, f32_product(q, -SLEEF_L2L));
    u = fmaf(u, s.hi, 0.1394256484e-2f);
    u = fmaf(u, s.hi, 0.8333456703e-2f);
    u = fmaf(u, s.hi, 0.4166637361e-1f);
    t = sleef_add_two_one_exact(sleef_mul_one(s, u), 0.166666659414234244790680580464e+0f);
    t = sleef_add_two_one_exact(sleef_mul_two(s, t), 0.5f);
    t = sleef_add_two_two_exact(s, sleef_mul_two(sleef_square(s), t));
    t = sleef_add_one_two(1.0f, t);
    return (struct sleef_two){f32_product(t.hi, two), f32_product(t.lo, two)};
}

/* Beyond 8.66 it is 1; what is computed there instead is thrown away.  A NaN comes out as one. */
BF16_INLINE float sleef_tanhf(float x)
{
    const float y = f32_from_bits(f32_bits(x) & 0x7fffffffu), clamped = y < 10.0f ? y : 10.0f;
    const struct sleef_two e = sleef_exp_to_two(clamped), r = sleef_reciprocal(e);
    const struct sleef_two t =
        sleef_div(sleef_add_two_two(e, (struct sleef_two){-r.hi, -r.lo}), sleef_add_two_two(e, r));
    const float tanh = y > 8.664339742f ? 1.0f : t.hi + t.lo;

    return x != x ? x : f32_from_bits(f32_bits(tanh) | (f32_bits(x) & 0x80000000u));
}

#endif
