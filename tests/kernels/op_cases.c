/* op_cases.c - what cases are made of, and the operations that are no matrix products; see
 * op_cases.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/rotary.h"
#include "tests/kernels/op_cases.h"

/* ---- making ---- */

const int64_t op_case_tokens[OP_CASE_TOKENS] = {1, 2, 3, 5, 17, 64};

bf16 *op_case_take(int64_t n)
{
    bf16 *p = malloc((size_t)(n ? n : 1) * sizeof(*p));

    assert_non_null(p);
    return p;
}

int64_t op_case_storage(const struct tensor *t)
{
    return t->rank ? t->shape[0] * t->stride[0] : 1;
}

struct tensor op_case_filled(struct random *r, enum fill fill, int rank, const int64_t *shape)
{
    struct tensor t = tensor_make(DTYPE_BF16, rank, shape, NULL);

    t.data = op_case_take(tensor_count(&t));
    random_fill(r, fill, t.data, tensor_count(&t));
    return t;
}

struct tensor op_case_filled_cache(struct random *r, enum fill fill, int64_t heads, int64_t length,
                                   int64_t width)
{
    const int64_t shape[] = {heads, length + 3, width};
    struct tensor t = op_case_filled(r, fill, 3, shape);

    t.shape[1] = length;
    return t;
}

struct tensor op_case_empty(int rank, const int64_t *shape)
{
    return tensor_make(DTYPE_BF16, rank, shape, NULL);
}

void op_case_finish(const struct op_visit *visit, struct op_case *c)
{
    visit->fn(visit->user, c);
    for (int i = 0; i < c->count; i++)
        free(c->in[i].data);
    free(c->weight.data);
    free(c->bias.data);
}

/* ---- cases ---- */

static void cases_embedding(struct random *r, const struct op_visit *visit)
{
    const int64_t width = 333, vocabulary = 97;

    for (int t = 0; t < OP_CASE_TOKENS; t++) {
        const int64_t T = op_case_tokens[t];
        int64_t *ids = malloc((size_t)T * sizeof(*ids));
        struct op_case c = {.op = OP_embedding, .count = 1, .scope = {.tokens = T}};

        assert_non_null(ids);
        for (int64_t i = 0; i < T; i++)
            ids[i] = random_below(r, (uint32_t)vocabulary);
        c.in[0] = tensor_make(DTYPE_I64, 1, &T, ids);
        c.attrs.by = t % 2 ? 0 : 55.42562584220407;
        c.weight = op_case_filled(r, FILL_WILD, 2, (int64_t[]){vocabulary, width});
        c.out = op_case_empty(2, (int64_t[]){T, width});
        op_case_finish(visit, &c);
    }
}

static void cases_rotary(struct random *r, const struct op_visit *visit)
{
    const struct rope_config rope = {.type = ROPE_DEFAULT, .theta = 10000};

    for (int t = 0; t < 4 * OP_CASE_TOKENS; t++) {
        const int64_t T = op_case_tokens[t % OP_CASE_TOKENS], D = t % 2 ? 128 : 6;
        const int64_t past = random_below(r, 131072 - 64);
        int64_t *positions = malloc((size_t)T * sizeof(*positions));
        float inv_freq[64];
        struct op_case c = {.op = OP_rotary, .count = 1, .scope = {.past = past, .tokens = T}};

        assert_non_null(positions);
        rotary_inv_freq(&rope, D, 1, numerics_find("torch-cpu/avx2"), inv_freq);
        for (int64_t i = 0; i < T; i++)
            positions[i] = past + i;
        c.in[0] = tensor_make(DTYPE_I64, 1, &T, positions);
        c.attrs = (struct op_attrs){.part = t % 3 ? ROTARY_COS : ROTARY_SIN,
                                    .inv_freq = inv_freq,
                                    .inv_freq_count = D / 2,
                                    .table = t % 5 ? ROPE_HALVES : ROPE_NEIGHBOURS,
                                    .rotary_scale = t % 2 ? 1.0f : 1.1386294f};
        c.out = op_case_empty(2, (int64_t[]){T, D});
        op_case_finish(visit, &c);
    }
}

