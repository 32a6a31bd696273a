/* compare_stats.c - see compare_stats.h.
 *
 * Tensors are read in blocks of BLOCK elements, widened to F32; the last one is filled up with
 * zeros, which add nothing to any statistic, so that every loop has a constant length.  Sums run
 * in LANES lanes, which the compiler can keep in registers. */
#include "client/compare_stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/half.h"
#include "kernels/base/float16.h"

enum { BLOCK = 1024, LANES = 8 };

struct sums {
    double max[LANES], sum[LANES], aa[LANES], bb[LANES], ab[LANES];
};

int compare_stats_possible(enum dtype a, enum dtype b)
{
    return (a == DTYPE_I64) == (b == DTYPE_I64); /* I64 is the only one that is no float */
}

static const char *element(const struct tensor *t, int64_t i)
{
    return (const char *)t->data + (size_t)i * dtype_size(t->dtype);
}

/* Files need not be aligned: elements are copied before they are looked at. */
static void load(const struct tensor *t, int64_t first, int n, float *out)
{
    const char *from = element(t, first);
    uint16_t half[BLOCK] = {0};

    memset(out, 0, BLOCK * sizeof(*out));
    if (t->dtype == DTYPE_F32) {
        memcpy(out, from, (size_t)n * sizeof(*out));
        return;
    }
    memcpy(half, from, (size_t)n * sizeof(*half));
    if (t->dtype == DTYPE_BF16)
        for (int i = 0; i < BLOCK; i++)
            out[i] = bf16_to_f32(half[i]);
    else
        for (int i = 0; i < BLOCK; i++)
            out[i] = f32_from_f16(half[i]);
}

static int is_nan(uint32_t u)
{
    return (u & 0x7fffffffu) > 0x7f800000u;
}

