/* profile.c - see profile.h. */
#include "client/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/compare_stats.h"
#include "client/judge.h"

enum { GROWTH_POSITIONS = 16, GROWTH_TIMES = 3 };
static const double GROWTH_CORRELATION = 0.7, MASKED = 1e30;

/* ---- axes ---- */

/* Returns whether the last axis of a row of that name holds heads beside each other. */
static int is_flat(const char *name)
{
    static const char *const rows[] = {"q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "context"};
    const char *last = strrchr(name, '.');

    for (size_t i = 0; last && i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(last + 1, rows[i]) == 0)
            return 1;
    return 0;
}

static int is_count(const struct align_model *m, int64_t n)
{
    return n > 0 && (n == m->heads || n == m->kv_heads);
}

struct profile_axes profile_axes_of(const char *name, const int64_t *shape, int rank,
                                    const struct align_model *m)
{
    struct profile_axes x = {.position = -1, .head = -1, .rank = rank};
    int ones = 0;

    memcpy(x.shape, shape, sizeof(x.shape[0]) * (size_t)rank);
    while (rank - ones > 2 && shape[ones] == 1 && !(rank - ones == 3 && m->heads == 1))
        ones++;
    if (rank - ones == 2) {
        x.position = ones;
        if (is_flat(name) && m->width > 0 && shape[rank - 1] % m->width == 0 &&
            is_count(m, shape[rank - 1] / m->width)) {
            x.width = m->width;
            x.heads = shape[rank - 1] / m->width;
        }
    } else if (rank - ones == 3 && (m->heads == 0 || is_count(m, shape[ones]))) {
        x.head = ones;
        x.heads = shape[ones];
        x.position = ones + 1;
    }
    return x;
}

/* Index along an axis of the element at a flat index. */
static int64_t along(const struct profile_axes *x, int axis, int64_t flat)
{
    for (int k = x->rank - 1; k > axis; k--)
        flat /= x->shape[k];
    return flat % x->shape[axis];
}

static int64_t head_of(const struct profile_axes *x, int64_t flat)
{
    return x->width ? flat % x->shape[x->rank - 1] / x->width : along(x, x->head, flat);
}

/* ---- counting ---- */

struct pair {
    double a, b;
    int differs, failing;
};

/* The sum of squares of b is kept apart until the end, when `distance` holds that of a - b. */
static void add_pair(struct profile_line *l, double *norm, const struct pair *p)
{
    const double d = fabs(p->a - p->b);

    l->elements++;
    l->differing += p->differs;
    l->failing += p->failing;
    l->max_abs = d > l->max_abs ? d : l->max_abs;
    if (fabs(p->a) < MASKED && fabs(p->b) < MASKED) {
        l->distance += d * d;
        *norm += p->b * p->b;
    }
}

static void finish(struct profile_line *l, double norm)
{
    l->distance = norm > 0 ? sqrt(l->distance / norm) : l->distance > 0 ? (double)INFINITY : 0;
}

static int differ(double a, double b)
{
    return !(isnan(a) && isnan(b)) && memcmp(&a, &b, sizeof(a)) != 0;
}

static int bin_of(uint64_t ulps)
{
    int bin = 0;

    for (uint64_t most = 0; ulps > most && bin < PROFILE_BINS - 1; bin++)
        most = most ? 2 * most : 1;
    return bin;
}

void profile_bin(int bin, uint64_t *from, uint64_t *to)
{
    *to = bin ? UINT64_C(1) << (bin - 1) : 0;
    *from = bin < 3 ? *to : *to / 2 + 1;
}

static enum dtype narrower(enum dtype a, enum dtype b)
{
    if (a == DTYPE_BF16 || b == DTYPE_BF16)
        return DTYPE_BF16;
    return a == DTYPE_F16 || b == DTYPE_F16 ? DTYPE_F16 : DTYPE_F32;
}

static void count(struct profile *p, const struct tensor *a, const struct tensor *b,
                  const unsigned char *close, double *norms)
{
    const int64_t n = tensor_count(a);
    double *head_norms = norms + p->position_count, all = 0;
    struct profile_line whole = {0};

    for (int64_t i = 0; i < n; i++) {
        struct pair pair = {.a = compare_stats_element(a, i), .b = compare_stats_element(b, i)};

        pair.differs = differ(pair.a, pair.b);
        pair.failing = close && !close[i];
        add_pair(&whole, &all, &pair);
        if (isnan(pair.a) != isnan(pair.b))
            p->nan_pairs++;
        else
            p->histogram[bin_of(compare_stats_ulps(p->ulp_dtype, pair.a, pair.b))]++;
        if (fabs(pair.a - pair.b) > p->worst_abs) {
            p->worst_abs = fabs(pair.a - pair.b);
            p->worst = i;
        }
        if (p->positions) {
            const int64_t k = along(&p->axes, p->axes.position, i);

            add_pair(&p->positions[k], &norms[k], &pair);
        }
        if (p->heads) {
            const int64_t k = head_of(&p->axes, i);

            add_pair(&p->heads[k], &head_norms[k], &pair);
        }
    }
    for (int64_t k = 0; k < p->position_count; k++)
        finish(&p->positions[k], norms[k]);
    for (int64_t k = 0; k < p->head_count; k++)
        finish(&p->heads[k], head_norms[k]);
    finish(&whole, all);
    p->distance = whole.distance;
}

/* ---- growth ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(const struct profile_line *l, int64_t n, double *scratch)
{
    for (int64_t i = 0; i < n; i++)
        scratch[i] = l[i].distance;
    qsort(scratch, (size_t)n, sizeof(*scratch), by_value);
    return n % 2 ? scratch[n / 2] : (scratch[n / 2 - 1] + scratch[n / 2]) / 2;
}

/* How many of the sorted are below v, or with `through` below or equal. */
static int64_t count_below(const double *sorted, int64_t n, double v, int through)
{
    int64_t low = 0, high = n;

    while (low < high) {
        const int64_t middle = low + (high - low) / 2;

        if (sorted[middle] < v || (through && sorted[middle] == v))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Pearson's correlation of the ranks; those that are equal share the middle one. */
static double rank_correlation(const struct profile_line *l, int64_t n, double *sorted)
{
    double xy = 0, yy = 0, xx = 0;
    const double middle = (double)(n - 1) / 2;

    for (int64_t i = 0; i < n; i++)
        sorted[i] = l[i].distance;
    qsort(sorted, (size_t)n, sizeof(*sorted), by_value);
    for (int64_t i = 0; i < n; i++) {
        const int64_t low = count_below(sorted, n, l[i].distance, 0);
        const int64_t high = count_below(sorted, n, l[i].distance, 1) - 1;
        const double y = (double)(low + high) / 2 - middle;

        xy += ((double)i - middle) * y;
        xx += ((double)i - middle) * ((double)i - middle);
        yy += y * y;
    }
    return yy > 0 ? xy / sqrt(xx * yy) : 0;
}

static void find_growth(struct profile *p, double *scratch)
{
    struct profile_growth *g = &p->growth;
    const int64_t n = p->position_count, quarter = n / 4;

    if (n < GROWTH_POSITIONS)
        return;
    g->known = 1;
    g->correlation = rank_correlation(p->positions, n, scratch);
    g->first = median(p->positions, quarter, scratch);
    g->last = median(p->positions + n - quarter, quarter, scratch);
    g->grows = g->correlation >= GROWTH_CORRELATION && isfinite(g->last) &&
               g->last >= GROWTH_TIMES * g->first && g->last > judge_unit(p->ulp_dtype, 0);
}

/* ---- all of it ---- */

int profile_make(const struct tensor *a, const struct tensor *b, const struct profile_axes *axes,
                 const struct preset *preset, struct profile *out, struct error *err)
{
    const int64_t n = tensor_count(a);
    unsigned char *close = NULL;
    double *norms = NULL;
    int64_t first;
    int rc = -1;

    *out = (struct profile){.axes = *axes, .worst = -1};
    out->ulp_dtype = narrower(a->dtype, b->dtype);
    out->position_count = axes->position >= 0 && n ? axes->shape[axes->position] : 0;
    out->head_count = n ? axes->heads : 0;
    if (out->position_count)
        out->positions = calloc((size_t)out->position_count, sizeof(*out->positions));
    if (out->head_count)
        out->heads = calloc((size_t)out->head_count, sizeof(*out->heads));
    norms = calloc((size_t)(out->position_count + out->head_count) + 1, sizeof(*norms));
    if (preset->kind != PRESET_BITS)
        close = malloc((size_t)n + 1);
    if ((out->position_count && !out->positions) || (out->head_count && !out->heads) || !norms ||
        (preset->kind != PRESET_BITS && !close)) {
        error_set(err, 500, "out of memory");
        goto out;
    }
    if (close)
        preset_failing(preset, a, b, &first, close);
    count(out, a, b, close, norms);
    find_growth(out, norms);
    rc = 0;
out:
    free(close);
    free(norms);
    if (rc)
        profile_clear(out);
    return rc;
}

void profile_clear(struct profile *p)
{
    free(p->positions);
    free(p->heads);
    p->positions = p->heads = NULL;
    p->position_count = p->head_count = 0;
}
