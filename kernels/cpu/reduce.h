/* reduce.h - the two orders in which PyTorch adds up a row: that of sum() and mean(), ATen's
 * cascade_sum (aten/src/ATen/native/cpu/SumKernel.cpp), and that of softmax's sum, ATen's
 * vec_reduce_all (aten/src/ATen/cpu/vec/functional_base.h). */
#ifndef SAMEBIT_CPU_REDUCE_H
#define SAMEBIT_CPU_REDUCE_H

#include <stdint.h>
#include <string.h>

#include "kernels/base/bf16.h"

/* ---- cascade_sum: 4 vectors of accumulators on each of the levels 0 to 3 ----
 *
 * A row of the loop is 4 vectors of elements.  Level 0 takes the elements, level j what has come
 * together in level j - 1 after every 16^j rows. */

enum { CASCADE_LEVELS = 4, CASCADE_STEP = 16, CASCADE_WIDEST = 32 };

static inline float reduce_square(bf16 b)
{
    const float v = bf16_to_f32(b);

    return v * v;
}

/* After `rows` rows, a multiple of 16: level j - 1 is added to level j, and cleared, where `rows` is
 * a multiple of 16^j. */
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

/* sum(x^2) by vectors of `lanes` elements, a constant at every call so that the loops unroll.
 * n <= 2^24: ATen's levels are of more than 16 rows in much longer sums. */
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

/* The upper half of the lanes is added to the lower half, and so on until lane 0 holds the sum. */
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
