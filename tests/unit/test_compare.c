/* test_compare.c - every statistic of a comparison against values worked out by hand, and how the
 * values of two sides are paired. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/compare.h"
#include "client/half.h"
#include "kernels/base/bf16.h"
#include "kernels/base/float16.h"

static struct compare_stats run_nan_bits(enum dtype da, const void *a, enum dtype db, const void *b,
                                         int64_t n, int nan_bits)
{
    struct tensor ta = tensor_make(da, 1, &n, (void *)a), tb = tensor_make(db, 1, &n, (void *)b);
    struct compare_stats s;

    compare_stats_run(&ta, &tb, nan_bits, &s);
    return s;
}

static struct compare_stats run(enum dtype da, const void *a, enum dtype db, const void *b,
                                int64_t n)
{
    return run_nan_bits(da, a, db, b, n, 0);
}

static struct compare_stats run_f32(const float *a, const float *b, int64_t n)
{
    return run(DTYPE_F32, a, DTYPE_F32, b, n);
}

/* ---- statistics ---- */

static void test_equal(void **state)
{
    const float a[] = {1, -2, NAN, INFINITY, -0.0f};
    struct compare_stats s = run_f32(a, a, 5);

    (void)state;
    assert_int_equal(s.count, 5);
    assert_int_equal(s.differing, 0);
    assert_int_equal(s.nan_pairs, 0);
    assert_int_equal(s.first, -1);
    assert_int_equal(s.max_ulp, 0);
    assert_true(s.max_abs == 0 && s.mean_abs == 0 && s.cosine == 1);
}

static void test_empty(void **state)
{
    struct compare_stats s = run_f32(NULL, NULL, 0);

    (void)state;
    assert_int_equal(s.count, 0);
    assert_int_equal(s.differing, 0);
    assert_true(s.max_abs == 0 && s.mean_abs == 0 && s.cosine == 1);
    assert_int_equal(s.first, -1);
}

static void test_differences(void **state)
{
    const float a[] = {3, 4, 0, 1}, b[] = {3, 4.5f, 0, 0.75f};
    struct compare_stats s = run_f32(a, b, 4);

    (void)state;
    assert_int_equal(s.differing, 2);
    assert_int_equal(s.first, 1);
    assert_true(s.max_abs == 0.5);
    assert_true(s.mean_abs == 0.1875); /* (0.5 + 0.25) / 4 */
    /* 4 to 4.5: an eighth of a binade of 2^23 steps; 0.75 to 1: half of one. */
    assert_int_equal(s.max_ulp, 1 << 22);
    /* a.b = 9 + 18 + 0.75, a.a = 26, b.b = 9 + 20.25 + 0.5625 */
    assert_true(fabs(s.cosine - 27.75 / sqrt(26 * 29.8125)) < 1e-15);
}

static void test_signed_zero(void **state)
{
    const float a[] = {1, 0.0f}, b[] = {1, -0.0f};
    struct compare_stats s = run_f32(a, b, 2);

    (void)state;
    assert_int_equal(s.differing, 1);
    assert_int_equal(s.first, 1);
    assert_int_equal(s.max_ulp, 0);
    assert_true(s.max_abs == 0 && s.cosine == 1);
}

static void test_ulp_across_zero(void **state)
{
    const float tiny = 0x1p-149f; /* the smallest denormal */
    const float a[] = {tiny, 0}, b[] = {-tiny, 0};
    struct compare_stats s = run_f32(a, b, 2);
    const uint16_t ha[] = {0x0003}, hb[] = {0x8002}, one[] = {0x3f80}, minus[] = {0xbf80};

    (void)state;
    assert_int_equal(s.max_ulp, 2);
    assert_true(s.max_abs == 0x1p-148);
    assert_true(s.cosine == -1);
    assert_int_equal(run(DTYPE_BF16, ha, DTYPE_BF16, hb, 1).max_ulp, 5);
    assert_int_equal(run(DTYPE_BF16, one, DTYPE_BF16, minus, 1).max_ulp, 2 * 0x3f80);
    assert_int_equal(run(DTYPE_F16, ha, DTYPE_F16, hb, 1).max_ulp, 5);
    assert_true(run(DTYPE_F16, ha, DTYPE_F16, hb, 1).max_abs == 5 * 0x1p-24);
}

