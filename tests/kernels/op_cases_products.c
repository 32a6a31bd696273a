/* op_cases_products.c - cases of the matrix products; see op_cases.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/products.h"
#include "tests/kernels/op_cases.h"

/* all: rows that PyTorch's call has; the first `rows` of them are asked for. */
static void case_linear(struct random *r, const struct op_visit *visit, enum fill fill,
                        int64_t rows, int64_t all, int64_t N, int64_t K, int bias)
{
    struct op_case c = {.op = OP_linear, .count = 1, .scope = {.tokens = all}};

    c.in[0] = op_case_filled(r, fill, 2, (int64_t[]){rows, K});
    c.weight = op_case_filled(r, fill, 2, (int64_t[]){N, K});
    if (bias)
        c.bias = op_case_filled(r, fill, 1, &N);
    c.out = op_case_empty(2, (int64_t[]){rows, N});
    snprintf(c.label, sizeof(c.label), "[%d of %d, %d] x [%d, %d]%s fill %d", (int)rows, (int)all,
             (int)K, (int)N, (int)K, bias ? " + bias" : "", (int)fill);
    op_case_finish(visit, &c);
}

static void case_qk(struct random *r, const struct op_visit *visit, enum fill fill, int64_t T,
                    int64_t L, int64_t G, int64_t shared, int64_t D)
{
    struct op_case c = {.op = OP_matmul_qk, .count = 2, .scope = {.past = L - T, .tokens = T}};

    c.in[0] = op_case_filled(r, fill, 3, (int64_t[]){G * shared, T, D});
    c.in[1] = op_case_filled_cache(r, fill, G, L, D);
    c.out = op_case_empty(3, (int64_t[]){G * shared, T, L});
    snprintf(c.label, sizeof(c.label), "[%d, %d, %d] x [%d, %d, %d] fill %d", (int)(G * shared),
             (int)T, (int)D, (int)G, (int)L, (int)D, (int)fill);
    op_case_finish(visit, &c);
}

static void case_pv(struct random *r, const struct op_visit *visit, enum fill fill, int64_t T,
                    int64_t L, int64_t G, int64_t shared, int64_t D)
{
    struct op_case c = {.op = OP_matmul_pv, .count = 2, .scope = {.past = L - T, .tokens = T}};

    c.in[0] = op_case_filled(r, fill, 3, (int64_t[]){G * shared, T, L});
    c.in[1] = op_case_filled_cache(r, fill, G, L, D);
    c.out = op_case_empty(2, (int64_t[]){T, G * shared * D});
    snprintf(c.label, sizeof(c.label), "[%d, %d, %d] x [%d, %d, %d] fill %d", (int)(G * shared),
             (int)T, (int)L, (int)G, (int)L, (int)D, (int)fill);
    op_case_finish(visit, &c);
}

enum { SPECIAL_K = 320, SPECIAL_AT = 316, SPECIALS = 3 };

/* Elements 0, 2 and SPECIAL_AT of rows of x and columns of w; the others are zero. */
static const struct special {
    const char *what;
    float x[3], w[3];
} specials[SPECIALS] = {
    {"long after a small element came by, large products cancel: what is left is denormal",
     {0x1p-56f, 0x1p-76f, 0x1p-56f},
     {0x1p-56f, 0x1p-56f, -0x1p-56f}},
    {"denormal weights meet large elements",
     {0x1p20f, 0x1p20f, 0x1p20f},
     {0x1p-130f, 0.0f, 0x1p-131f}},
    {"what is left of normal products is half the least normal",
     {0x1.02p-56f, 0x1.04p-56f, 0.0f},
     {0x1.02p-57f, -0x1p-57f, 0.0f}},
};
static const struct special special_weights = {
    "long after a small value came by, large products cancel: what is left is denormal",
    {0x1p-82f, 0x1p-82f, 0x1p-82f},
    {0x1p-30f, 0x1p-50f, -0x1p-30f}};

static void fill_special(const struct tensor *t, int64_t vectors, int64_t step, int64_t k_step,
                         const float *values)
{
    bf16 *data = t->data;

    memset(data, 0, (size_t)op_case_storage(t) * sizeof(*data));
    for (int64_t i = 0; i < vectors; i++) {
        data[i * step] = bf16_from_f32(values[0]);
        data[i * step + 2 * k_step] = bf16_from_f32(values[1]);
        data[i * step + SPECIAL_AT * k_step] = bf16_from_f32(values[2]);
    }
}

