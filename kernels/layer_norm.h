/* layer_norm.h - mean and variance of a row as ATen's RowwiseMoments has them (aten/src/ATen/native/cpu/
 * moments_utils.h); ops.h: "layer_norm".
 *
 * A vector of bf16 is two of f32: element v * 2W + h * W + l is of half h, lane l.  Lanes do not meet
 * until the end, so that a GPU's thread may have one. */
#ifndef SAMEBIT_LAYER_NORM_H
#define SAMEBIT_LAYER_NORM_H

#include <math.h>
#include <stdint.h>

#include "kernels/base/bf16.h"

enum { MOMENTS_CHUNK = 16, MOMENTS_LEVELS = 8, MOMENTS_LANES = 16 };

/* count elements with this mean; m2 is the sum of squared differences to it. */
struct moments {
    int64_t count;
    float mean, m2;
};

/* AddMomentsVec, of one lane. */
BF16_INLINE void moments_add(struct moments *to, const struct moments *more)
{
    const int64_t n = to->count + more->count;
    const float c = n ? (float)more->count / (float)n : 0.0f, delta = more->mean - to->mean;
    const float sum = to->m2 + more->m2, step = f32_product(c, delta);

    to->m2 = fmaf(f32_product(delta, (float)to->count), step, sum);
    to->mean = to->mean + step;
    to->count = n;
}

/* AddMoments, of lanes that meet. */
BF16_INLINE void moments_meet(struct moments *to, const struct moments *more)
{
    const int64_t n = to->count + more->count;
    const float c = n ? (float)more->count / (float)n : 0.0f, delta = more->mean - to->mean;
    const float square = f32_product(f32_product(delta, delta), c);

    to->m2 = to->m2 + fmaf(square, (float)to->count, more->m2);
    to->mean = fmaf(c, delta, to->mean);
    to->count = n;
}

/* UpdateMomentsVec: elements x[0], x[step], ... of a chunk. */
BF16_INLINE struct moments moments_of_chunk(const bf16 *x, int64_t count, int64_t step)
{
    struct moments m = {count, 0.0f, 0.0f};

    for (int64_t j = 0; j < count; j++) {
        const float v = bf16_to_f32(x[j * step]), delta = v - m.mean;

        m.mean = fmaf(delta, 1.0f / (float)(j + 1), m.mean);
        m.m2 = fmaf(delta, v - m.mean, m.m2);
    }
    return m;
}

/* One lane of a row of n elements, n <= 32767. */
BF16_INLINE struct moments moments_of_lane(const bf16 *x, int64_t n, int lanes, int lane)
{
    const int64_t width = 2 * lanes, vectors = n / width;
    const int64_t chunks = (vectors + MOMENTS_CHUNK - 1) / MOMENTS_CHUNK;
    struct moments level[MOMENTS_LEVELS] = {{0, 0.0f, 0.0f}};
    int depth = 0;

    while (((int64_t)1 << depth) < chunks)
        depth++;
    for (int64_t i = 0; i < chunks; i++) {
        const int64_t left = vectors - i * MOMENTS_CHUNK;
        const int64_t count = left < MOMENTS_CHUNK ? left : (int64_t)MOMENTS_CHUNK;
        int carrying = 1;

        for (int h = 0; h < 2; h++) {
            const struct moments m =
                moments_of_chunk(x + i * MOMENTS_CHUNK * width + h * lanes + lane, count, width);

            moments_add(&level[0], &m);
        }
        /* bounds that are known: on a GPU the levels are registers then, no local memory */
        for (int j = 1; j < MOMENTS_LEVELS; j++) {
            carrying &= j < depth && ((i + 1) >> (j - 1) & 1) == 0;
            if (carrying) {
                moments_add(&level[j], &level[j - 1]);
                level[j - 1] = (struct moments){0, 0.0f, 0.0f};
            }
        }
    }
    for (int j = 1; j < MOMENTS_LEVELS; j++)
        if (j < depth)
            moments_add(&level[0], &level[j]);
    return level[0];
}

/* What whole vectors leave over, then the lanes in order. */
BF16_INLINE struct moments moments_of_row(const bf16 *x, int64_t n, int lanes,
                                          const struct moments *lane)
{
    struct moments m = {0, 0.0f, 0.0f};

    for (int64_t i = n / (2 * lanes) * (2 * lanes); i < n; i++) {
        const float v = bf16_to_f32(x[i]), delta = v - m.mean;

        m.mean = m.mean + delta / (float)++m.count;
        m.m2 = m.m2 + f32_product(delta, v - m.mean);
    }
    for (int l = 0; l < lanes; l++)
        moments_meet(&m, &lane[l]);
    return m;
}

BF16_INLINE float moments_scale(const struct moments *m, int64_t n, float eps)
{
    return 1.0f / sqrtf(m->m2 / (float)n + eps);
}

BF16_INLINE bf16 layer_norm_element(bf16 x, bf16 w, bf16 b, float scale, float mean)
{
    const float h = fmaf(bf16_to_f32(x), scale, -f32_product(scale, mean));

    return bf16_from_f32(fmaf(h, bf16_to_f32(w), bf16_to_f32(b)));
}

#endif
