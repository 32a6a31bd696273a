/* cases.h - inputs for kernel tests: reproducible numbers of every kind, and comparing. */
#ifndef SAMEBIT_TESTS_KERNELS_CASES_H
#define SAMEBIT_TESTS_KERNELS_CASES_H

#include <stdint.h>
#include <stdlib.h>

#include "kernels/base/bf16.h"

/* What numbers a buffer is filled with. */
enum fill {
    FILL_PLAIN, /* about normal, |x| < 4 */
    FILL_WIDE,  /* all exponents, so that products over- and underflow */
    FILL_EDGE,  /* mostly plain, with denormals, zeros of both signs and the least normals */
    FILL_TINY,  /* products near the least normal f32 */
    FILL_LEAST, /* sums of products within an ulp of the least normal f32 */
    FILL_WILD,  /* as edge, and a few infinities and NaN */
    FILL_COUNT
};

struct random {
    uint64_t state;
};

static inline uint32_t random_next(struct random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

static inline uint32_t random_below(struct random *r, uint32_t n)
{
    return (uint32_t)(((uint64_t)random_next(r) * n) >> 32);
}

static inline bf16 random_plain(struct random *r)
{
    const float sum = (float)(random_next(r) >> 8) + (float)(random_next(r) >> 8);

    return bf16_from_f32(sum * 0x1p-22f - 4.0f);
}

static inline bf16 random_edge(struct random *r)
{
    static const bf16 edges[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x007f, 0x807f,
                                 0x0080, 0x8080, 0x3f80, 0xbf80, 0x0100, 0x00ff};

    return edges[random_below(r, sizeof(edges) / sizeof(edges[0]))];
}

static inline bf16 random_value(struct random *r, enum fill fill)
{
    static const bf16 wild[] = {0x7f80, 0xff80, 0x7fc0, 0xffc0, 0x7f7f, 0xff7f};

    switch (fill) {
    case FILL_WIDE:
        return (bf16)(random_next(r) % 0x7f80u | (random_next(r) & 0x8000u));
    case FILL_TINY: /* 2^-66 .. 2^-60 */
        return (bf16)((61u << 7) + random_below(r, 6u << 7)) | (bf16)(random_next(r) & 0x8000u);
    case FILL_LEAST: /* 2^-63, and 1..2 times 2^-75 or 2^-76 */
        return (bf16)(random_below(r, 2) ? 64u << 7 : (51u << 7) + random_below(r, 2 << 7)) |
               (bf16)(random_next(r) & 0x8000u);
    case FILL_WILD:
        if (random_below(r, 400) == 0)
            return wild[random_below(r, sizeof(wild) / sizeof(wild[0]))];
        return random_below(r, 8) ? random_plain(r) : random_edge(r);
    case FILL_EDGE:
        return random_below(r, 4) ? random_plain(r) : random_edge(r);
    default:
        return random_plain(r);
    }
}

static inline void random_fill(struct random *r, enum fill fill, bf16 *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = random_value(r, fill);
}

/* Whether an emulator runs the tests, where each takes several times as long. */
static inline int tests_are_emulated(void)
{
    return getenv("SAMEBIT_EMULATOR") != NULL;
}

/* Elements whose bits differ; a NaN has PyTorch's too. */
static inline int64_t bf16_differing(const bf16 *a, const bf16 *b, int64_t n)
{
    int64_t differing = 0;

    for (int64_t i = 0; i < n; i++)
        differing += a[i] != b[i];
    return differing;
}

#endif