static void case_rms_norm(struct random *r, const struct op_visit *visit, enum fill fill, int64_t T,
                          int64_t heads, int64_t width, int rank, enum norm_weight weight)
{
    struct op_case c = {.op = OP_rms_norm, .count = 1, .scope = {.tokens = T}};

    c.in[0] = rank == 3 ? op_case_filled(r, fill, 3, (int64_t[]){T, heads, width})
                        : op_case_filled(r, fill, 2, (int64_t[]){T, heads * width});
    c.weight = op_case_filled(r, fill, 1, &width);
    c.attrs = (struct op_attrs){.eps = 1e-6, .width = heads ? width : 0, .norm = weight};
    c.out = heads > 1 ? op_case_empty(3, (int64_t[]){T, heads, width})
                      : op_case_empty(2, (int64_t[]){T, width});
    snprintf(c.label, sizeof(c.label), "[%d, %d x %d] fill %d", (int)T, (int)heads, (int)width,
             (int)fill);
    op_case_finish(visit, &c);
}

/* eps takes away all but 2^-16 of the mean, so that bits of the sum show which a bf16 hides.  Rows
 * are one row, turned, whose sum depends on the order alone. */
static void case_rms_norm_exposed(struct random *r, const struct op_visit *visit, int64_t T,
                                  int64_t width)
{
    struct op_case c = {.op = OP_rms_norm, .count = 1, .scope = {.tokens = T}};
    double sum = 0;
    bf16 *x;

    c.in[0] = op_case_filled(r, FILL_PLAIN, 2, (int64_t[]){T, width});
    x = c.in[0].data;
    for (int64_t i = 0; i < width; i++)
        sum += (double)bf16_to_f32(x[i]) * (double)bf16_to_f32(x[i]);
    for (int64_t i = width; i < T * width; i++)
        x[i] = x[(i % width + i / width * 7) % width];
    c.weight = op_case_filled(r, FILL_PLAIN, 1, &width);
    c.attrs = (struct op_attrs){.eps = -(sum / (double)width) * (1 - 0x1p-16)};
    c.out = op_case_empty(2, (int64_t[]){T, width});
    snprintf(c.label, sizeof(c.label), "[%d, %d], exposed", (int)T, (int)width);
    op_case_finish(visit, &c);
}

static void cases_rms_norm(struct random *r, const struct op_visit *visit)
{
    static const int64_t widths[] = {1, 3, 7, 8, 31, 33, 64, 100, 512, 576, 896, 1025, 2100, 16384};

    for (int w = 0; w < (int)(sizeof(widths) / sizeof(widths[0])); w++)
        for (int t = 0; t < OP_CASE_TOKENS; t++)
            case_rms_norm(r, visit, (enum fill)((w + t) % FILL_COUNT), op_case_tokens[t], 1,
                          widths[w], 2, (enum norm_weight)((w + t) % 3));
    for (int t = 0; t < OP_CASE_TOKENS; t++) {
        case_rms_norm(r, visit, FILL_EDGE, op_case_tokens[t], 3, 65, 2, (enum norm_weight)(t % 3));
        case_rms_norm(r, visit, FILL_EDGE, op_case_tokens[t], 5, 128, 3, (enum norm_weight)(t % 3));
    }
    for (int w = 0; w < (int)(sizeof(widths) / sizeof(widths[0])); w++)
        case_rms_norm_exposed(r, visit, 9, widths[w]);
    case_rms_norm_exposed(r, visit, 9, 9001);
    case_rms_norm_exposed(r, visit, 5, 140003);
}