static void test_denormals(void **state)
{
    const uint32_t a[] = {0x007fffff}, b[] = {0x00800000}; /* largest denormal, smallest normal */
    struct compare_stats s = run(DTYPE_F32, a, DTYPE_F32, b, 1);

    (void)state;
    assert_int_equal(s.max_ulp, 1);
    assert_true(s.max_abs == 0x1p-149);
}

static void test_nan_facing_number(void **state)
{
    const float a[] = {1, NAN, 5}, b[] = {2, 1, 5};
    struct compare_stats s = run_f32(a, b, 3);

    (void)state;
    assert_int_equal(s.differing, 2);
    assert_int_equal(s.nan_pairs, 1);
    assert_true(isnan(s.max_abs) && isnan(s.mean_abs) && isnan(s.cosine));
    assert_int_equal(s.max_ulp, 1 << 23); /* of the pair of numbers, 1 and 2 */
    assert_int_equal(s.first, 0);
}

/* Both rules, of NaNs a and b after a number that is equal. */
static void check_nans(enum dtype da, const void *a, enum dtype db, const void *b, int other)
{
    struct compare_stats s = run_nan_bits(da, a, db, b, 2, 0);

    assert_int_equal(s.differing, 0);
    assert_int_equal(s.first, -1);
    assert_int_equal(s.nan_other, other);
    assert_int_equal(s.nan_pairs, 0);
    assert_true(s.max_abs == 0 && s.mean_abs == 0 && s.cosine == 1);
    s = run_nan_bits(da, a, db, b, 2, 1);
    assert_int_equal(s.differing, other);
    assert_int_equal(s.first, other ? 1 : -1);
    assert_int_equal(s.nan_other, other);
    assert_int_equal(s.nan_pairs, 0);
    assert_true(s.max_abs == 0);
    assert_int_equal(s.max_ulp, 0);
}

static void test_nan_of_other_bits(void **state)
{
    const uint32_t f32[] = {0x3f800000, 0x7fc00000}, f32_other[] = {0x3f800000, 0x7fc00001};
    const uint32_t f32_torch[] = {0x3f800000, 0xffff0000};
    const uint16_t ours[] = {0x3f80, 0x7fc0}, torchs[] = {0x3f80, 0xffff};
    const uint16_t f16[] = {0x3c00, 0x7e00}, f16_other[] = {0x3c00, 0xfe01};
    const uint64_t f64[] = {0x3ff0000000000000, 0x7ff8000000000000};
    const uint64_t f64_other[] = {0x3ff0000000000000, 0xfff8000000000001};

    (void)state;
    check_nans(DTYPE_F32, f32, DTYPE_F32, f32_other, 1);
    check_nans(DTYPE_F32, f32, DTYPE_F32, f32, 0);
    check_nans(DTYPE_BF16, ours, DTYPE_BF16, torchs, 1);
    check_nans(DTYPE_F16, f16, DTYPE_F16, f16_other, 1);
    check_nans(DTYPE_F64, f64, DTYPE_F64, f64_other, 1);
    check_nans(DTYPE_BF16, ours, DTYPE_F32, f32_torch, 1);
    check_nans(DTYPE_BF16, torchs, DTYPE_F32, f32_torch, 0); /* widened to the same bits */
    check_nans(DTYPE_F32, f32, DTYPE_F64, f64_other, 1);
    check_nans(DTYPE_F32, f32, DTYPE_F64, f64, 0);
}

/* A difference behind NaNs of other bits is the first one, in every block. */
static void test_nans_before_a_difference(void **state)
{
    enum { N = 3000 };
    uint16_t a[N], b[N];
    struct compare_stats s;

    (void)state;
    for (int i = 0; i < N; i++) {
        a[i] = 0x7fc0;
        b[i] = 0xffff;
    }
    a[2500] = 0x3f80;
    b[2500] = 0x3f81;
    s = run_nan_bits(DTYPE_BF16, a, DTYPE_BF16, b, N, 0);
    assert_int_equal(s.differing, 1);
    assert_int_equal(s.first, 2500);
    assert_int_equal(s.nan_other, N - 1);
    assert_int_equal(s.max_ulp, 1);
    s = run_nan_bits(DTYPE_BF16, a, DTYPE_BF16, b, N, 1);
    assert_int_equal(s.differing, N);
    assert_int_equal(s.first, 0);
}

