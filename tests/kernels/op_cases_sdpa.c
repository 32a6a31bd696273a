/* op_cases_sdpa.c - cases of scaled_dot_product_attention; see op_cases.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/kernels/op_cases.h"

/* window, padding: as in struct op_attrs and op_scope. */
static struct op_case sdpa_inputs(struct random *r, enum fill fill, int64_t T, int64_t past,
                                  int64_t G, int64_t shared, int64_t D, int64_t window,
                                  int64_t padding)
{
    const int64_t kept = window && past > window - 1 ? window - 1 : past, L = kept + T;
    struct op_case c = {.op = OP_sdpa, .count = 3, .scope = {past, T, padding}};

    c.in[0] = op_case_filled(r, fill, 3, (int64_t[]){G * shared, T, D});
    c.in[1] = op_case_filled_cache(r, fill, G, L, D);
    c.in[2] = op_case_filled_cache(r, fill, G, L, D);
    c.attrs = (struct op_attrs){.by = 1 / sqrt((double)D), .window = window};
    c.out = op_case_empty(2, (int64_t[]){T, G * shared * D});
    snprintf(c.label, sizeof(c.label), "%d after %d, %d x %d of %d, window %d, padding %d, fill %d",
             (int)T, (int)past, (int)G, (int)shared, (int)D, (int)window, (int)padding, (int)fill);
    return c;
}

static void case_sdpa(struct random *r, const struct op_visit *visit, enum fill fill, int64_t T,
                      int64_t past, int64_t G, int64_t shared, int64_t D, int64_t window,
                      int64_t padding)
{
    struct op_case c = sdpa_inputs(r, fill, T, past, G, shared, D, window, padding);

    op_case_finish(visit, &c);
}

/* Sums of underflowing products that stand at -0, which a key that is not seen turns into +0 if its
 * value has no sign. */
static void case_sdpa_minus(struct random *r, const struct op_visit *visit, int64_t T, int64_t past,
                            int64_t window)
{
    static const bf16 values[] = {0x8001, 0x8001, 0x8000, 0x8000, 0x8000, 0x0000};
    struct op_case c = sdpa_inputs(r, FILL_PLAIN, T, past, 1, 2, 32, window, 0);
    bf16 *v = c.in[2].data;

    for (int64_t i = 0; i < c.in[2].shape[1] * 32; i++)
        v[i] = values[random_below(r, i % 32 < 16 ? 6 : 5)];
    c.attrs.by = 16;
    op_case_finish(visit, &c);
}

/* Numbers of magnitudes [least, least + spread), of either sign. */
static void fill_sizes(struct random *r, struct tensor *t, uint32_t least, uint32_t spread)
{
    for (int64_t i = 0; i < tensor_count(t); i++)
        ((bf16 *)t->data)[i] =
            (bf16)(least + random_below(r, spread)) | (bf16)(random_next(r) & 0x8000u);
}

/* Products on both sides of the least normal f32, made visible by a large scale; and denormals times
 * the largest numbers.  size: of q; k's is such that the least product is about 2^(power). */
static void case_sdpa_tiny_scores(struct random *r, const struct op_visit *visit, int64_t T,
                                  int64_t past, uint32_t size, int power)
{
    struct op_case c = sdpa_inputs(r, FILL_PLAIN, T, past, 1, 2, 64, 0, 0);
    struct tensor k = c.in[1];

    k.shape[1] += 3; /* all of the cache */
    fill_sizes(r, &c.in[0], size, 2 << 7);
    fill_sizes(r, &k, (uint32_t)(127 + power - ((int)(size >> 7) - 127)) << 7, 2 << 7);
    c.attrs.by = ldexp(1.0, -power);
    op_case_finish(visit, &c);
}

/* Values from denormals up to where no product with a weight can be denormal. */
static void case_sdpa_tiny_values(struct random *r, const struct op_visit *visit, int64_t T,
                                  int64_t past, uint32_t size, uint32_t spread)
{
    struct op_case c = sdpa_inputs(r, FILL_PLAIN, T, past, 1, 2, 64, 0, 0);
    struct tensor v = c.in[2];

    v.shape[1] += 3;
    fill_sizes(r, &v, size, spread);
    op_case_finish(visit, &c);
}

