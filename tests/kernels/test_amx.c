/* test_amx.c - what PyTorch 2.13.0 computes on a CPU with AMX: plans of products, and products and
 * attention, against results recorded on such a CPU (amx_tile, amx_bf16, no amx_fp16; L1d 48 KiB, L2
 * 2 MiB a core).
 *
 *     test_amx         the best version: cases of up to MULTIPLIES multiply-adds; plain: of up to
 *                      MULTIPLIES_PLAIN
 *     test_amx best    the best version (SAMEBIT_ISA: another): all cases; plain: none
 *     test_amx all     both: all cases, in minutes */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/amx_plan.h"
#include "kernels/backend.h"
#include "kernels/base/bf16.h"

static int64_t most_of_best, most_of_plain; /* multiply-adds of a case */

static const char plans_digest[] =
    "4ae11e331c1efe0667c7f45fe36c323d4fbf53c0923db3f832aacb149bac094b";

static void hex_digest(const void *data, size_t size, char *out)
{
    unsigned char digest[32];
    unsigned n;

    EVP_Digest(data, size, digest, &n, EVP_sha256(), NULL);
    for (unsigned i = 0; i < n; i++)
        sprintf(out + 2 * i, "%02x", digest[i]);
}

/* ---- plans ---- */

static uint64_t random_state;

static int64_t random_below(int64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (int64_t)(random_state % (uint64_t)n);
}

/* Of any size, often a multiple of 32, sometimes an extent of a real model. */
static int64_t random_extent(int64_t most)
{
    static const int64_t real[] = {64,   128,  576,  896,  1024, 1100,  1536,  2048,
                                   3072, 4096, 4864, 8192, 8960, 14336, 151936};
    int64_t n = 1 + random_below((int64_t)2 << random_below(18));

    if (random_below(2))
        n = (n + 31) / 32 * 32;
    if (random_below(4) == 0)
        n = real[random_below(15)];
    return n > most ? most : n;
}

static struct product_shape random_shape(struct torch_host *host)
{
    static const int64_t threads[] = {1, 2, 3, 4, 6, 8, 12, 16};
    struct product_shape s = {.host = host};

    *host = torch_host_studied();
    do {
        s.use = (enum product_use)random_below(3);
        s.B = s.use == PRODUCT_OF_LINEAR ? 1 : 1 + random_below(40);
        s.M = random_below(4) == 0 ? 1 : random_extent(2048);
        s.N = random_extent(s.use == PRODUCT_OF_QK ? 4096 : s.use == PRODUCT_OF_PV ? 256 : 151936);
        s.K = random_extent(s.use == PRODUCT_OF_QK ? 256 : s.use == PRODUCT_OF_PV ? 4096 : 16384);
        host->threads = threads[random_below(8)];
    } while (s.B * s.M * s.N * s.K <= 4096);
    return s;
}

/* The digest is that of the plans which an implementation of its own made of these shapes, one whose
 * plans have been seen to give PyTorch's bits for 28,081 shapes. */
static void test_plans(void **state)
{
    enum { SHAPES = 25000 };
    char *text = malloc(SHAPES * 128), digest[65];
    size_t n = 0;

    (void)state;
    random_state = 88172645463325252u;
    for (int i = 0; i < SHAPES; i++) {
        struct torch_host host;
        const struct product_shape s = random_shape(&host);
        const struct amx_plan p = amx_plan_of(&s);

        assert_true(p.block % 2 == 0 || p.block == s.K); /* so that panels of pairs serve */
        assert_true(p.chunk % p.block == 0);
        n += (size_t)sprintf(text + n, "%d %lld %lld %lld %lld %lld: %lld %lld %lld %d %d\n", s.use,
                             (long long)s.B, (long long)s.M, (long long)s.N, (long long)s.K,
                             (long long)host.threads, (long long)p.block, (long long)p.chunk,
                             (long long)p.parts, p.even, p.small);
    }
    hex_digest(text, n, digest);
    free(text);
    assert_string_equal(digest, plans_digest);
}

struct known {
    int64_t M, N, K, threads, block, parts;
};