static void case_linear_special(struct random *r, const struct op_visit *visit, int64_t rows,
                                const struct special *special)
{
    struct op_case c = {.op = OP_linear, .count = 1, .scope = {.tokens = rows}};

    c.in[0] = op_case_filled(r, FILL_PLAIN, 2, (int64_t[]){rows, SPECIAL_K});
    c.weight = op_case_filled(r, FILL_PLAIN, 2, (int64_t[]){65, SPECIAL_K});
    fill_special(&c.in[0], rows, SPECIAL_K, 1, special->x);
    fill_special(&c.weight, 65, SPECIAL_K, 1, special->w);
    c.out = op_case_empty(2, (int64_t[]){rows, 65});
    snprintf(c.label, sizeof(c.label), "%d rows: %s", (int)rows, special->what);
    op_case_finish(visit, &c);
}

static void case_pv_special(struct random *r, const struct op_visit *visit, int64_t T,
                            const struct special *special)
{
    struct op_case c = {
        .op = OP_matmul_pv, .count = 2, .scope = {.past = SPECIAL_K - T, .tokens = T}};

    c.in[0] = op_case_filled(r, FILL_PLAIN, 3, (int64_t[]){1, T, SPECIAL_K});
    c.in[1] = op_case_filled(r, FILL_PLAIN, 3, (int64_t[]){1, SPECIAL_K, 40});
    fill_special(&c.in[0], T, SPECIAL_K, 1, special->x);
    fill_special(&c.in[1], 40, 1, 40, special->w);
    c.out = op_case_empty(2, (int64_t[]){T, 40});
    snprintf(c.label, sizeof(c.label), "%d rows: %s", (int)T, special->what);
    op_case_finish(visit, &c);
}

/* Of K elements the last one takes away what the others give, rounded: what is left are bits of the
 * sum that a bf16 hides.  Rows of x are made equal; element k of column n of w is at n * n_step +
 * k * k_step. */
static void expose(const struct tensor *x, int64_t rows, int64_t K, const struct tensor *w,
                   int64_t N, int64_t n_step, int64_t k_step)
{
    bf16 *row = x->data;

    row[K - 1] = bf16_from_f32(1.0f);
    for (int64_t r = 1; r < rows; r++)
        memcpy(row + r * K, row, (size_t)K * sizeof(*row));
    for (int64_t n = 0; n < N; n++) {
        bf16 *column = (bf16 *)w->data + n * n_step;
        const int64_t block = rows == 1 || K <= 1024 ? 512 : 1024;
        const float sum = product_pairs(row, column, k_step, K - 1, block);

        column[(K - 1) * k_step] = bf16_from_f32(-sum);
    }
}

static void case_linear_exposed(struct random *r, const struct op_visit *visit, int64_t rows,
                                int64_t K)
{
    struct op_case c = {.op = OP_linear, .count = 1, .scope = {.tokens = rows}};

    c.in[0] = op_case_filled(r, FILL_PLAIN, 2, (int64_t[]){rows, K});
    c.weight = op_case_filled(r, FILL_PLAIN, 2, (int64_t[]){65, K});
    expose(&c.in[0], rows, K, &c.weight, 65, K, 1);
    c.out = op_case_empty(2, (int64_t[]){rows, 65});
    snprintf(c.label, sizeof(c.label), "[%d, %d], exposed", (int)rows, (int)K);
    op_case_finish(visit, &c);
}

static void case_qk_exposed(struct random *r, const struct op_visit *visit, int64_t T, int64_t D)
{
    struct op_case c = {.op = OP_matmul_qk, .count = 2, .scope = {.past = 90, .tokens = T}};

    c.in[0] = op_case_filled(r, FILL_PLAIN, 3, (int64_t[]){1, T, D});
    c.in[1] = op_case_filled(r, FILL_PLAIN, 3, (int64_t[]){1, 90 + T, D});
    expose(&c.in[0], T, D, &c.in[1], 90 + T, D, 1);
    c.out = op_case_empty(3, (int64_t[]){1, T, 90 + T});
    snprintf(c.label, sizeof(c.label), "[%d, %d], exposed", (int)T, (int)D);
    op_case_finish(visit, &c);
}

static void case_pv_exposed(struct random *r, const struct op_visit *visit, int64_t T, int64_t L)
{
    struct op_case c = {.op = OP_matmul_pv, .count = 2, .scope = {.past = L - T, .tokens = T}};

    c.in[0] = op_case_filled(r, FILL_PLAIN, 3, (int64_t[]){1, T, L});
    c.in[1] = op_case_filled(r, FILL_PLAIN, 3, (int64_t[]){1, L, 72});
    expose(&c.in[0], T, L, &c.in[1], 72, 1, 72);
    c.out = op_case_empty(2, (int64_t[]){T, 72});
    snprintf(c.label, sizeof(c.label), "[%d, %d], exposed", (int)T, (int)L);
    op_case_finish(visit, &c);
}