static void test_infinities(void **state)
{
    const float a[] = {INFINITY, 1}, b[] = {0x1.fffffep127f, 1}, c[] = {-INFINITY, 1};
    const float same[] = {INFINITY, 2};
    struct compare_stats s = run_f32(a, b, 2);

    (void)state;
    assert_int_equal(s.max_ulp, 1);
    assert_true(isinf(s.max_abs) && isinf(s.mean_abs));
    s = run_f32(a, c, 2);
    assert_true(isinf(s.max_abs));
    assert_true(s.max_ulp == 2ull * 0x7f800000);
    s = run_f32(a, same, 2); /* equal infinities are 0 apart */
    assert_true(s.max_abs == 1 && s.mean_abs == 0.5);
    assert_int_equal(s.first, 1);
}

static void test_first_index(void **state)
{
    enum { N = 5000 };
    float *a = calloc(N, sizeof(*a)), *b = calloc(N, sizeof(*b));
    const int64_t at[] = {0, 7, 1023, 1024, 1025, 2048, 4095, 4999};

    (void)state;
    assert_true(a && b);
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        struct compare_stats s;

        b[at[i]] = 1;
        b[N - 1] = 2;
        s = run_f32(a, b, N);
        assert_int_equal(s.first, at[i]);
        assert_int_equal(s.differing, at[i] == N - 1 ? 1 : 2);
        assert_true(s.max_abs == 2);
        assert_true(s.cosine == 0); /* one side is all zero */
        b[at[i]] = 0;
    }
    free(a);
    free(b);
}

static void test_long_against_plain(void **state)
{
    enum { N = 10007 };
    uint16_t *a = calloc(N, sizeof(*a)), *b = calloc(N, sizeof(*b));
    double sum = 0, max = 0;
    int64_t differing = 0;
    uint32_t seed = 1;
    struct compare_stats s;

    (void)state;
    assert_true(a && b);
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        a[i] = bf16_from_f32((float)(int32_t)seed * 0x1p-31f);
        b[i] = (uint16_t)(i % 3 ? a[i] : a[i] ^ 1);
        differing += a[i] != b[i];
        sum += fabs((double)bf16_to_f32(a[i]) - bf16_to_f32(b[i]));
        max = fmax(max, fabs((double)bf16_to_f32(a[i]) - bf16_to_f32(b[i])));
    }
    s = run(DTYPE_BF16, a, DTYPE_BF16, b, N);
    assert_int_equal(s.differing, differing);
    assert_true(s.max_abs == max);
    assert_true(fabs(s.mean_abs - sum / N) < 1e-15);
    assert_int_equal(s.max_ulp, 1);
    assert_int_equal(s.first, 0);
    free(a);
    free(b);
}

static void test_unaligned(void **state)
{
    const float a[] = {1, 2}, b[] = {1, 3};
    char raw[2][sizeof(a) + 1];

    (void)state;
    memcpy(raw[0] + 1, a, sizeof(a));
    memcpy(raw[1] + 1, b, sizeof(b));
    assert_true(run(DTYPE_F32, raw[0] + 1, DTYPE_F32, raw[1] + 1, 2).max_abs == 1);
}

/* ---- dtypes ---- */

static void test_bf16_ulp(void **state)
{
    const uint16_t a[] = {0x3f80, 0xbf80}, b[] = {0x3f83, 0xbf7f}; /* 1, -1 */
    struct compare_stats s = run(DTYPE_BF16, a, DTYPE_BF16, b, 2);

    (void)state;
    assert_int_equal(s.max_ulp, 3);
    assert_int_equal(s.ulp_dtype, DTYPE_BF16);
    assert_true(s.max_abs == 3 * 0x1p-7);
}