/* Of layers that everybody knows. */
static void test_known_plans(void **state)
{
    static const struct known known[] = {
        {32, 896, 896, 2, 896, 1},    {33, 896, 896, 2, 448, 1},    {33, 896, 896, 64, 896, 1},
        {1, 896, 4864, 2, 2432, 1},   {1, 896, 4864, 64, 1216, 4},  {33, 896, 4864, 2, 512, 2},
        {64, 896, 4864, 1, 448, 1},   {100, 896, 4864, 2, 1216, 2}, {1, 2048, 8192, 2, 2048, 1},
        {33, 2048, 8192, 8, 1184, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        const struct known *k = &known[i];
        struct torch_host host = torch_host_studied();
        const struct product_shape s = {PRODUCT_OF_LINEAR, 1, k->M, k->N, k->K, &host};
        struct amx_plan p;

        host.threads = k->threads;
        p = amx_plan_of(&s);
        assert_int_equal(p.block, k->block);
        assert_int_equal(p.parts, k->parts);
        p = amx_plan_of(&s); /* as it was kept */
        assert_int_equal(p.block, k->block);
    }
}

/* ---- recorded results ---- */

enum { MULTIPLIES = 256 << 20, MULTIPLIES_PLAIN = 12 << 20 };

/* linear, matmul: B x M x K times K x N.  sdpa: B rows of a batch of H heads that share G, T tokens, S
 * keys, D. */
struct recorded {
    enum op op;
    int64_t B, H, G, M, N, K;
    int bias;
    int64_t padding, threads;
    const char *digest; /* SHA-256 of the output, [B][H][T][D] of sdpa, [B][M][N] else */
};

static const struct recorded recorded[] = {
#include "tests/kernels/amx_recorded.inc"
};

/* Element i of the tensor with this seed: a 64-bit mix of both; sign bit 63, mantissa bits 0..6,
 * exponent 127 less the zeros at the end of bits 8..13. */
static bf16 element(uint64_t seed, uint64_t i, int positive)
{
    uint64_t z = (i + (seed << 32) + 1) * 0x9E3779B97F4A7C15u, run;
    int zeros = 0;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    run = (z >> 8 & 63) | 64;
    while (!(run >> zeros & 1))
        zeros++;
    return (bf16)((uint64_t)(127 - zeros) << 7 | (z & 127) | (positive ? 0 : z >> 63 << 15));
}

static struct tensor filled(uint64_t seed, int rank, const int64_t *shape, int positive)
{
    struct tensor t = tensor_make(DTYPE_BF16, rank, shape, NULL);
    const int64_t n = tensor_count(&t);
    bf16 *data = malloc((size_t)n * sizeof(*data));

    for (int64_t i = 0; i < n; i++)
        data[i] = element(seed, (uint64_t)i, positive);
    t.data = data;
    return t;
}

static void run_linear(struct backend *b, const struct recorded *r, bf16 *out)
{
    const int64_t x[] = {r->M, r->K}, w[] = {r->N, r->K}, bias[] = {r->N}, y[] = {r->M, r->N};
    struct tensor in = filled(1, 2, x, 0), right = filled(2, 2, w, 0), add = filled(3, 1, bias, 0);
    struct tensor to = tensor_make(DTYPE_BF16, 2, y, out);
    const struct op_attrs attrs = {0};
    struct weight weight = {0}, kept = {.plain = add};
    struct op_call call = {
        .backend = b, .in = {&in}, .weight = &weight, .out = &to, .attrs = &attrs};
    struct error err = {0};

    call.bias = r->bias ? &kept : NULL;
    call.scope.tokens = r->M;
    assert_int_equal(b->weight_open(b, OP_linear, &right, NULL, NULL, &weight, &err), 0);
    assert_int_equal(b->op[OP_linear](&call), 0);
    b->weight_close(b, &weight);
    free(in.data);
    free(right.data);
    free(add.data);
}

static void run_heads(struct backend *b, const struct recorded *r, bf16 *out)
{
    const int is_pv = r->op == OP_matmul_pv;
    const int64_t x[] = {r->B, r->M, r->K}, q[] = {r->B, r->N, r->K}, v[] = {r->B, r->K, r->N};
    const int64_t scores[] = {r->B, r->M, r->N}, context[] = {r->M, r->B * r->N};
    const size_t bytes = (size_t)(r->B * r->M * r->N) * sizeof(bf16);
    struct tensor left = filled(1, 3, x, is_pv), right = filled(2, 3, is_pv ? v : q, 0);
    bf16 *tokens_first = malloc(bytes);
    struct tensor to = is_pv ? tensor_make(DTYPE_BF16, 2, context, tokens_first)
                             : tensor_make(DTYPE_BF16, 3, scores, out);
    const struct op_attrs attrs = {0};
    const struct op_call call = {.backend = b,
                                 .in = {&left, &right},
                                 .out = &to,
                                 .attrs = &attrs,
                                 .scope = {.tokens = r->M}};

    assert_int_equal(b->op[r->op](&call), 0);
    for (int64_t h = 0; is_pv && h < r->B; h++)
        for (int64_t t = 0; t < r->M; t++)
            memcpy(out + (h * r->M + t) * r->N, tokens_first + (t * r->B + h) * r->N,
                   (size_t)r->N * sizeof(bf16));
    free(tokens_first);
    free(left.data);
    free(right.data);
}

/* Row i of the batch of t [B, heads, n, D]. */
static struct tensor batch_row(const struct tensor *t, int64_t i)
{
    bf16 *data = (bf16 *)t->data + i * t->stride[0];

    return tensor_make(DTYPE_BF16, 3, t->shape + 1, data);
}

static void run_sdpa(struct backend *b, const struct recorded *r, bf16 *out)
{
    const int64_t H = r->H, T = r->M, S = r->N, D = r->K;
    const int64_t q[] = {r->B, H, T, D}, k[] = {r->B, r->G, S, D}, y[] = {T, H * D};
    struct tensor queries = filled(1, 4, q, 0), keys = filled(2, 4, k, 0),
                  values = filled(3, 4, k, 0);
    bf16 *tokens_first = malloc((size_t)(T * H * D) * sizeof(bf16));
    struct tensor to = tensor_make(DTYPE_BF16, 2, y, tokens_first);
    const struct op_attrs attrs = {.by = pow((double)D, -0.5)};

    for (int64_t i = 0; i < r->B; i++) {
        const struct tensor in[3] = {batch_row(&queries, i), batch_row(&keys, i),
                                     batch_row(&values, i)};
        const struct op_call call = {
            .backend = b,
            .op = OP_sdpa,
            .in = {&in[0], &in[1], &in[2]},
            .out = &to,
            .attrs = &attrs,
            .scope = {.past = S - T, .tokens = T, .padding = r->padding, .batch = r->B}};

        assert_int_equal(b->op[OP_sdpa](&call), 0);
        for (int64_t h = 0; h < H; h++)
            for (int64_t t = 0; t < T; t++)
                memcpy(out + ((i * H + h) * T + t) * D, tokens_first + (t * H + h) * D,
                       (size_t)D * sizeof(bf16));
    }
    free(tokens_first);
    free(queries.data);
    free(keys.data);
    free(values.data);
}

static int64_t outputs_of(const struct recorded *r)
{
    return r->op == OP_sdpa ? r->B * r->H * r->M * r->K : r->B * r->M * r->N;
}

static void run_recorded(const struct recorded *r, const char *isa)
{
    const int64_t n = outputs_of(r);
    bf16 *out = malloc((size_t)n * sizeof(*out));
    struct error err = {0};
    struct backend *b = backend_open("cpu", numerics_find("torch-cpu/amx_bf16"), isa, 2, &err);
    char digest[65];

    assert_non_null(b);
    b->torch.threads = r->threads;
    if (r->op == OP_linear)
        run_linear(b, r, out);
    else if (r->op == OP_sdpa)
        run_sdpa(b, r, out);
    else
        run_heads(b, r, out);
    backend_close(b);
    hex_digest(out, (size_t)n * sizeof(*out), digest);
    free(out);
    if (strcmp(digest, r->digest) != 0)
        fail_msg("%s by %s: B %d, H %d, G %d, M %d, N %d, K %d, bias %d, padding %d, %d threads: "
                 "other bits",
                 op_name(r->op), isa ? isa : "the best", (int)r->B, (int)r->H, (int)r->G, (int)r->M,
                 (int)r->N, (int)r->K, r->bias, (int)r->padding, (int)r->threads);
}

static void run_all(const char *isa, int64_t most)
{
    int cases = 0;
    int64_t values = 0;

    for (size_t i = 0; i < sizeof(recorded) / sizeof(recorded[0]); i++) {
        const struct recorded *r = &recorded[i];
        const int64_t each = r->op == OP_sdpa ? 2 * r->H : 1;

        if (r->B * each * r->M * r->N * r->K > most)
            continue;
        run_recorded(r, isa);
        cases++;
        values += outputs_of(r);
    }
    print_message("%s: %d of %d recorded cases, %lld values, 0 differing\n", isa ? isa : "the best",
                  cases, (int)(sizeof(recorded) / sizeof(recorded[0])), (long long)values);
}

static void test_recorded(void **state)
{
    (void)state;
    run_all(NULL, most_of_best);
    run_all("plain", most_of_plain);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_known_plans),
        cmocka_unit_test(test_recorded),
    };

    const char *which = argc > 1 ? argv[1] : "";
    const int all = strcmp(which, "all") == 0, best = strcmp(which, "best") == 0;
    const int emulated = getenv("SAMEBIT_EMULATOR") != NULL;

    most_of_best = all || best ? INT64_MAX : emulated ? MULTIPLIES_PLAIN : MULTIPLIES;
    most_of_plain = all ? INT64_MAX : best || emulated ? 0 : MULTIPLIES_PLAIN;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
