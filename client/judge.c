/* judge.c - see judge.h. */
#include "client/judge.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "client/compare_stats.h"
#include "kernels/base/bf16.h"

const double judge_bf16 = 0x1p-9;
static const double MASKED = 1e30, SEEN = -1e4;

/* How many times the floor is no rounding.  Sums in binary32 grow with their length, in an order
 * that is the program's own; what is rounded to 8 bits at the end hides that. */
enum { NARROW = 3, WIDE_SUM = 24, WIDE = 8, ROWS = 4, SIGMAS = 8, ENOUGH = 256 };

double judge_unit(enum dtype dtype, int holds_bf16)
{
    if (dtype == DTYPE_F16)
        return 0x1p-12;
    return dtype == DTYPE_BF16 || holds_bf16 ? judge_bf16 : 0x1p-25;
}

int judge_holds_bf16(const struct tensor *t)
{
    const int64_t n = tensor_count(t);

    if (t->dtype != DTYPE_F32)
        return t->dtype == DTYPE_BF16;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;

        memcpy(&u, (const char *)t->data + i * 4, sizeof(u));
        if (u & 0xffffu)
            return 0;
    }
    return n > 0;
}

struct sums {
    double error, ideal, torch, along, torch_along;
};

static int is_sum(const char *op)
{
    static const char *const sums[] = {"linear",  "matmul_qk", "matmul_pv", "sdpa",
                                       "softmax", "rotary",    "rope"};

    for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++)
        if (strcmp(op, sums[i]) == 0)
            return 1;
    return 0;
}

static int is_copy(const char *op)
{
    return strcmp(op, "embedding") == 0 || strcmp(op, "cache_append") == 0 ||
           strcmp(op, "causal_mask") == 0;
}

/* The floor where PyTorch's own few elements happen to lie near the ideal: what one rounding causes. */
static double least_floor(double unit, const char *op)
{
    if (unit < 0x1p-12)
        return 2 * unit;
    return is_copy(op) ? 0x1p-25 : 0.6 * unit;
}

/* Whether the element says that something is masked, or is none, where it should not. */
static int is_wrong(double theirs, double ideal)
{
    if (isnan(theirs) != isnan(ideal))
        return 1;
    if (fabs(ideal) >= MASKED || isinf(ideal))
        return !(theirs < SEEN);
    return fabs(theirs) >= MASKED;
}

/* Whether two elements are one, as compare has it: a zero's sign counts, a NaN's bits do not. */
static bool same_bits(double a, double b)
{
    return (a == b && !signbit(a) == !signbit(b)) || (isnan(a) && isnan(b));
}

/* Rows of `length`; adds to the sums, and finds the row and the element that are farthest. */
static double row_error(const struct tensor *theirs, const struct tensor *ideal,
                        const struct tensor *torch, int64_t first, int64_t length, struct sums *s,
                        double *worst, struct judge *out)
{
    double row = 0;

    for (int64_t i = first; i < first + length; i++) {
        const double p = compare_stats_element(theirs, i), y = compare_stats_element(ideal, i);
        const double t = torch ? compare_stats_element(torch, i) : y;

        out->differing += torch && !same_bits(p, t);
        if (is_wrong(p, y)) {
            out->nan += isnan(p);
            out->wrong++;
            continue;
        }
        if (fabs(y) >= MASKED || isnan(y))
            continue;
        row += (p - y) * (p - y);
        out->off += (double)bf16_to_f32(bf16_from_f64(y)) != p;
        s->ideal += y * y;
        s->torch += isfinite(t) && fabs(t) < MASKED ? (t - y) * (t - y) : 0;
        s->along += (p - y) * y;
        s->torch_along += isfinite(t) && fabs(t) < MASKED ? (t - y) * y : 0;
        if (fabs(p - y) > *worst) {
            *worst = fabs(p - y);
            out->worst = i;
        }
    }
    s->error += row;
    return row;
}

static double share(double part, double all)
{
    return all > 0 ? sqrt(part / all) : part > 0 ? (double)INFINITY : 0;
}

static void decide(struct judge *j, const struct sums *s, double unit, int has_torch)
{
    const double ratio = unit / judge_bf16;
    double bias_limit;

    if (has_torch && j->differing == 0 && (unit == judge_bf16 || j->distance <= j->limit)) {
        j->verdict = JUDGE_EQUAL;
        return;
    }
    bias_limit = SIGMAS * j->floor / sqrt((double)j->count) +
                 2 * fabs(s->ideal > 0 ? s->torch_along / s->ideal : 0) * ratio;
    j->verdict = j->wrong || !(j->distance <= j->limit) || !(j->worst_row <= ROWS * j->limit) ||
                         (unit == judge_bf16 && j->count >= ENOUGH && fabs(j->bias) > bias_limit)
                     ? JUDGE_BEYOND
                     : JUDGE_ROUNDING;
}

void judge_run(const struct tensor *theirs, const struct tensor *ideal, const struct tensor *torch,
               double unit, const char *op, double floor, struct judge *out)
{
    const int64_t length = theirs->rank ? theirs->shape[theirs->rank - 1] : 1;
    struct sums s = {0};
    double worst = 0, worst_row = 0;
    int64_t rows;

    *out = (struct judge){.count = tensor_count(theirs), .worst = -1};
    rows = length ? out->count / length : 0;
    for (int64_t r = 0; r < rows; r++) {
        const double row = row_error(theirs, ideal, torch, r * length, length, &s, &worst, out);

        worst_row = row > worst_row ? row : worst_row;
    }
    out->distance = out->nan ? (double)NAN : share(s.error, s.ideal);
    out->worst_row = share(worst_row * (double)rows, s.ideal);
    out->bias = s.ideal > 0 ? s.along / s.ideal : 0;
    out->scale = 1 + out->bias;
    out->scaled = share(fmax(0, s.error - s.along * out->bias), s.ideal);
    out->floor =
        torch ? fmax(share(s.torch, s.ideal) * unit / judge_bf16, least_floor(unit, op)) : floor;
    out->limit = out->floor * (unit >= 0x1p-12 ? NARROW : is_sum(op) ? WIDE_SUM : WIDE);
    decide(out, &s, unit, torch != NULL);
}

const char *judge_name(enum judge_verdict verdict)
{
    static const char *const names[JUDGE_VERDICTS] = {"equal", "rounding", "beyond rounding"};

    return names[verdict];
}
