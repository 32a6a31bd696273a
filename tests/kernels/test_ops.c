/* test_ops.c - every operation, under every numerics, in every version that this CPU can run and
 * on several thread counts, gives the bits of the plain version on one thread.
 *
 * Walks ops.def: an operation without cases fails. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/cpu/backend_cpu.h"
#include "kernels/rotary.h"
#include "tests/kernels/cases.h"

/* ---- the versions under test ---- */

enum { VERSIONS_MOST = 16 };

struct versions {
    struct backend *plain; /* one thread: what the others must equal */
    struct backend *other[VERSIONS_MOST];
    int count;
};

static struct versions versions[NUMERICS_CPU_COUNT];

static struct backend *open_version(enum numerics numerics, const char *isa, int threads)
{
    struct error err = {0};
    struct backend *b = backend_open("cpu", numerics, isa, threads, &err);

    if (!b)
        fail_msg("%s: %s", isa, err.text);
    return b;
}

static int open_versions(void **state)
{
    static const char *const isas[] = {"avx512_bf16", "avx2", "plain"};
    static const int threads[] = {1, 2, 3};

    (void)state;
    for (int n = 0; n < NUMERICS_CPU_COUNT; n++) {
        versions[n].plain = open_version((enum numerics)n, "plain", 1);
        for (int i = 0; i < 3; i++)
            for (int t = 0; t < 3; t++) {
                if (cpu_has(isas[i]))
                    versions[n].other[versions[n].count++] =
                        open_version((enum numerics)n, isas[i], threads[t]);
                else if (t == 0)
                    print_message("skip: this CPU lacks %s\n", isas[i]);
            }
    }
    return 0;
}

static int close_versions(void **state)
{
    (void)state;
    for (int n = 0; n < NUMERICS_CPU_COUNT; n++) {
        backend_close(versions[n].plain);
        for (int i = 0; i < versions[n].count; i++)
            backend_close(versions[n].other[i]);
    }
    return 0;
}

/* ---- running one case on all of them ---- */

struct tally {
    int64_t cases, elements;
};

struct inputs {
    enum op op;
    struct tensor in[3];
    int count;
    struct tensor weight, bias; /* rank 0: none */
    struct op_attrs attrs;
    struct op_scope scope;
    struct tensor out; /* shape; strides and data are made here */
    char label[160];
};

static bf16 *take(int64_t n)
{
    bf16 *p = malloc((size_t)(n ? n : 1) * sizeof(*p));

    assert_non_null(p);
    return p;
}

static void run_on(struct backend *b, const struct inputs *c, bf16 *out)
{
    struct tensor y = c->out;
    struct weight weight = {0}, bias = {0};
    struct error err = {0};
    struct op_call call = {.backend = b, .attrs = &c->attrs, .scope = c->scope, .out = &y};

    y.data = out;
    for (int i = 0; i < c->count; i++)
        call.in[i] = &c->in[i];
    if (c->weight.rank) {
        assert_int_equal(b->weight_open(b, c->op, &c->weight, &weight, &err), 0);
        call.weight = &weight;
    }
    if (c->bias.rank) {
        assert_int_equal(b->weight_open(b, c->op, &c->bias, &bias, &err), 0);
        call.bias = &bias;
    }
    assert_int_equal(b->op[c->op](&call), 0);
    if (call.weight)
        b->weight_close(b, &weight);
    if (call.bias)
        b->weight_close(b, &bias);
}

/* Elements that out's strides span. */
static int64_t span(const struct tensor *t)
{
    int64_t last = 0;

    for (int i = 0; i < t->rank; i++)
        last += (t->shape[i] - 1) * t->stride[i];
    return last + 1;
}