/* eps takes away all but 2^-14 of the variance in half of them. */
static void cases_layer_norm(struct random *r, const struct op_visit *visit)
{
    static const int64_t widths[] = {1,   7,   15,  16,   31,   32,   33,   64,
                                     100, 256, 272, 1000, 2560, 4100, 20000};

    for (int w = 0; w < (int)(sizeof(widths) / sizeof(widths[0])); w++)
        for (int t = 0; t < OP_CASE_TOKENS; t++) {
            const int64_t T = op_case_tokens[t], width = widths[w];
            struct op_case c = {.op = OP_layer_norm, .count = 1, .scope = {.tokens = T}};

            if (T * width > 400000)
                continue;
            c.in[0] = op_case_filled(r, t % 2 ? FILL_PLAIN : FILL_WILD, 2, (int64_t[]){T, width});
            c.weight = op_case_filled(r, FILL_PLAIN, 1, &width);
            c.bias = op_case_filled(r, FILL_PLAIN, 1, &width);
            c.attrs.eps = 1e-5;
            if (t % 2) {
                const bf16 *x = c.in[0].data;
                double mean = 0, variance = 0;

                for (int64_t i = 0; i < width; i++)
                    mean += (double)bf16_to_f32(x[i]) / (double)width;
                for (int64_t i = 0; i < width; i++)
                    variance += ((double)bf16_to_f32(x[i]) - mean) *
                                ((double)bf16_to_f32(x[i]) - mean) / (double)width;
                c.attrs.eps = -variance * (1 - 0x1p-14);
            }
            c.out = op_case_empty(2, (int64_t[]){T, width});
            snprintf(c.label, sizeof(c.label), "[%d, %d]", (int)T, (int)width);
            op_case_finish(visit, &c);
        }
}

static op_cases_fn cases_rope_as;

static void cases_rope(struct random *r, const struct op_visit *visit)
{
    cases_rope_as(r, visit);
    for (int t = 0; t < OP_CASE_TOKENS; t++)
        for (int rank = 2; rank <= 3; rank++) {
            const int64_t T = op_case_tokens[t], n = 1 + t, D = t % 2 ? 64 : 6 + 2 * t;
            struct op_case c = {.op = OP_rope, .count = 3, .scope = {.tokens = T}};

            c.in[0] = rank == 3 ? op_case_filled(r, FILL_WILD, 3, (int64_t[]){T, n, D})
                                : op_case_filled(r, FILL_WILD, 2, (int64_t[]){T, n * D});
            c.in[1] = op_case_filled(r, FILL_EDGE, 2, (int64_t[]){T, D});
            c.in[2] = op_case_filled(r, FILL_EDGE, 2, (int64_t[]){T, D});
            c.attrs.width = D;
            c.out = op_case_empty(3, (int64_t[]){n, T, D});
            op_case_finish(visit, &c);
        }
}

/* Every way to pair, to read the table and to round, a part of the head left alone or all of it. */
static void cases_rope_as(struct random *r, const struct op_visit *visit)
{
    for (int way = 0; way < 32; way++) {
        const int64_t T = op_case_tokens[way % OP_CASE_TOKENS], n = 1 + way % 3;
        const int64_t D = way & 16 ? 64 : 22, R = way & 8 ? D : D / 2 + 1;
        struct op_case c = {.op = OP_rope, .count = 3, .scope = {.tokens = T}};

        c.in[0] = op_case_filled(r, FILL_WILD, 2, (int64_t[]){T, n * D});
        c.in[1] = op_case_filled(r, FILL_EDGE, 2, (int64_t[]){T, R & ~(int64_t)1});
        c.in[2] = op_case_filled(r, FILL_EDGE, 2, (int64_t[]){T, R & ~(int64_t)1});
        for (int k = 1; k <= 2; k++) { /* both elements of a pair have one cos and one sin */
            bf16 *table = c.in[k].data;
            const int64_t half = c.in[k].shape[1] / 2;

            for (int64_t t = 0; t < T; t++, table += 2 * half)
                for (int64_t i = 0; i < half; i++)
                    table[way & 2 ? 2 * i + 1 : i + half] = table[way & 2 ? 2 * i : i];
        }
        c.attrs = (struct op_attrs){.width = D,
                                    .pairs = way & 1 ? ROPE_NEIGHBOURS : ROPE_HALVES,
                                    .table = way & 2 ? ROPE_NEIGHBOURS : ROPE_HALVES,
                                    .apply = way & 4 ? ROPE_F32 : ROPE_BF16,
                                    .still = way == 21};
        c.out = op_case_empty(3, (int64_t[]){n, T, D});
        snprintf(c.label, sizeof(c.label), "way %d", way);
        op_case_finish(visit, &c);
    }
}