/* Rounds as bf16_from_f32 does, for what is not a NaN, without a branch; the result is the high half. */
static uint32_t round_to_bf16(uint32_t u)
{
    return (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
}

/* Maps bits to integers that are ordered as the numbers are, both zeros to 0. */
static int32_t ordered(uint32_t u)
{
    int32_t sign = -(int32_t)(u >> 31);

    return ((int32_t)(u & 0x7fffffffu) ^ sign) - sign;
}

/* Ranks of a number among all of its dtype; for a NaN they may be anything. */
static int32_t place_f32(float f)
{
    return ordered(f32_bits(f));
}

static int32_t place_bf16(float f)
{
    return ordered(round_to_bf16(f32_bits(f))) >> 16; /* the low half is zero: a step is 65536 */
}

static int32_t place_f16(float f)
{
    const uint32_t h = half_from_f32(f);

    return ordered((h & 0x8000u) << 16 | (h & 0x7fffu));
}

/* Sets out to each element's rank. */
static void place(enum dtype dtype, const float *f, int32_t *out)
{
    if (dtype == DTYPE_F32)
        for (int i = 0; i < BLOCK; i++)
            out[i] = place_f32(f[i]);
    else if (dtype == DTYPE_BF16)
        for (int i = 0; i < BLOCK; i++)
            out[i] = place_bf16(f[i]);
    else
        for (int i = 0; i < BLOCK; i++)
            out[i] = place_f16(f[i]);
}

uint64_t compare_stats_ulps(enum dtype dtype, double a, double b)
{
    int32_t (*const rank)(float) = dtype == DTYPE_F32    ? place_f32
                                   : dtype == DTYPE_BF16 ? place_bf16
                                                         : place_f16;
    const int64_t d = (int64_t)rank((float)a) - rank((float)b);

    return isnan(a) || isnan(b) ? 0 : (uint64_t)(d < 0 ? -d : d);
}

static void add_ulps(const float *a, const float *b, struct compare_stats *s)
{
    int32_t pa[BLOCK], pb[BLOCK];
    uint32_t most = 0;

    place(s->ulp_dtype, a, pa);
    place(s->ulp_dtype, b, pb);
    for (int i = 0; i < BLOCK; i++) {
        /* At most 2^32 - 2^25 apart: fits when the larger one comes first. */
        uint32_t d =
            pa[i] > pb[i] ? (uint32_t)pa[i] - (uint32_t)pb[i] : (uint32_t)pb[i] - (uint32_t)pa[i];

        d = is_nan(f32_bits(a[i])) | is_nan(f32_bits(b[i])) ? 0 : d;
        most = d > most ? d : most;
    }
    s->max_ulp = most > s->max_ulp ? most : s->max_ulp;
}

/* Without nan_bits every NaN has the same bits. */
static int differ(uint32_t ua, uint32_t ub, int nan_bits)
{
    return (ua != ub) & (nan_bits | !(is_nan(ua) & is_nan(ub)));
}

static void add_counts(const float *a, const float *b, int nan_bits, struct compare_stats *s)
{
    int32_t differing = 0, nan_pairs = 0, nan_other = 0;

    for (int i = 0; i < BLOCK; i++) {
        uint32_t ua = f32_bits(a[i]), ub = f32_bits(b[i]);

        differing += differ(ua, ub, nan_bits);
        nan_pairs += is_nan(ua) != is_nan(ub);
        nan_other += (ua != ub) & is_nan(ua) & is_nan(ub);
    }
    s->differing += differing;
    s->nan_pairs += nan_pairs;
    s->nan_other += nan_other;
}

static void add_products(const float *a, const float *b, struct sums *t)
{
    for (int i = 0; i < BLOCK; i += LANES)
        for (int l = 0; l < LANES; l++) {
            double x = a[i + l], y = b[i + l];

            t->aa[l] += x * x;
            t->bb[l] += y * y;
            t->ab[l] += x * y;
        }
}

static void add_squares(const float *a, struct sums *t)
{
    for (int i = 0; i < BLOCK; i += LANES)
        for (int l = 0; l < LANES; l++) {
            double square = (double)a[i + l] * a[i + l];

            t->aa[l] += square;
            t->bb[l] += square;
            t->ab[l] += square;
        }
}

static void add_distances(const float *a, const float *b, struct sums *t)
{
    for (int i = 0; i < BLOCK; i += LANES)
        for (int l = 0; l < LANES; l++) {
            double d = fabs((double)a[i + l] - (double)b[i + l]);

            /* inf - inf of equal bits is NaN and counts as 0; a NaN facing a number is counted
             * by add_counts and makes the result NaN at the end. */
            d = d == d ? d : 0;
            t->max[l] = d > t->max[l] ? d : t->max[l];
            t->sum[l] += d;
        }
}

static int64_t first_differing(const float *a, const float *b, int nan_bits, int64_t base)
{
    for (int i = 0; i < BLOCK; i++)
        if (differ(f32_bits(a[i]), f32_bits(b[i]), nan_bits))
            return base + i;
    return -1;
}

static double cosine_of(double aa, double bb, double ab)
{
    double c;

    if (aa == 0 || bb == 0)
        return aa == bb ? 1 : aa != aa || bb != bb ? NAN : 0;
    c = ab / (sqrt(aa) * sqrt(bb));
    return c > 1 ? 1 : c < -1 ? -1 : c;
}

static void finish(const struct sums *t, struct compare_stats *s)
{
    double sum = 0, aa = 0, bb = 0, ab = 0;

    for (int l = 0; l < LANES; l++) {
        s->max_abs = t->max[l] > s->max_abs ? t->max[l] : s->max_abs;
        sum += t->sum[l];
        aa += t->aa[l];
        bb += t->bb[l];
        ab += t->ab[l];
    }
    s->mean_abs = s->count ? sum / (double)s->count : 0;
    s->cosine = s->differing ? cosine_of(aa, bb, ab) : 1;
    if (s->nan_pairs)
        s->max_abs = s->mean_abs = NAN;
}

static void run_floats(const struct tensor *a, const struct tensor *b, int nan_bits,
                       struct compare_stats *s)
{
    int same_dtype = a->dtype == b->dtype;
    size_t size = dtype_size(a->dtype);
    struct sums t = {0};
    float fa[BLOCK], fb[BLOCK];

    for (int64_t i = 0; i < s->count; i += BLOCK) {
        int n = s->count - i < BLOCK ? (int)(s->count - i) : BLOCK;

        load(a, i, n, fa);
        if (same_dtype && memcmp(element(a, i), element(b, i), (size_t)n * size) == 0) {
            add_squares(fa, &t);
            continue;
        }
        load(b, i, n, fb);
        add_counts(fa, fb, nan_bits, s);
        add_products(fa, fb, &t);
        add_distances(fa, fb, &t);
        add_ulps(fa, fb, s);
        if (s->first < 0)
            s->first = first_differing(fa, fb, nan_bits, i);
    }
    finish(&t, s);
}

int64_t compare_stats_integer(const struct tensor *t, int64_t i)
{
    int64_t v;

    memcpy(&v, element(t, i), sizeof(v));
    return v;
}

static void run_integers(const struct tensor *a, const struct tensor *b, struct compare_stats *s)
{
    double sum = 0, aa = 0, bb = 0, ab = 0;

    for (int64_t i = 0; i < s->count; i++) {
        int64_t x = compare_stats_integer(a, i), y = compare_stats_integer(b, i);
        uint64_t d = x < y ? (uint64_t)y - (uint64_t)x : (uint64_t)x - (uint64_t)y;

        aa += (double)x * (double)x;
        bb += (double)y * (double)y;
        ab += (double)x * (double)y;
        sum += (double)d;
        s->differing += d != 0;
        s->max_ulp = d > s->max_ulp ? d : s->max_ulp;
        if (d && s->first < 0)
            s->first = i;
    }
    s->max_abs = (double)s->max_ulp;
    s->mean_abs = s->count ? sum / (double)s->count : 0;
    s->cosine = s->differing ? cosine_of(aa, bb, ab) : 1;
}

/* F64 against anything: one by one, in F64; ULP in the other's dtype, of F64 in F32. */
static void run_doubles(const struct tensor *a, const struct tensor *b, int nan_bits,
                        struct compare_stats *s)
{
    struct sums t = {0};
    float fa[BLOCK] = {0}, fb[BLOCK] = {0};

    for (int64_t i = 0; i < s->count; i++) {
        const double x = compare_stats_element(a, i), y = compare_stats_element(b, i);
        const double d = fabs(x - y);

        t.aa[0] += x * x;
        t.bb[0] += y * y;
        t.ab[0] += x * y;
        if (memcmp(&x, &y, sizeof(x)) == 0)
            continue;
        s->nan_other += isnan(x) && isnan(y);
        if (isnan(x) && isnan(y) && !nan_bits)
            continue;
        s->differing++;
        s->nan_pairs += isnan(x) != isnan(y);
        t.sum[0] += d == d ? d : 0;
        t.max[0] = d > t.max[0] ? d : t.max[0];
        fa[0] = (float)x;
        fb[0] = (float)y;
        add_ulps(fa, fb, s);
        if (s->first < 0)
            s->first = i;
    }
    finish(&t, s);
}

/* F64 is none: distances in it say nothing of a comparison with fewer bits. */
static enum dtype narrower(enum dtype a, enum dtype b)
{
    a = a == DTYPE_F64 ? DTYPE_F32 : a;
    b = b == DTYPE_F64 ? DTYPE_F32 : b;
    if (a == DTYPE_BF16 || b == DTYPE_BF16)
        return DTYPE_BF16;
    return a == DTYPE_F16 || b == DTYPE_F16 ? DTYPE_F16 : a;
}

void compare_stats_run(const struct tensor *a, const struct tensor *b, int nan_bits,
                       struct compare_stats *out)
{
    *out = (struct compare_stats){.count = tensor_count(a), .cosine = 1, .first = -1};
    out->ulp_dtype = narrower(a->dtype, b->dtype);
    if (out->count == 0)
        return;
    if (a->dtype == b->dtype && memcmp(a->data, b->data, tensor_bytes(a)) == 0)
        return;
    if (a->dtype == DTYPE_I64)
        run_integers(a, b, out);
    else if (a->dtype == DTYPE_F64 || b->dtype == DTYPE_F64)
        run_doubles(a, b, nan_bits, out);
    else
        run_floats(a, b, nan_bits, out);
}

static float widened(const struct tensor *t, int64_t i)
{
    uint16_t half = 0;
    float f = 0;

    if (t->dtype == DTYPE_F32)
        memcpy(&f, element(t, i), sizeof(f));
    else
        memcpy(&half, element(t, i), sizeof(half));
    return t->dtype == DTYPE_F32    ? f
           : t->dtype == DTYPE_BF16 ? bf16_to_f32(half)
                                    : f32_from_f16(half);
}

double compare_stats_element(const struct tensor *t, int64_t i)
{
    double d;

    if (t->dtype == DTYPE_F64) {
        memcpy(&d, element(t, i), sizeof(d));
        return d;
    }
    return (double)widened(t, i);
}

static int reads_back(const char *text, enum dtype dtype, float f)
{
    float back = strtof(text, NULL);

    if (dtype == DTYPE_BF16)
        back = bf16_to_f32(bf16_from_f32(back));
    else if (dtype == DTYPE_F16)
        back = f32_from_f16(half_from_f32(back));
    return f32_bits(back) == f32_bits(f);
}

char *compare_stats_text(const struct tensor *t, int64_t i, char *out, size_t size)
{
    float f;

    if (t->dtype == DTYPE_I64) {
        snprintf(out, size, "%lld", (long long)compare_stats_integer(t, i));
        return out;
    }
    if (t->dtype == DTYPE_F64) {
        snprintf(out, size, "%.17g", compare_stats_element(t, i));
        return out;
    }
    f = widened(t, i);
    if (f != f && (f32_bits(f) & 0x7fffffffu) == 0x7fc00000u)
        snprintf(out, size, "nan");
    else if (f != f) /* two NaNs may differ */
        snprintf(out, size, "nan(0x%x)", f32_bits(f));
    for (int digits = 1; f == f && digits <= 9; digits++) {
        snprintf(out, size, "%.*g", digits, (double)f);
        if (reads_back(out, t->dtype, f))
            break;
    }
    return out;
}