static void compare(struct inputs *c, struct tally *tally)
{
    const int64_t n = span(&c->out);
    bf16 *want = take(n), *got = take(n);

    for (int k = 0; k < NUMERICS_CPU_COUNT; k++) {
        memset(want, 0x5a, (size_t)n * sizeof(*want));
        run_on(versions[k].plain, c, want);
        for (int v = 0; v < versions[k].count; v++) {
            struct backend *b = versions[k].other[v];
            int64_t differing;

            memset(got, 0x5a, (size_t)n * sizeof(*got));
            run_on(b, c, got);
            differing = bf16_differing(want, got, n);
            if (differing)
                fail_msg("%s %s: %s, %s, %d threads: %lld of %lld elements differ", op_name(c->op),
                         c->label, numerics_name((enum numerics)k), b->isa, b->threads,
                         (long long)differing, (long long)n);
            tally->cases++;
            tally->elements += tensor_count(&c->out);
        }
    }
    free(want);
    free(got);
}

static struct tensor filled(struct random *r, enum fill fill, int rank, const int64_t *shape)
{
    struct tensor t = tensor_make(DTYPE_BF16, rank, shape, NULL);

    t.data = take(tensor_count(&t));
    random_fill(r, fill, t.data, tensor_count(&t));
    return t;
}

/* [heads, length, width] as a view into [heads, length + spare, width]. */
static struct tensor filled_cache(struct random *r, enum fill fill, int64_t heads, int64_t length,
                                  int64_t width)
{
    const int64_t shape[] = {heads, length + 3, width};
    struct tensor t = filled(r, fill, 3, shape);

    t.shape[1] = length;
    return t;
}

static struct tensor empty(int rank, const int64_t *shape)
{
    return tensor_make(DTYPE_BF16, rank, shape, NULL);
}

static void drop(struct inputs *c)
{
    for (int i = 0; i < c->count; i++)
        free(c->in[i].data);
    free(c->weight.data);
    free(c->bias.data);
}

static void finish(struct inputs *c, struct tally *tally)
{
    compare(c, tally);
    drop(c);
}

/* ---- cases ---- */

typedef void cases_fn(struct random *r, struct tally *tally);

static const int64_t tokens_of[] = {1, 2, 3, 5, 17, 64};

enum { TOKENS = sizeof(tokens_of) / sizeof(tokens_of[0]) };

static void cases_embedding(struct random *r, struct tally *tally)
{
    const int64_t width = 333, vocabulary = 97;

    for (int t = 0; t < TOKENS; t++) {
        const int64_t T = tokens_of[t];
        int64_t *ids = malloc((size_t)T * sizeof(*ids));
        struct inputs c = {.op = OP_embedding, .count = 1, .scope = {.tokens = T}};

        assert_non_null(ids);
        for (int64_t i = 0; i < T; i++)
            ids[i] = random_below(r, (uint32_t)vocabulary);
        c.in[0] = tensor_make(DTYPE_I64, 1, &T, ids);
        c.weight = filled(r, FILL_WILD, 2, (int64_t[]){vocabulary, width});
        c.out = empty(2, (int64_t[]){T, width});
        finish(&c, tally);
    }
}

static void cases_rotary(struct random *r, struct tally *tally)
{
    const struct rope_config rope = {.type = ROPE_DEFAULT, .theta = 10000};

    for (int t = 0; t < TOKENS; t++) {
        const int64_t T = tokens_of[t], D = t % 2 ? 128 : 6;
        int64_t *positions = malloc((size_t)T * sizeof(*positions));
        float inv_freq[64];
        struct inputs c = {.op = OP_rotary, .count = 1, .scope = {.tokens = T}};

        assert_non_null(positions);
        rotary_inv_freq(&rope, D, NUMERICS_TORCH_CPU_AVX2, inv_freq);
        for (int64_t i = 0; i < T; i++)
            positions[i] = random_below(r, 131072);
        c.in[0] = tensor_make(DTYPE_I64, 1, &T, positions);
        c.attrs = (struct op_attrs){
            .part = t % 3 ? ROTARY_COS : ROTARY_SIN, .inv_freq = inv_freq, .inv_freq_count = D / 2};
        c.out = empty(2, (int64_t[]){T, D});
        finish(&c, tally);
    }
}