void op_cases_linear(struct random *r, const struct op_visit *visit)
{
    static const int64_t K[] = {1,    2,    3,    31,   64,   65,   512, 513,
                                1023, 1024, 1025, 1536, 2049, 4097, 4864};
    static const int64_t N[] = {1, 3, 15, 63, 64, 65, 97, 129, 199};
    int turn = 0;

    for (int k = 0; k < (int)(sizeof(K) / sizeof(K[0])); k++)
        for (int t = 0; t < OP_CASE_TOKENS; t++, turn++) {
            const int64_t n = N[turn % 9];

            if (op_case_tokens[t] * n * K[k] > 12000000)
                case_linear(r, visit, (enum fill)(turn % FILL_COUNT), 5, op_case_tokens[t], 65,
                            K[k], turn % 2);
            else
                case_linear(r, visit, (enum fill)(turn % FILL_COUNT), op_case_tokens[t],
                            op_case_tokens[t], n, K[k], turn % 2);
        }
    for (int f = 0; f < FILL_COUNT; f++) {
        case_linear(r, visit, (enum fill)f, 7, 7, 65, 1537, 1);
        case_linear(r, visit, (enum fill)f, 1, 1, 65, 1537, 0);
        case_linear(r, visit, (enum fill)f, 1, 9, 65, 1537, 0);
        case_linear(r, visit, (enum fill)f, 101, 101, 130, 66, 0);
        case_linear(r, visit, (enum fill)f, 40, 40, 130, 2, 0);
        case_linear(r, visit, (enum fill)f, 391, 391, 65, 33, 1); /* more than a piece's rows */
    }
    for (int t = 0; t < OP_CASE_TOKENS; t++)
        for (int s = 0; s < SPECIALS; s++)
            case_linear_special(r, visit, op_case_tokens[t], &specials[s]);
    for (int t = 0; t < OP_CASE_TOKENS; t++) {
        case_linear_exposed(r, visit, op_case_tokens[t], 4865);
        case_linear_exposed(r, visit, op_case_tokens[t], 577);
    }
}

typedef void case_attention_fn(struct random *r, const struct op_visit *visit, enum fill fill,
                               int64_t T, int64_t L, int64_t G, int64_t shared, int64_t D);

static void cases_product(struct random *r, const struct op_visit *visit, case_attention_fn *fn)
{
    static const int64_t past[] = {0, 1, 7, 14, 15, 63, 64, 200, 1023, 1024, 2048};
    static const int64_t D[] = {64, 16, 8, 65, 80, 1, 128, 7};
    int turn = 0;

    for (int p = 0; p < (int)(sizeof(past) / sizeof(past[0])); p++)
        for (int t = 0; t < OP_CASE_TOKENS; t++, turn++) {
            const int64_t T = past[p] > 1000 && op_case_tokens[t] > 17 ? 18 : op_case_tokens[t];

            fn(r, visit, (enum fill)(turn % FILL_COUNT), T, past[p] + T, 1 + turn % 2, 1 + turn % 3,
               D[turn % 8]);
        }
    fn(r, visit, FILL_PLAIN, 101, 103, 1, 1, 64);
    fn(r, visit, FILL_PLAIN, 1, 4500, 1, 2, 64);
    fn(r, visit, FILL_PLAIN, 2, 70, 1, 2, 600);
    fn(r, visit, FILL_TINY, 3, 70, 2, 2, 130);
}

void op_cases_matmul_qk(struct random *r, const struct op_visit *visit)
{
    cases_product(r, visit, case_qk);
    for (int t = 0; t < OP_CASE_TOKENS; t++) {
        case_qk_exposed(r, visit, op_case_tokens[t], 65);
        case_qk_exposed(r, visit, op_case_tokens[t], 129);
    }
}

void op_cases_matmul_pv(struct random *r, const struct op_visit *visit)
{
    cases_product(r, visit, case_pv);
    for (int t = 0; t < OP_CASE_TOKENS; t++)
        case_pv_special(r, visit, op_case_tokens[t], &special_weights);
    for (int t = 0; t < OP_CASE_TOKENS; t++) {
        case_pv_exposed(r, visit, op_case_tokens[t], 4997);
        case_pv_exposed(r, visit, op_case_tokens[t], 77);
    }
}

void op_cases_many_outputs(struct random *r, const struct op_visit *visit)
{
    case_linear(r, visit, FILL_PLAIN, 530, 530, 1030, 533, 1);
    case_linear(r, visit, FILL_LEAST, 530, 530, 1030, 66, 0);
    case_linear(r, visit, FILL_EDGE, 1030, 1030, 1030, 530, 0);
    case_linear(r, visit, FILL_LEAST, 1030, 1030, 1030, 35, 1);
    case_qk(r, visit, FILL_EDGE, 130, 450, 8, 1, 64);
    case_qk(r, visit, FILL_LEAST, 130, 450, 8, 2, 65);
    case_pv(r, visit, FILL_TINY, 130, 450, 8, 1, 200);
    case_pv(r, visit, FILL_PLAIN, 513, 520, 4, 2, 250);
}