static void cases_cache_append(struct random *r, const struct op_visit *visit)
{
    for (int t = 0; t < OP_CASE_TOKENS; t++)
        for (int rank = 2; rank <= 3; rank++) {
            const int64_t T = op_case_tokens[t], G = 1 + t % 3, D = 16, L = T + 4, capacity = L + 7;
            struct op_case c = {
                .op = OP_cache_append, .count = 1, .scope = {.past = 4, .tokens = T}};

            c.in[0] = rank == 3 ? op_case_filled(r, FILL_WILD, 3, (int64_t[]){G, T, D})
                                : op_case_filled(r, FILL_WILD, 2, (int64_t[]){T, G * D});
            c.attrs.width = D;
            c.out = op_case_empty(3, (int64_t[]){G, capacity, D});
            c.out.shape[1] = L;
            op_case_finish(visit, &c);
        }
}

/* Operations on one tensor of scores. */
static void case_scores(struct random *r, const struct op_visit *visit, enum op op, enum fill fill,
                        int64_t T, int64_t L, const struct op_attrs *attrs)
{
    struct op_case c = {
        .op = op, .count = 1, .scope = {L - T, T, L % 2 * (L / 3)}, .attrs = *attrs};

    c.in[0] = op_case_filled(r, fill, 3, (int64_t[]){3, T, L});
    c.out = op_case_empty(3, c.in[0].shape);
    snprintf(c.label, sizeof(c.label), "[3, %d, %d] fill %d", (int)T, (int)L, (int)fill);
    op_case_finish(visit, &c);
}

/* The same of views of larger tensors. */
static void case_scores_apart(struct random *r, const struct op_visit *visit, enum op op,
                              const struct op_attrs *attrs)
{
    struct op_case c = {.op = op, .count = 1, .scope = {66, 4}, .attrs = *attrs};

    c.in[0] = op_case_filled_cache(r, FILL_EDGE, 3, 4, 70);
    c.out = op_case_empty(3, (int64_t[]){3, 9, 70});
    c.out.shape[1] = 4;
    snprintf(c.label, sizeof(c.label), "[3, 4, 70], not contiguous");
    op_case_finish(visit, &c);
}

static void cases_scores(struct random *r, const struct op_visit *visit, enum op op,
                         const struct op_attrs *attrs)
{
    static const int64_t past[] = {0,  1,  5,  6,  7,    8,    13,   14,   15,
                                   16, 17, 62, 63, 1023, 1024, 2046, 2047, 4100};

    for (int p = 0; p < (int)(sizeof(past) / sizeof(past[0])); p++)
        for (int t = 0; t < OP_CASE_TOKENS; t++)
            case_scores(r, visit, op, (enum fill)((p + t) % FILL_COUNT), op_case_tokens[t],
                        past[p] + op_case_tokens[t], attrs);
    case_scores_apart(r, visit, op, attrs);
}

static void cases_scale(struct random *r, const struct op_visit *visit)
{
    cases_scores(r, visit, OP_scale, &(struct op_attrs){.by = 0.08838834764831845});
}

