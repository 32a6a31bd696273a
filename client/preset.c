/* preset.c - see preset.h. */
#include "client/preset.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/compare_stats.h"
#include "client/half.h"
#include "kernels/base/bf16.h"
#include "kernels/base/float16.h"

static const char *const names[] = {
    [PRESET_BITS] = "bits", [PRESET_ASSERT_CLOSE] = "assert_close", [PRESET_ALLCLOSE] = "allclose"};

const char *preset_name(const struct preset *p)
{
    return names[p->kind];
}

/* ---- reading ---- */

static int read_tolerance(const char *option, const char *text, double *out, struct error *err)
{
    char *end;

    *out = -1;
    if (!text)
        return 0;
    errno = 0;
    *out = strtod(text, &end);
    if (end == text || *end || errno || !(*out >= 0) || !isfinite(*out))
        return error_param(err, 400, option, "--%s %s: not a number from 0 on", option, text);
    return 0;
}

int preset_parse(const char *name, const char *rtol, const char *atol, struct preset *out,
                 struct error *err)
{
    const size_t count = sizeof(names) / sizeof(names[0]);
    size_t i = 0;

    *out = (struct preset){.kind = PRESET_BITS};
    if (read_tolerance("rtol", rtol, &out->rtol, err) ||
        read_tolerance("atol", atol, &out->atol, err))
        return -1;
    while (name && i < count && strcmp(name, names[i]) != 0)
        i++;
    if (i == count)
        return error_param(err, 400, "preset", "--preset %s: bits, assert_close or allclose", name);
    out->kind = (enum preset_kind)i;
    if (out->kind == PRESET_BITS && (rtol || atol))
        return error_param(err, 400, rtol ? "rtol" : "atol",
                           "--rtol and --atol go with --preset assert_close or allclose");
    if (out->kind == PRESET_ASSERT_CLOSE && !rtol != !atol)
        return error_param(err, 400, rtol ? "atol" : "rtol",
                           "assert_close takes --rtol and --atol together, or neither");
    return 0;
}

/* ---- tolerances ---- */

static void torch_tolerances(enum dtype dtype, double *rtol, double *atol)
{
    *atol = dtype == DTYPE_I64 ? 0 : dtype == DTYPE_F64 ? 1e-7 : 1e-5;
    *rtol = dtype == DTYPE_F16    ? 1e-3
            : dtype == DTYPE_BF16 ? 1.6e-2
            : dtype == DTYPE_F32  ? 1.3e-6
            : dtype == DTYPE_F64  ? 1e-7
                                  : 0;
}

void preset_tolerances(const struct preset *p, enum dtype a, enum dtype b, double *rtol,
                       double *atol)
{
    double of_a[2] = {1e-5, 1e-8}, of_b[2] = {1e-5, 1e-8};

    if (p->kind == PRESET_ASSERT_CLOSE) {
        torch_tolerances(a, &of_a[0], &of_a[1]);
        torch_tolerances(b, &of_b[0], &of_b[1]);
    }
    *rtol = p->rtol >= 0 ? p->rtol : fmax(of_a[0], of_b[0]);
    *atol = p->atol >= 0 ? p->atol : fmax(of_a[1], of_b[1]);
}

/* ---- arithmetic ---- */

/* What both libraries give of an operation in a dtype: 16 bits are computed in F32, then rounded.  v is
 * exact, or rounded to binary64, which rounds to F32 as the exact result does. */
static double rounded(enum dtype dtype, double v)
{
    const float f = (float)v;

    if (dtype == DTYPE_F64)
        return v;
    if (dtype == DTYPE_BF16)
        return (double)bf16_to_f32(bf16_from_f32(f));
    return dtype == DTYPE_F16 ? (double)f32_from_f16(half_from_f32(f)) : (double)f;
}

static enum dtype promoted(enum dtype a, enum dtype b)
{
    if (a == b)
        return a;
    return a == DTYPE_F64 || b == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32;
}

/* In which dtypes |a - b| and the tolerance are computed, and both tolerances as these take them. */
struct rule {
    enum dtype difference, limit;
    double rtol, atol;
    int torch, equal_nan, exact; /* exact: tolerances of 0 mean that equality is all */
};

static struct rule rule_of(const struct preset *p, enum dtype a, enum dtype b)
{
    struct rule r = {.torch = p->kind == PRESET_ASSERT_CLOSE, .equal_nan = p->equal_nan};

    preset_tolerances(p, a, b, &r.rtol, &r.atol);
    r.exact = p->kind == PRESET_BITS || (r.torch && r.rtol == 0 && r.atol == 0);
    if (r.torch) {
        r.difference = r.limit = a == DTYPE_I64 ? DTYPE_F32 : promoted(a, b);
        r.rtol = r.limit == DTYPE_F64 ? r.rtol : (double)(float)r.rtol;
        r.atol = rounded(r.limit, r.atol);
        return r;
    }
    /* numpy makes b an inexact type of its own: ml_dtypes' bfloat16 and integers become binary64. */
    r.limit = b == DTYPE_BF16 || b == DTYPE_I64 ? DTYPE_F64 : b;
    r.difference = a == DTYPE_I64 ? DTYPE_F64 : promoted(a, r.limit);
    r.rtol = rounded(r.limit, r.rtol);
    r.atol = rounded(r.limit, r.atol);
    return r;
}

static int is_close(const struct rule *r, double a, double b)
{
    double apart, limit;

    if (a == b || (r->equal_nan && isnan(a) && isnan(b)))
        return 1;
    if (r->exact)
        return 0;
    apart = fabs(rounded(r->difference, a - b));
    limit = rounded(r->limit, r->atol + fabs(rounded(r->limit, r->rtol * b)));
    return apart <= limit && (r->torch ? isfinite(apart) : isfinite(b));
}

/* Numbers of 64 bits are equal as such, and near as binary64 or F32 has them. */
static int is_close_integer(const struct rule *r, int64_t a, int64_t b)
{
    if (a == b)
        return 1;
    if (r->exact)
        return 0;
    return is_close(r, rounded(r->difference, (double)a), rounded(r->limit, (double)b));
}

int64_t preset_failing(const struct preset *p, const struct tensor *a, const struct tensor *b,
                       int64_t *first, unsigned char *close)
{
    const struct rule r = rule_of(p, a->dtype, b->dtype);
    const int64_t count = tensor_count(a);
    int64_t failing = 0;

    *first = -1;
    for (int64_t i = 0; i < count; i++) {
        const int is =
            a->dtype == DTYPE_I64
                ? is_close_integer(&r, compare_stats_integer(a, i), compare_stats_integer(b, i))
                : is_close(&r, compare_stats_element(a, i), compare_stats_element(b, i));

        if (close)
            close[i] = (unsigned char)is;
        if (!is && failing++ == 0)
            *first = i;
    }
    return failing;
}