static void test_widened(void **state)
{
    const uint16_t a[] = {0x3f80, 0x4000}; /* 1, 2 */
    const float same[] = {1, 2}, near[] = {1, 2.001f}, far[] = {1, 2.012f};
    struct compare_stats s = run(DTYPE_BF16, a, DTYPE_F32, same, 2);

    (void)state;
    assert_int_equal(s.differing, 0);
    s = run(DTYPE_F32, near, DTYPE_BF16, a, 2);
    assert_int_equal(s.differing, 1);
    assert_int_equal(s.max_ulp, 0); /* rounds to the same bf16 */
    assert_true(s.max_abs == (double)2.001f - 2);
    assert_int_equal(run(DTYPE_BF16, a, DTYPE_F32, far, 2).max_ulp, 1);
}

static void test_half(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f32_from_f16((uint16_t)h);

        assert_int_equal(half_from_f32(f), f != f ? 0x7e00 : h);
    }
    assert_int_equal(half_from_f32(65519.996f), 0x7bff);
    assert_int_equal(half_from_f32(65520), 0x7c00);
    assert_int_equal(half_from_f32(1 + 0x1p-11f), 0x3c00); /* ties to even */
    assert_int_equal(half_from_f32(1 + 3 * 0x1p-11f), 0x3c02);
    assert_int_equal(half_from_f32(0x1p-25f), 0);
    assert_int_equal(half_from_f32(3 * 0x1p-25f), 2);
    assert_int_equal(half_from_f32(-0x1.8p-25f), 0x8001);
}

static void test_integers(void **state)
{
    const int64_t a[] = {1, INT64_MAX, 7}, b[] = {1, INT64_MIN, 9};
    struct compare_stats s = run(DTYPE_I64, a, DTYPE_I64, b, 3);

    (void)state;
    assert_int_equal(s.differing, 2);
    assert_true(s.max_ulp == UINT64_MAX);
    assert_int_equal(s.first, 1);
    assert_false(compare_stats_possible(DTYPE_I64, DTYPE_F32));
    assert_true(compare_stats_possible(DTYPE_F16, DTYPE_BF16));
}

static void test_text(void **state)
{
    const struct {
        uint32_t bits;
        const char *text;
    } cases[] = {
        {0x3dcccccd, "0.1"},
        {0x80000000, "-0"},
        {0x7f800000, "inf"},
        {0x7fc00000, "nan"},
        {0x00000001, "1e-45"},
        {0xff800000, "-inf"},
        {0x7fc00001, "nan(0x7fc00001)"},
        {0x3f800001, "1.0000001"},
    };
    const uint16_t bf = 0x3dcd;
    int64_t n = 1;
    struct tensor t = tensor_make(DTYPE_BF16, 1, &n, (void *)&bf);
    char out[64];

    (void)state;
    assert_string_equal(compare_stats_text(&t, 0, out, sizeof(out)), "0.1");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        t = tensor_make(DTYPE_F32, 1, &n, (void *)&cases[i].bits);
        assert_string_equal(compare_stats_text(&t, 0, out, sizeof(out)), cases[i].text);
    }
}

/* ---- pairing ---- */

struct file {
    const char *name;
    enum dtype dtype;
    int rank;
    int64_t shape[4];
    float fill;
};

static struct side *make_side(const struct file *values, int count, const char *metadata)
{
    struct safetensors_spec specs[16];
    json_t *about = metadata ? json_loads(metadata, 0, NULL) : NULL;
    static struct buffer bytes[32]; /* files are mapped memory: they live as long as the test */
    static int used;
    struct buffer *b = &bytes[used++ % 32];
    struct safetensors *file;
    struct error err = {0};
    struct side *s;

    buffer_clear(b);
    for (int i = 0; i < count; i++) {
        specs[i] = (struct safetensors_spec){values[i].name, values[i].dtype, values[i].rank, {0}};
        memcpy(specs[i].shape, values[i].shape, sizeof(specs[i].shape));
    }
    assert_int_equal(safetensors_header(b, specs, count, about, &err), 0);
    for (int i = 0; i < count; i++) {
        struct tensor t = tensor_make(values[i].dtype, values[i].rank, values[i].shape, NULL);
        uint16_t half = bf16_from_f32(values[i].fill);
        int64_t id = (int64_t)values[i].fill;
        const void *one = t.dtype == DTYPE_F32   ? (const void *)&values[i].fill
                          : t.dtype == DTYPE_I64 ? (const void *)&id
                                                 : (const void *)&half;

        for (int64_t k = 0; k < tensor_count(&t); k++)
            buffer_append(b, one, dtype_size(t.dtype));
    }
    json_decref(about);
    file = safetensors_open_memory("memory", b->data, b->size, &err);
    assert_non_null(file);
    s = side_from_file_take("memory", file, &err);
    assert_non_null(s);
    return s;
}