/* all: rows that PyTorch's call has; the first `rows` of them are asked for. */
static void case_linear(struct random *r, struct tally *tally, enum fill fill, int64_t rows,
                        int64_t all, int64_t N, int64_t K, int bias)
{
    struct inputs c = {.op = OP_linear, .count = 1, .scope = {.tokens = all}};

    c.in[0] = filled(r, fill, 2, (int64_t[]){rows, K});
    c.weight = filled(r, fill, 2, (int64_t[]){N, K});
    if (bias)
        c.bias = filled(r, fill, 1, &N);
    c.out = empty(2, (int64_t[]){rows, N});
    snprintf(c.label, sizeof(c.label), "[%d of %d, %d] x [%d, %d]%s fill %d", (int)rows, (int)all,
             (int)K, (int)N, (int)K, bias ? " + bias" : "", (int)fill);
    finish(&c, tally);
}

static void cases_linear(struct random *r, struct tally *tally)
{
    static const int64_t K[] = {1,    2,    3,    31,   64,   65,   512, 513,
                                1023, 1024, 1025, 1536, 2049, 4097, 4864};
    static const int64_t N[] = {1, 3, 15, 63, 64, 65, 97, 129, 199};
    int turn = 0;

    for (int k = 0; k < (int)(sizeof(K) / sizeof(K[0])); k++)
        for (int t = 0; t < TOKENS; t++, turn++) {
            const int64_t n = N[turn % 9];

            if (tokens_of[t] * n * K[k] > 12000000)
                case_linear(r, tally, (enum fill)(turn % FILL_COUNT), 5, tokens_of[t], 65, K[k],
                            turn % 2);
            else
                case_linear(r, tally, (enum fill)(turn % FILL_COUNT), tokens_of[t], tokens_of[t], n,
                            K[k], turn % 2);
        }
    for (int f = 0; f < FILL_COUNT; f++) {
        case_linear(r, tally, (enum fill)f, 7, 7, 65, 1537, 1);
        case_linear(r, tally, (enum fill)f, 1, 1, 65, 1537, 0);
        case_linear(r, tally, (enum fill)f, 1, 9, 65, 1537, 0);
        case_linear(r, tally, (enum fill)f, 101, 101, 130, 66, 0);
        case_linear(r, tally, (enum fill)f, 40, 40, 130, 2, 0);
    }
}

static void case_rms_norm(struct random *r, struct tally *tally, enum fill fill, int64_t T,
                          int64_t heads, int64_t width, int rank)
{
    struct inputs c = {.op = OP_rms_norm, .count = 1, .scope = {.tokens = T}};

    c.in[0] = rank == 3 ? filled(r, fill, 3, (int64_t[]){T, heads, width})
                        : filled(r, fill, 2, (int64_t[]){T, heads * width});
    c.weight = filled(r, fill, 1, &width);
    c.attrs = (struct op_attrs){.eps = 1e-6, .width = heads ? width : 0};
    c.out = heads > 1 ? empty(3, (int64_t[]){T, heads, width}) : empty(2, (int64_t[]){T, width});
    snprintf(c.label, sizeof(c.label), "[%d, %d x %d] fill %d", (int)T, (int)heads, (int)width,
             (int)fill);
    finish(&c, tally);
}

static void cases_rms_norm(struct random *r, struct tally *tally)
{
    static const int64_t widths[] = {1, 3, 7, 8, 31, 33, 64, 100, 512, 576, 896, 1025, 2100, 16384};

    for (int w = 0; w < (int)(sizeof(widths) / sizeof(widths[0])); w++)
        for (int t = 0; t < TOKENS; t++)
            case_rms_norm(r, tally, (enum fill)((w + t) % FILL_COUNT), tokens_of[t], 1, widths[w],
                          2);
    for (int t = 0; t < TOKENS; t++) {
        case_rms_norm(r, tally, FILL_EDGE, tokens_of[t], 3, 65, 2);
        case_rms_norm(r, tally, FILL_EDGE, tokens_of[t], 5, 128, 3);
    }
}

static void cases_rope(struct random *r, struct tally *tally)
{
    for (int t = 0; t < TOKENS; t++)
        for (int rank = 2; rank <= 3; rank++) {
            const int64_t T = tokens_of[t], n = 1 + t, D = t % 2 ? 64 : 6 + 2 * t;
            struct inputs c = {.op = OP_rope, .count = 3, .scope = {.tokens = T}};

            c.in[0] = rank == 3 ? filled(r, FILL_WILD, 3, (int64_t[]){T, n, D})
                                : filled(r, FILL_WILD, 2, (int64_t[]){T, n * D});
            c.in[1] = filled(r, FILL_EDGE, 2, (int64_t[]){T, D});
            c.in[2] = filled(r, FILL_EDGE, 2, (int64_t[]){T, D});
            c.attrs.width = D;
            c.out = empty(3, (int64_t[]){n, T, D});
            finish(&c, tally);
        }
}

