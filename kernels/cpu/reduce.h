/* reduce.h - PyTorch's two shapes of a sum over a row. */
#ifndef SAMEBIT_CPU_REDUCE_H
#define SAMEBIT_CPU_REDUCE_H

#include <stdint.h>
#include <string.h>

#include "kernels/base/bf16.h"

/* ---- ATen's cascade sum: lanes x 4 accumulators on 4 levels ---- */

enum { CASCADE_LEVELS = 4, CASCADE_STEP = 16, CASCADE_WIDEST = 32 };

static inline float reduce_square(bf16 b)
{
    const float v = bf16_to_f32(b);

    return v * v;
}

/* After `rows` rows: level j goes up to level j + 1 every 16^(j + 1) rows. */
static inline void reduce_carry(float (*acc)[CASCADE_WIDEST], int width, int64_t rows)
{
    for (int j = 1; j < CASCADE_LEVELS; j++) {
        for (int l = 0; l < width; l++) {
            acc[j][l] += acc[j - 1][l];
            acc[j - 1][l] = 0.0f;
        }
        if (rows & ((int64_t)(CASCADE_STEP - 1) << (4 * j)))
            break;
    }
}

/* `lanes` is a constant at every call.  n <= 2^24. */
static inline float reduce_squares_by(const bf16 *x, int64_t n, const int lanes)
{
    const int width = 4 * lanes;
    const int64_t vectors = n / lanes, rows = vectors / 4;
    float acc[CASCADE_LEVELS][CASCADE_WIDEST], sum = 0.0f;

    memset(acc, 0, sizeof(acc));
    for (int64_t i = 0; i < rows;) {
        for (int l = 0; l < width; l++)
            acc[0][l] += reduce_square(x[i * width + l]);
        if (++i % CASCADE_STEP == 0)
            reduce_carry(acc, width, i);
    }
    for (int j = 1; j < CASCADE_LEVELS; j++)
        for (int l = 0; l < width; l++)
            acc[0][l] += acc[j][l];
    for (int64_t v = rows * 4; v < vectors; v++)
        for (int l = 0; l < lanes; l++)
            acc[0][l] += reduce_square(x[v * lanes + l]);
    for (int k = 1; k < 4; k++)
        for (int l = 0; l < lanes; l++)
            acc[0][l] += acc[0][k * lanes + l];
    for (int64_t i = vectors * lanes; i < n; i++)
        sum += reduce_square(x[i]);
    for (int l = 0; l < lanes; l++)
        sum += acc[0][l];
    return sum;
}

/* sum(x^2) of a row. */
static inline float reduce_squares(const bf16 *x, int64_t n)
{
    return n < 8 ? reduce_squares_by(x, n, 1) : reduce_squares_by(x, n, 8);
}

/* ---- softmax's sum: 8 or 16 lanes, fed a chunk at a time ---- */

enum { REDUCE_LANES_MOST = 16 };

struct reduce_lanes {
    float acc[REDUCE_LANES_MOST];
};

/* Element `first + i` of a row of n >= lanes; first is a multiple of lanes. */
static inline void reduce_lanes_add(struct reduce_lanes *r, const int lanes, const float *e,
                                    int64_t first, int64_t count)
{
    int64_t i = 0;

    if (first == 0) {
        memcpy(r->acc, e, sizeof(float) * (size_t)lanes);
        i = lanes;
    }
    for (; i + lanes <= count; i += lanes)
        for (int l = 0; l < lanes; l++)
            r->acc[l] += e[i + l];
    for (int l = 0; i + l < count; l++)
        r->acc[l] += e[i + l];
}

/* acc[l] += acc[l ^ d] for d = lanes / 2 .. 1; lane 0 is the sum. */
static inline float reduce_lanes_sum(const struct reduce_lanes *r, const int lanes)
{
    float a[REDUCE_LANES_MOST];

    memcpy(a, r->acc, sizeof(float) * (size_t)lanes);
    for (int d = lanes / 2; d; d /= 2)
        for (int l = 0; l < d; l++)
            a[l] = a[l] + a[l + d];
    return a[0];
}

#endif