static void cases_divide(struct random *r, const struct op_visit *visit)
{
    cases_scores(r, visit, OP_divide, &(struct op_attrs){.by = 8.0});
    cases_scores(r, visit, OP_divide, &(struct op_attrs){.by = 30.1});
}

/* Every bf16, and scores. */
static void cases_tanh(struct random *r, const struct op_visit *visit)
{
    const int64_t all = 65536;
    struct op_case c = {
        .op = OP_tanh, .count = 1, .scope = {.tokens = 1}, .label = "of every bf16"};

    c.in[0] = tensor_make(DTYPE_BF16, 1, &all, op_case_take(all));
    for (int64_t i = 0; i < all; i++)
        ((bf16 *)c.in[0].data)[i] = (bf16)i;
    c.out = op_case_empty(1, &all);
    op_case_finish(visit, &c);
    cases_scores(r, visit, OP_tanh, &(struct op_attrs){0});
}

static void cases_slice(struct random *r, const struct op_visit *visit)
{
    for (int t = 0; t < 4 * OP_CASE_TOKENS; t++) {
        const int64_t T = op_case_tokens[t % OP_CASE_TOKENS], pieces = t % 3, width = 1 + t % 9;
        const int64_t before = t % 4, count = t % 5, after = t % 2, C = count ? count : 1;
        const int64_t parts = pieces ? pieces : 1;
        struct op_case c = {.op = OP_slice, .count = 1, .scope = {.tokens = T}};

        c.in[0] =
            op_case_filled(r, FILL_WILD, 2, (int64_t[]){T, parts * ((before + C + after) * width)});
        c.attrs =
            (struct op_attrs){.width = width, .before = before, .count = count, .pieces = pieces};
        c.out = op_case_empty(2, (int64_t[]){T, parts * C * width});
        op_case_finish(visit, &c);
    }
}

static void cases_causal_mask(struct random *r, const struct op_visit *visit)
{
    cases_scores(r, visit, OP_causal_mask, &(struct op_attrs){0});
    cases_scores(r, visit, OP_causal_mask, &(struct op_attrs){.window = 1});
    cases_scores(r, visit, OP_causal_mask, &(struct op_attrs){.window = 60});
}

static void cases_softmax(struct random *r, const struct op_visit *visit)
{
    cases_scores(r, visit, OP_softmax, &(struct op_attrs){0});
}

static void case_two_apart(struct random *r, const struct op_visit *visit, enum op op)
{
    struct op_case c = {.op = op, .count = 2, .scope = {.tokens = 4}, .label = "not contiguous"};

    c.in[0] = op_case_filled_cache(r, FILL_EDGE, 3, 4, 70);
    c.in[1] = op_case_filled(r, FILL_EDGE, 3, (int64_t[]){3, 4, 70});
    c.out = op_case_empty(3, (int64_t[]){3, 9, 70});
    c.out.shape[1] = 4;
    op_case_finish(visit, &c);
}

static void cases_two(struct random *r, const struct op_visit *visit, enum op op)
{
    case_two_apart(r, visit, op);
    for (int t = 0; t < OP_CASE_TOKENS; t++)
        for (int f = 0; f < FILL_COUNT; f++) {
            const int64_t shape[] = {op_case_tokens[t], 1001};
            struct op_case c = {.op = op, .count = 2, .scope = {.tokens = shape[0]}};

            c.in[0] = op_case_filled(r, (enum fill)f, 2, shape);
            c.in[1] = op_case_filled(r, (enum fill)f, 2, shape);
            c.out = op_case_empty(2, shape);
            op_case_finish(visit, &c);
        }
}

static void cases_add(struct random *r, const struct op_visit *visit)
{
    cases_two(r, visit, OP_add);
}

static void cases_mul(struct random *r, const struct op_visit *visit)
{
    cases_two(r, visit, OP_mul);
}

