/* op_cases_products.c - cases of the matrix products; see op_cases.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

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

enum { CANCEL_K = 400, CANCEL_AT = 300 };

/* Vectors of a matrix: zero but for elements 0, 2 and CANCEL_AT. */
static void fill_cancelling(const struct tensor *t, int64_t vectors, int64_t step, int64_t k_step,
                            const float *values)
{
    bf16 *data = t->data;

    memset(data, 0, (size_t)op_case_storage(t) * sizeof(*data));
    for (int64_t i = 0; i < vectors; i++) {
        data[i * step] = bf16_from_f32(values[0]);
        data[i * step + 2 * k_step] = bf16_from_f32(values[1]);
        data[i * step + CANCEL_AT * k_step] = bf16_from_f32(values[2]);
    }
}

/* Long after a small element came by, the large ones cancel: what is left is denormal. */
static void case_linear_cancelling(struct random *r, const struct op_visit *visit, int64_t rows)
{
    static const float x[] = {0x1p-56f, 0x1p-76f, 0x1p-56f}, w[] = {0x1p-56f, 0x1p-56f, -0x1p-56f};
    struct op_case c = {.op = OP_linear, .count = 1, .scope = {.tokens = rows}};

    c.in[0] = op_case_filled(r, FILL_PLAIN, 2, (int64_t[]){rows, CANCEL_K});
    c.weight = op_case_filled(r, FILL_PLAIN, 2, (int64_t[]){65, CANCEL_K});
    fill_cancelling(&c.in[0], rows, CANCEL_K, 1, x);
    fill_cancelling(&c.weight, 65, CANCEL_K, 1, w);
    c.out = op_case_empty(2, (int64_t[]){rows, 65});
    snprintf(c.label, sizeof(c.label), "%d rows of cancelling products", (int)rows);
    op_case_finish(visit, &c);
}

static void case_pv_cancelling(struct random *r, const struct op_visit *visit, int64_t T)
{
    static const float p[] = {0x1p-82f, 0x1p-82f, 0x1p-82f}, v[] = {0x1p-30f, 0x1p-50f, -0x1p-30f};
    struct op_case c = {
        .op = OP_matmul_pv, .count = 2, .scope = {.past = CANCEL_K - T, .tokens = T}};

    c.in[0] = op_case_filled(r, FILL_PLAIN, 3, (int64_t[]){1, T, CANCEL_K});
    c.in[1] = op_case_filled(r, FILL_PLAIN, 3, (int64_t[]){1, CANCEL_K, 40});
    fill_cancelling(&c.in[0], T, CANCEL_K, 1, p);
    fill_cancelling(&c.in[1], 40, 1, 40, v);
    c.out = op_case_empty(2, (int64_t[]){T, 40});
    snprintf(c.label, sizeof(c.label), "%d rows of cancelling products", (int)T);
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
    }
    for (int t = 0; t < OP_CASE_TOKENS; t++)
        case_linear_cancelling(r, visit, op_case_tokens[t]);
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
}

void op_cases_matmul_pv(struct random *r, const struct op_visit *visit)
{
    cases_product(r, visit, case_pv);
    for (int t = 0; t < OP_CASE_TOKENS; t++)
        case_pv_cancelling(r, visit, op_case_tokens[t]);
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