static void cases_sdpa_tiny(struct random *r, const struct op_visit *visit, int64_t T, int64_t past)
{
    for (uint32_t e = 0; e < 24; e += 2)
        case_sdpa_tiny_values(r, visit, T, past, (e << 7) + (e ? 0 : 1), 3 << 7);
    for (int power = -132; power < -100; power += 3)
        case_sdpa_tiny_scores(r, visit, T, past, 64 << 7, power < -126 ? -126 : power);
    for (uint32_t e = 0; e < 4; e++) {
        struct op_case c = sdpa_inputs(r, FILL_PLAIN, T, past, 1, 2, 64, 0, 0);
        struct tensor k = c.in[1];

        k.shape[1] += 3;
        fill_sizes(r, &c.in[0], (e << 7) + (e ? 0 : 1), 64);
        fill_sizes(r, &k, 240 << 7, 2 << 7);
        c.attrs.by = 256;
        op_case_finish(visit, &c);
    }
}

/* A prompt, one token, and several tokens after others, each with every kind of mask. */
static void cases_sdpa_masks(struct random *r, const struct op_visit *visit, int64_t T,
                             int64_t past, int turn)
{
    static const int64_t D[] = {16, 64, 24, 80, 40, 128, 96, 200, 256};
    const int64_t d = T + past > 100 ? D[turn % 3] : D[turn % 9], all = T + past;
    const int64_t G = all > 400 ? 1 : 1 + turn % 2, shared = all > 400 ? 1 : 1 + turn % 7;
    const enum fill fill = (enum fill)(turn % FILL_COUNT);
    int64_t padding;

    case_sdpa(r, visit, fill, T, past, G, shared, d, 0, 0);
    case_sdpa(r, visit, fill, T, past, G, shared, d, 0, 1 + random_below(r, (uint32_t)all));
    case_sdpa(r, visit, fill, T, past, G, shared, d, 1 + random_below(r, (uint32_t)all), 0);
    padding = random_below(
        r, (uint32_t)all); /* not among the arguments: compilers differ in their order */
    case_sdpa(r, visit, fill, T, past, G, shared, d, 1 + random_below(r, (uint32_t)all), padding);
}

void op_cases_sdpa(struct random *r, const struct op_visit *visit)
{
    static const int64_t T[] = {1,  2,  3,  4,  5,  7,   8,   9,   11,  12,  13,  16,  17, 31,
                                32, 33, 35, 64, 65, 100, 191, 192, 193, 300, 767, 768, 800};
    static const int64_t past[] = {1, 10, 11, 14, 500, 507, 511, 512, 520, 1023, 1500};
    int turn = 0;

    for (int t = 0; t < (int)(sizeof(T) / sizeof(T[0])); t++, turn++)
        cases_sdpa_masks(r, visit, T[t], 0, turn);
    for (int p = 0; p < (int)(sizeof(past) / sizeof(past[0])); p++)
        for (int t = 0; t < 17; t += past[p] > 20 ? 4 : 1, turn++)
            cases_sdpa_masks(r, visit, T[t], past[p], turn);
    for (int f = 0; f < FILL_COUNT; f++) {
        case_sdpa(r, visit, (enum fill)f, 40, 0, 2, 3, 64, 0, 0);
        case_sdpa(r, visit, (enum fill)f, 40, 500, 1, 1, 64, 0, 0);
        case_sdpa(r, visit, (enum fill)f, 40, 500, 1, 1, 64, 100, 450);
        case_sdpa(r, visit, (enum fill)f, 300, 0, 1, 2, 32, 0, 0);
        case_sdpa(r, visit, (enum fill)f, 1, 600, 1, 7, 64, 0, 0);
    }
    cases_sdpa_tiny(r, visit, 40, 0);
    cases_sdpa_tiny(r, visit, 9, 200);
    for (int i = 0; i < 4; i++) {
        case_sdpa_minus(r, visit, T[i], 5, 0);
        case_sdpa_minus(r, visit, 20, 0, 0);
        case_sdpa_minus(r, visit, 300, 0, 200 * (i % 2));
        case_sdpa_minus(r, visit, 40, 500, 0);
        case_sdpa_minus(r, visit, 40, 1000, 300);
    }
    for (int64_t t = 1; t <= 3; t++) /* more keys than a GPU keeps the values of */
        case_sdpa(r, visit, FILL_PLAIN, t, 600, 1, 2, 256, 0, 0);
}