static struct compare *compare(struct side *a, struct side *b, const char *glob, int common)
{
    const struct compare_options o = {.globs = &glob, .glob_count = glob != NULL, .common = common};
    struct error err = {0};
    struct compare *c = compare_create(a, b, &o, &err);

    assert_non_null(c);
    assert_int_equal(compare_run(c, NULL, NULL, &err), 0);
    return c;
}

static void done(struct compare *c, struct side *a, struct side *b)
{
    compare_free(c);
    side_free(a);
    side_free(b);
}

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))
#define OURS "{\"numerics\": \"n\", \"prompt_tokens\": \"[1, 1]\"}"

static void test_order_and_first(void **state)
{
    static const struct file a[] = {{"z", DTYPE_BF16, 1, {2}, 1},
                                    {"m", DTYPE_BF16, 1, {2}, 2},
                                    {"only", DTYPE_BF16, 1, {2}, 2},
                                    {"a", DTYPE_BF16, 1, {2}, 3},
                                    {"tokens", DTYPE_I64, 1, {2}, 1}};
    static const struct file b[] = {{"a", DTYPE_BF16, 1, {2}, 4},
                                    {"extra", DTYPE_BF16, 1, {2}, 4},
                                    {"m", DTYPE_BF16, 1, {2}, 5},
                                    {"tokens", DTYPE_I64, 1, {2}, 1},
                                    {"z", DTYPE_BF16, 1, {2}, 1}};
    static const char *const order[] = {"tokens", "z", "m", "only", "a", "extra"};
    struct side *sa = make_side(a, COUNT(a), OURS), *sb = make_side(b, COUNT(b), NULL);
    struct compare *c = compare(sb, sa, NULL, 0); /* the ordered one leads, as A or B */

    (void)state;
    assert_int_equal(c->count, 6);
    for (int i = 0; i < 6; i++)
        assert_string_equal(c->rows[i].name, order[i]);
    assert_string_equal(c->rows[c->first].name, "m");
    assert_int_equal(c->rows[3].verdict, COMPARE_ONLY_B);
    assert_int_equal(c->rows[5].verdict, COMPARE_ONLY_A);
    assert_false(compare_same(c));
    compare_free(c);
    c = compare(sa, sb, "z*", 0);
    assert_int_equal(c->count, 2);
    assert_true(compare_same(c));
    assert_int_equal(c->first, -1);
    compare_free(c);
    c = compare(sa, sb, NULL, 1);
    assert_int_equal(c->count, 4);
    done(c, sa, sb);
}

static void test_tokens_come_first(void **state)
{
    static const struct file a[] = {{"x", DTYPE_BF16, 1, {2}, 1},
                                    {"step_1/x", DTYPE_BF16, 1, {2}, 1},
                                    {"tokens", DTYPE_I64, 1, {3}, 1}};
    static const struct file b[] = {{"x", DTYPE_BF16, 1, {2}, 1},
                                    {"step_1/x", DTYPE_BF16, 1, {2}, 2},
                                    {"tokens", DTYPE_I64, 1, {3}, 2}};
    struct side *sa = make_side(a, COUNT(a), OURS), *sb = make_side(b, COUNT(b), OURS);
    struct compare *c = compare(sa, sb, NULL, 0);

    (void)state;
    assert_int_equal(c->prompt_length, 2);
    assert_int_equal(c->first_token, 0);
    assert_int_equal(c->first, 0);
    compare_free(c);
    /* Only what step 1 was fed differs: it is the first before step 1, and not before step 0. */
    *(int64_t *)side_find(sb, "tokens")->entry->tensor.data = 1;
    ((int64_t *)side_find(sb, "tokens")->entry->tensor.data)[1] = 1;
    c = compare(sa, sb, NULL, 0);
    assert_int_equal(c->first_token, 2);
    assert_string_equal(c->rows[c->first].name, "tokens");
    compare_free(c);
    *(uint16_t *)side_find(sb, "x")->entry->tensor.data = 0;
    c = compare(sa, sb, NULL, 0);
    assert_string_equal(c->rows[c->first].name, "x");
    done(c, sa, sb);
}