static void cases_silu(struct random *r, const struct op_visit *visit)
{
    const int64_t all = 65536;
    struct op_case c = {
        .op = OP_silu, .count = 1, .scope = {.tokens = 1}, .label = "of every bf16"};

    (void)r;
    c.in[0] = tensor_make(DTYPE_BF16, 1, &all, op_case_take(all));
    for (int64_t i = 0; i < all; i++)
        ((bf16 *)c.in[0].data)[i] = (bf16)i;
    c.out = op_case_empty(1, &all);
    op_case_finish(visit, &c);
    cases_scores(r, visit, OP_silu, &(struct op_attrs){0});
}

/* Every bf16, in a call that ends with rows of `width` of it from row `first` on, so that each of the
 * few elements that ATen's loop leaves over meets each of the inputs that it treats otherwise. */
static void case_gelu_tanh(struct random *r, const struct op_visit *visit, int64_t tokens,
                           int64_t first, int64_t width)
{
    const int64_t T = tokens - first;
    struct op_case c = {.op = OP_gelu_tanh, .count = 1, .scope = {.tokens = tokens, .row = first}};
    bf16 *x;

    c.in[0] = op_case_filled(r, FILL_EDGE, 2, (int64_t[]){T, width});
    x = c.in[0].data;
    for (int64_t i = 0; i < T * width; i++)
        if (T * width >= 65536)
            x[i] = (bf16)i;
        else if (random_below(r, 2))
            x[i] = (bf16)(0xc0a1 + random_below(r, 6));
    c.out = op_case_empty(2, (int64_t[]){T, width});
    snprintf(c.label, sizeof(c.label), "rows %d to %d of %d", (int)first, (int)tokens, (int)width);
    op_case_finish(visit, &c);
}

static void cases_gelu_tanh(struct random *r, const struct op_visit *visit)
{
    static const int64_t widths[] = {1, 7, 31, 32, 33, 64, 65, 176, 1001};

    case_gelu_tanh(r, visit, 64, 0, 1024);
    case_gelu_tanh(r, visit, 61, 0, 1083);
    for (int w = 0; w < (int)(sizeof(widths) / sizeof(widths[0])); w++)
        for (int t = 0; t < OP_CASE_TOKENS; t++) {
            case_gelu_tanh(r, visit, op_case_tokens[t], 0, widths[w]);
            case_gelu_tanh(r, visit, op_case_tokens[t] + 3, 2, widths[w]);
        }
}

/* ---- the walk ---- */

static op_cases_fn *const cases[OP_COUNT] = {
    [OP_embedding] = cases_embedding,
    [OP_rotary] = cases_rotary,
    [OP_linear] = op_cases_linear,
    [OP_rms_norm] = cases_rms_norm,
    [OP_layer_norm] = cases_layer_norm,
    [OP_rope] = cases_rope,
    [OP_cache_append] = cases_cache_append,
    [OP_matmul_qk] = op_cases_matmul_qk,
    [OP_scale] = cases_scale,
    [OP_divide] = cases_divide,
    [OP_tanh] = cases_tanh,
    [OP_slice] = cases_slice,
    [OP_causal_mask] = cases_causal_mask,
    [OP_softmax] = cases_softmax,
    [OP_matmul_pv] = op_cases_matmul_pv,
    [OP_sdpa] = op_cases_sdpa,
    [OP_add] = cases_add,
    [OP_mul] = cases_mul,
    [OP_silu] = cases_silu,
    [OP_gelu_tanh] = cases_gelu_tanh,
};

void op_cases_walk_large(op_case_fn *fn, void *user)
{
    const struct op_visit visit = {fn, user};
    struct random r = {OP_COUNT + 1};

    op_cases_many_outputs(&r, &visit);
}

int op_cases_walk(enum op op, op_case_fn *fn, void *user)
{
    const struct op_visit visit = {fn, user};
    struct random r = {(uint64_t)op + 1};

    if (!cases[op])
        return -1;
    cases[op](&r, &visit);
    return 0;
}