static void cases_cache_append(struct random *r, struct tally *tally)
{
    for (int t = 0; t < TOKENS; t++)
        for (int rank = 2; rank <= 3; rank++) {
            const int64_t T = tokens_of[t], G = 1 + t % 3, D = 16, L = T + 4, capacity = L + 7;
            struct inputs c = {
                .op = OP_cache_append, .count = 1, .scope = {.past = 4, .tokens = T}};

            c.in[0] = rank == 3 ? filled(r, FILL_WILD, 3, (int64_t[]){G, T, D})
                                : filled(r, FILL_WILD, 2, (int64_t[]){T, G * D});
            c.attrs.width = D;
            c.out = empty(3, (int64_t[]){G, capacity, D});
            c.out.shape[1] = L;
            finish(&c, tally);
        }
}

static void case_qk(struct random *r, struct tally *tally, enum fill fill, int64_t T, int64_t L,
                    int64_t G, int64_t shared, int64_t D)
{
    struct inputs c = {.op = OP_matmul_qk, .count = 2, .scope = {.past = L - T, .tokens = T}};

    c.in[0] = filled(r, fill, 3, (int64_t[]){G * shared, T, D});
    c.in[1] = filled_cache(r, fill, G, L, D);
    c.out = empty(3, (int64_t[]){G * shared, T, L});
    snprintf(c.label, sizeof(c.label), "[%d, %d, %d] x [%d, %d, %d] fill %d", (int)(G * shared),
             (int)T, (int)D, (int)G, (int)L, (int)D, (int)fill);
    finish(&c, tally);
}

static void case_pv(struct random *r, struct tally *tally, enum fill fill, int64_t T, int64_t L,
                    int64_t G, int64_t shared, int64_t D)
{
    struct inputs c = {.op = OP_matmul_pv, .count = 2, .scope = {.past = L - T, .tokens = T}};

    c.in[0] = filled(r, fill, 3, (int64_t[]){G * shared, T, L});
    c.in[1] = filled_cache(r, fill, G, L, D);
    c.out = empty(2, (int64_t[]){T, G * shared * D});
    snprintf(c.label, sizeof(c.label), "[%d, %d, %d] x [%d, %d, %d] fill %d", (int)(G * shared),
             (int)T, (int)L, (int)G, (int)L, (int)D, (int)fill);
    finish(&c, tally);
}

typedef void case_attention_fn(struct random *r, struct tally *tally, enum fill fill, int64_t T,
                               int64_t L, int64_t G, int64_t shared, int64_t D);

static void cases_product(struct random *r, struct tally *tally, case_attention_fn *fn)
{
    static const int64_t past[] = {0, 1, 7, 14, 15, 63, 64, 200, 1023, 1024, 2048};
    static const int64_t D[] = {64, 16, 8, 65, 80, 1, 128, 7};
    int turn = 0;

    for (int p = 0; p < (int)(sizeof(past) / sizeof(past[0])); p++)
        for (int t = 0; t < TOKENS; t++, turn++) {
            const int64_t T = past[p] > 1000 && tokens_of[t] > 17 ? 18 : tokens_of[t];

            fn(r, tally, (enum fill)(turn % FILL_COUNT), T, past[p] + T, 1 + turn % 2, 1 + turn % 3,
               D[turn % 8]);
        }
    fn(r, tally, FILL_PLAIN, 101, 103, 1, 1, 64);
    fn(r, tally, FILL_PLAIN, 1, 4500, 1, 2, 64);
    fn(r, tally, FILL_PLAIN, 2, 70, 1, 2, 600);
    fn(r, tally, FILL_TINY, 3, 70, 2, 2, 130);
}

static void cases_matmul_qk(struct random *r, struct tally *tally)
{
    cases_product(r, tally, case_qk);
}