static void test_batch_of_one(void **state)
{
    static const struct file a[] = {{"x", DTYPE_BF16, 2, {3, 2}, 1},
                                    {"y", DTYPE_BF16, 2, {3, 2}, 1},
                                    {"e", DTYPE_BF16, 2, {0, 2}, 1}};
    static const struct file b[] = {{"x", DTYPE_F32, 3, {1, 3, 2}, 1},
                                    {"y", DTYPE_BF16, 2, {2, 3}, 1},
                                    {"e", DTYPE_BF16, 2, {0, 2}, 1}};
    struct side *sa = make_side(a, COUNT(a), NULL), *sb = make_side(b, COUNT(b), NULL);
    struct compare *c = compare(sa, sb, NULL, 0);

    (void)state;
    assert_int_equal(c->rows[0].verdict, COMPARE_EQUAL);
    assert_true(c->rows[0].batch && c->rows[0].widened);
    assert_int_equal(c->rows[1].verdict, COMPARE_SHAPE);
    assert_int_equal(c->rows[2].verdict, COMPARE_EQUAL);
    assert_int_equal(c->first, 1);
    done(c, sa, sb);
}

static void test_dtypes_apart(void **state)
{
    static const struct file a[] = {{"x", DTYPE_I64, 1, {2}, 1}};
    static const struct file b[] = {{"x", DTYPE_F32, 1, {2}, 1}};
    struct side *sa = make_side(a, 1, NULL), *sb = make_side(b, 1, NULL);
    struct compare *c = compare(sa, sb, NULL, 0);

    (void)state;
    assert_int_equal(c->rows[0].verdict, COMPARE_DTYPE);
    assert_int_equal(c->first, 0);
    done(c, sa, sb);
}

static void test_nans_of_two_sides(void **state)
{
    static const struct file values[] = {{"x", DTYPE_F32, 1, {2}, NAN},
                                         {"y", DTYPE_F32, 1, {3}, NAN}};
    struct side *sa = make_side(values, 2, NULL), *sb = make_side(values, 2, NULL);
    struct error err = {0};

    (void)state;
    *(uint32_t *)side_find(sb, "y")->entry->tensor.data = 0xffff0000;
    for (int nan_bits = 0; nan_bits < 2; nan_bits++) {
        const struct compare_options o = {.nan_bits = nan_bits};
        struct compare *c = compare_create(sa, sb, &o, &err);

        assert_non_null(c);
        assert_int_equal(compare_run(c, NULL, NULL, &err), 0);
        assert_int_equal(compare_same(c), !nan_bits);
        assert_int_equal(c->nan_other, 1);
        assert_int_equal(c->wrong, nan_bits);
        assert_int_equal(c->first, nan_bits ? 1 : -1);
        compare_free(c);
    }
    side_free(sa);
    side_free(sb);
}

static void test_aliases(void **state)
{
    static const struct file a[] = {{"model.embed", DTYPE_BF16, 1, {2}, 1},
                                    {"step_2/model.embed", DTYPE_BF16, 1, {2}, 1},
                                    {"many", DTYPE_BF16, 1, {2}, 1}};
    static const struct file b[] = {{"embedding", DTYPE_BF16, 1, {2}, 1},
                                    {"step_2/embedding", DTYPE_BF16, 1, {2}, 2},
                                    {"many", DTYPE_BF16, 1, {2}, 1}};
    const char *knows = "{\"aliases\": \"{\\\"embedding\\\": [\\\"model.embed\\\"], "
                        "\\\"many\\\": [\\\"a\\\", \\\"b\\\"]}\"}";

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct side *sa = make_side(a, 3, k ? knows : NULL),
                    *sb = make_side(b, 3, k ? NULL : knows);
        struct compare *c = compare(sa, sb, NULL, 0);

        assert_int_equal(c->count, 3);
        assert_string_equal(c->rows[2].name, "many"); /* it stands for two: no alias of one */
        assert_int_equal(c->rows[0].verdict, COMPARE_EQUAL);
        assert_int_equal(c->rows[1].verdict, COMPARE_DIFFERS);
        assert_string_equal(c->rows[1].name, "step_2/model.embed");
        done(c, sa, sb);
    }
}