static void cases_matmul_pv(struct random *r, struct tally *tally)
{
    cases_product(r, tally, case_pv);
}

/* window, hidden: as in struct op_attrs and op_scope. */
static struct inputs sdpa_inputs(struct random *r, enum fill fill, int64_t T, int64_t past,
                                 int64_t G, int64_t shared, int64_t D, int64_t window,
                                 int64_t hidden)
{
    const int64_t kept = window && past > window - 1 ? window - 1 : past, L = kept + T;
    struct inputs c = {.op = OP_sdpa, .count = 3, .scope = {past, T, hidden}};

    c.in[0] = filled(r, fill, 3, (int64_t[]){G * shared, T, D});
    c.in[1] = filled_cache(r, fill, G, L, D);
    c.in[2] = filled_cache(r, fill, G, L, D);
    c.attrs = (struct op_attrs){.by = 1 / sqrt((double)D), .window = window};
    c.out = empty(2, (int64_t[]){T, G * shared * D});
    snprintf(c.label, sizeof(c.label), "%d after %d, %d x %d of %d, window %d, hidden %d, fill %d",
             (int)T, (int)past, (int)G, (int)shared, (int)D, (int)window, (int)hidden, (int)fill);
    return c;
}

static void case_sdpa(struct random *r, struct tally *tally, enum fill fill, int64_t T,
                      int64_t past, int64_t G, int64_t shared, int64_t D, int64_t window,
                      int64_t hidden)
{
    struct inputs c = sdpa_inputs(r, fill, T, past, G, shared, D, window, hidden);

    finish(&c, tally);
}

/* Sums of underflowing products that stand at -0, which a key that is not seen turns into +0 if its
 * value has no sign. */
static void case_sdpa_minus(struct random *r, struct tally *tally, int64_t T, int64_t past,
                            int64_t window)
{
    static const bf16 values[] = {0x8001, 0x8001, 0x8000, 0x8000, 0x8000, 0x0000};
    struct inputs c = sdpa_inputs(r, FILL_PLAIN, T, past, 1, 2, 32, window, 0);
    bf16 *v = c.in[2].data;

    for (int64_t i = 0; i < c.in[2].shape[1] * 32; i++)
        v[i] = values[random_below(r, i % 32 < 16 ? 6 : 5)];
    c.attrs.by = 16;
    finish(&c, tally);
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
static void case_sdpa_tiny_scores(struct random *r, struct tally *tally, int64_t T, int64_t past,
                                  uint32_t size, int power)
{
    struct inputs c = sdpa_inputs(r, FILL_PLAIN, T, past, 1, 2, 64, 0, 0);
    struct tensor k = c.in[1];

    k.shape[1] += 3; /* all of the cache */
    fill_sizes(r, &c.in[0], size, 2 << 7);
    fill_sizes(r, &k, (uint32_t)(127 + power - ((int)(size >> 7) - 127)) << 7, 2 << 7);
    c.attrs.by = ldexp(1.0, -power);
    finish(&c, tally);
}

/* Values from denormals up to where no product with a weight can be denormal. */
static void case_sdpa_tiny_values(struct random *r, struct tally *tally, int64_t T, int64_t past,
                                  uint32_t size, uint32_t spread)
{
    struct inputs c = sdpa_inputs(r, FILL_PLAIN, T, past, 1, 2, 64, 0, 0);
    struct tensor v = c.in[2];

    v.shape[1] += 3;
    fill_sizes(r, &v, size, spread);
    finish(&c, tally);
}

static void cases_sdpa_tiny(struct random *r, struct tally *tally, int64_t T, int64_t past)
{
    for (uint32_t e = 0; e < 24; e += 2)
        case_sdpa_tiny_values(r, tally, T, past, (e << 7) + (e ? 0 : 1), 3 << 7);
    for (int power = -132; power < -100; power += 3)
        case_sdpa_tiny_scores(r, tally, T, past, 64 << 7, power < -126 ? -126 : power);
    for (uint32_t e = 0; e < 4; e++) {
        struct inputs c = sdpa_inputs(r, FILL_PLAIN, T, past, 1, 2, 64, 0, 0);
        struct tensor k = c.in[1];

        k.shape[1] += 3;
        fill_sizes(r, &c.in[0], (e << 7) + (e ? 0 : 1), 64);
        fill_sizes(r, &k, 240 << 7, 2 << 7);
        c.attrs.by = 256;
        finish(&c, tally);
    }
}

/* A prompt, one token, and several tokens after others, each with every kind of mask. */
static void cases_sdpa_masks(struct random *r, struct tally *tally, int64_t T, int64_t past,
                             int turn)
{
    static const int64_t D[] = {16, 64, 24, 80, 40, 128, 96, 200, 256};
    const int64_t d = T + past > 100 ? D[turn % 3] : D[turn % 9], all = T + past;
    const int64_t G = all > 400 ? 1 : 1 + turn % 2, shared = all > 400 ? 1 : 1 + turn % 7;
    const enum fill fill = (enum fill)(turn % FILL_COUNT);

    case_sdpa(r, tally, fill, T, past, G, shared, d, 0, 0);
    case_sdpa(r, tally, fill, T, past, G, shared, d, 0, 1 + random_below(r, (uint32_t)all));
    case_sdpa(r, tally, fill, T, past, G, shared, d, 1 + random_below(r, (uint32_t)all), 0);
    case_sdpa(r, tally, fill, T, past, G, shared, d, 1 + random_below(r, (uint32_t)all),
              random_below(r, (uint32_t)all));
}

static void cases_sdpa(struct random *r, struct tally *tally)
{
    static const int64_t T[] = {1,  2,  3,  4,  5,  7,   8,   9,   11,  12,  13,  16,  17, 31,
                                32, 33, 35, 64, 65, 100, 191, 192, 193, 300, 767, 768, 800};
    static const int64_t past[] = {1, 10, 11, 14, 500, 507, 511, 512, 520, 1023, 1500};
    int turn = 0;

    for (int t = 0; t < (int)(sizeof(T) / sizeof(T[0])); t++, turn++)
        cases_sdpa_masks(r, tally, T[t], 0, turn);
    for (int p = 0; p < (int)(sizeof(past) / sizeof(past[0])); p++)
        for (int t = 0; t<17; t += past[p]> 20 ? 4 : 1, turn++)
            cases_sdpa_masks(r, tally, T[t], past[p], turn);
    for (int f = 0; f < FILL_COUNT; f++) {
        case_sdpa(r, tally, (enum fill)f, 40, 0, 2, 3, 64, 0, 0);
        case_sdpa(r, tally, (enum fill)f, 40, 500, 1, 1, 64, 0, 0);
        case_sdpa(r, tally, (enum fill)f, 40, 500, 1, 1, 64, 100, 450);
        case_sdpa(r, tally, (enum fill)f, 300, 0, 1, 2, 32, 0, 0);
        case_sdpa(r, tally, (enum fill)f, 1, 600, 1, 7, 64, 0, 0);
    }
    cases_sdpa_tiny(r, tally, 40, 0);
    cases_sdpa_tiny(r, tally, 9, 200);
    for (int i = 0; i < 4; i++) {
        case_sdpa_minus(r, tally, T[i], 5, 0);
        case_sdpa_minus(r, tally, 20, 0, 0);
        case_sdpa_minus(r, tally, 300, 0, 200 * (i % 2));
        case_sdpa_minus(r, tally, 40, 500, 0);
        case_sdpa_minus(r, tally, 40, 1000, 300);
    }
}

/* Operations on one tensor of scores. */
static void case_scores(struct random *r, struct tally *tally, enum op op, enum fill fill,
                        int64_t T, int64_t L, const struct op_attrs *attrs)
{
    struct inputs c = {.op = op, .count = 1, .scope = {L - T, T, L % 2 * (L / 3)}, .attrs = *attrs};

    c.in[0] = filled(r, fill, 3, (int64_t[]){3, T, L});
    c.out = empty(3, c.in[0].shape);
    snprintf(c.label, sizeof(c.label), "[3, %d, %d] fill %d", (int)T, (int)L, (int)fill);
    finish(&c, tally);
}

static void cases_scores(struct random *r, struct tally *tally, enum op op,
                         const struct op_attrs *attrs)
{
    static const int64_t past[] = {0,  1,  5,  6,  7,    8,    13,   14,   15,
                                   16, 17, 62, 63, 1023, 1024, 2046, 2047, 4100};

    for (int p = 0; p < (int)(sizeof(past) / sizeof(past[0])); p++)
        for (int t = 0; t < TOKENS; t++)
            case_scores(r, tally, op, (enum fill)((p + t) % FILL_COUNT), tokens_of[t],
                        past[p] + tokens_of[t], attrs);
}

static void cases_scale(struct random *r, struct tally *tally)
{
    cases_scores(r, tally, OP_scale, &(struct op_attrs){.by = 0.08838834764831845});
}

static void cases_causal_mask(struct random *r, struct tally *tally)
{
    cases_scores(r, tally, OP_causal_mask, &(struct op_attrs){0});
    cases_scores(r, tally, OP_causal_mask, &(struct op_attrs){.window = 1});
    cases_scores(r, tally, OP_causal_mask, &(struct op_attrs){.window = 60});
}

static void cases_softmax(struct random *r, struct tally *tally)
{
    cases_scores(r, tally, OP_softmax, &(struct op_attrs){0});
}

static void cases_two(struct random *r, struct tally *tally, enum op op)
{
    for (int t = 0; t < TOKENS; t++)
        for (int f = 0; f < FILL_COUNT; f++) {
            const int64_t shape[] = {tokens_of[t], 1001};
            struct inputs c = {.op = op, .count = 2, .scope = {.tokens = shape[0]}};

            c.in[0] = filled(r, (enum fill)f, 2, shape);
            c.in[1] = filled(r, (enum fill)f, 2, shape);
            c.out = empty(2, shape);
            finish(&c, tally);
        }
}

static void cases_add(struct random *r, struct tally *tally)
{
    cases_two(r, tally, OP_add);
}

static void cases_mul(struct random *r, struct tally *tally)
{
    cases_two(r, tally, OP_mul);
}

static void cases_silu(struct random *r, struct tally *tally)
{
    const int64_t all = 65536;
    struct inputs c = {.op = OP_silu, .count = 1, .scope = {.tokens = 1}, .label = "of every bf16"};

    (void)r;
    c.in[0] = tensor_make(DTYPE_BF16, 1, &all, take(all));
    for (int64_t i = 0; i < all; i++)
        ((bf16 *)c.in[0].data)[i] = (bf16)i;
    c.out = empty(1, &all);
    finish(&c, tally);
    cases_scores(r, tally, OP_silu, &(struct op_attrs){0});
}

/* ---- the walk ---- */

static cases_fn *const cases[OP_COUNT] = {
    [OP_embedding] = cases_embedding,
    [OP_rotary] = cases_rotary,
    [OP_linear] = cases_linear,
    [OP_rms_norm] = cases_rms_norm,
    [OP_rope] = cases_rope,
    [OP_cache_append] = cases_cache_append,
    [OP_matmul_qk] = cases_matmul_qk,
    [OP_scale] = cases_scale,
    [OP_causal_mask] = cases_causal_mask,
    [OP_softmax] = cases_softmax,
    [OP_matmul_pv] = cases_matmul_pv,
    [OP_sdpa] = cases_sdpa,
    [OP_add] = cases_add,
    [OP_mul] = cases_mul,
    [OP_silu] = cases_silu,
};

static void test_op(enum op op)
{
    struct random r = {(uint64_t)op + 1};
    struct tally tally = {0};

    if (!cases[op])
        fail_msg("%s: no cases", op_name(op));
    cases[op](&r, &tally);
    print_message("%s: %lld comparisons, %lld elements, 0 differing\n", op_name(op),
                  (long long)tally.cases, (long long)tally.elements);
}

#define OP(name, least, most, mirror)                                                              \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        test_op(OP_##name);                                                                        \
    }
#include "kernels/ops.def"

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define OP(name, least, most, mirror) cmocka_unit_test(test_##name),
#include "kernels/ops.def"
    };

    return cmocka_run_group_tests_name("kernels/ops", tests, open_versions, close_versions);
}