static void test_digests(void **state)
{
    struct side *s[2];
    const struct compare_options o = {0};
    struct error err = {0};
    struct compare *c;
    char reply[1024];

    (void)state;
    for (int i = 0; i < 2; i++) {
        json_t *json;

        snprintf(reply, sizeof(reply),
                 "{\"numerics\": \"n\", \"prompt_tokens\": [5, 6], \"aliases\": {}, \"values\": {"
                 "\"x\": {\"dtype\": \"BF16\", \"shape\": [2], \"sha256\": \"%064d\"},"
                 "\"y\": {\"dtype\": \"BF16\", \"shape\": [2], \"sha256\": \"%064d\"}},"
                 "\"tokens\": [5, 6]}",
                 1, i);
        json = json_loads(reply, 0, NULL);
        assert_non_null(json);
        s[i] = side_from_digests("http://x", json, &err);
        assert_non_null(s[i]);
        json_decref(json);
    }
    c = compare_create(s[0], s[1], &o, &err);
    assert_non_null(c);
    assert_int_equal(c->prompt_length, 2);
    assert_int_equal(c->rows[0].verdict, COMPARE_OPEN);  /* tokens: their numbers are there */
    assert_int_equal(c->rows[1].verdict, COMPARE_EQUAL); /* x: by digest */
    assert_int_equal(c->rows[2].verdict, COMPARE_OPEN);  /* y: numbers needed */
    assert_int_equal(compare_run(c, NULL, NULL, &err), -1);
    assert_non_null(strstr(err.text, "y"));
    done(c, s[0], s[1]);
}

static void test_bad_digests(void **state)
{
    static const char *const bad[] = {
        "[]",
        "{}",
        "{\"values\": {}}",
        "{\"values\": [], \"tokens\": []}",
        "{\"values\": {\"x\": 1}, \"tokens\": []}",
        "{\"values\": {\"x\": {\"dtype\": \"BF16\", \"shape\": [1], \"sha256\": \"ab\"}}, "
        "\"tokens\": []}",
        "{\"values\": {\"x\": {\"dtype\": \"BF16\", \"shape\": 3, \"sha256\": \""
        "0000000000000000000000000000000000000000000000000000000000000000\"}}, \"tokens\": []}",
    };

    (void)state;
    for (int i = 0; i < COUNT(bad); i++) {
        json_t *json = json_loads(bad[i], 0, NULL);
        struct error err = {0};

        assert_non_null(json);
        assert_null(side_from_digests("http://x", json, &err));
        assert_int_not_equal(err.code, 0);
        json_decref(json);
    }
}

static void test_steps_in_names(void **state)
{
    (void)state;
    assert_int_equal(side_step_of("step_12/x.y"), 12);
    assert_string_equal(side_base_name("step_12/x.y"), "x.y");
    assert_int_equal(side_step_of("step_0/x"), 0);
    assert_int_equal(side_step_of("step_/x"), 0);
    assert_int_equal(side_step_of("step_1x"), 0);
    assert_int_equal(side_step_of("step_-1/x"), 0);
    assert_string_equal(side_base_name("step_x/y"), "step_x/y");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_signed_zero),
        cmocka_unit_test(test_ulp_across_zero),
        cmocka_unit_test(test_denormals),
        cmocka_unit_test(test_nan_facing_number),
        cmocka_unit_test(test_nan_of_other_bits),
        cmocka_unit_test(test_nans_before_a_difference),
        cmocka_unit_test(test_infinities),
        cmocka_unit_test(test_first_index),
        cmocka_unit_test(test_long_against_plain),
        cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_bf16_ulp),
        cmocka_unit_test(test_widened),
        cmocka_unit_test(test_half),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_order_and_first),
        cmocka_unit_test(test_tokens_come_first),
        cmocka_unit_test(test_batch_of_one),
        cmocka_unit_test(test_dtypes_apart),
        cmocka_unit_test(test_nans_of_two_sides),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_bad_digests),
        cmocka_unit_test(test_steps_in_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
