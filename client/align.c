/* align.c - see align.h.
 *
 * The reference is cut into atoms, axes that some layout may move: [T, heads * D] is (T, heads, D).
 * Every order of the atoms, with neighbours merged, is a shape that the other may have. */
#include "client/align.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/compare_stats.h"

enum { ATOMS = 3, SAMPLE = 1 << 18 };

struct atoms {
    int count;
    int64_t at[ATOMS];   /* in the order of the reference */
    int64_t held[ATOMS]; /* as many as the other holds: more where it is padded, 1 for a last row */
    int64_t skip[ATOMS]; /* of these, the first so many are padding */
    const char *padding;
    int64_t copies; /* of each head one after the other, 0 or 1: none */
    int heads;      /* their axis, where there are copies */
};

double align_distance(const struct tensor *a, const struct tensor *b)
{
    const int64_t count = tensor_count(a), step = 1 + count / SAMPLE;
    struct tensor one = {.shape = {1}};
    double apart = 0, all = 0;
    int64_t compared = 0, odd = 0, looked_at = 0;

    if (count != tensor_count(b))
        return INFINITY;
    for (int64_t i = 0; i < count; i += step) {
        double x, y;

        one = *a;
        x = compare_stats_element(&one, tensor_offset(a, i));
        y = compare_stats_element(b, tensor_offset(b, i));
        looked_at++;
        odd += (fabs(x) >= 1e30) != (fabs(y) >= 1e30);
        if (!(fabs(x) < 1e30) || !(fabs(y) < 1e30))
            continue;
        apart += (x - y) * (x - y);
        all += y * y;
        compared++;
    }
    if (compared == 0)
        return INFINITY;
    if (!(all > 0))
        return apart > 0 || odd ? INFINITY : 0;
    return sqrt(apart / all + (double)odd / (double)looked_at);
}

/* ---- candidates ---- */

static void squeeze(struct tensor *t)
{
    int rank = 0;

    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] != 1)
            t->shape[rank++] = t->shape[i];
    t->rank = rank;
}

/* Returns whether axes in this order, some merged with their neighbour, give other's shape. */
static int shape_fits(const struct tensor *other, const int64_t *axes, int count)
{
    struct tensor have = *other;
    int at = 0;
    int64_t n = 1;

    squeeze(&have);
    for (int i = 0; i < count; i++) {
        n *= axes[i];
        if (at < have.rank && n == have.shape[at]) {
            at++;
            n = 1;
        }
    }
    return at == have.rank && n == 1;
}

static const int orders[6][ATOMS] = {{0, 1, 2}, {1, 0, 2}, {0, 2, 1},
                                     {2, 0, 1}, {1, 2, 0}, {2, 1, 0}};

static int order_is_of(const int *order, int count)
{
    for (int i = 0; i < count; i++)
        if (order[i] >= count)
            return 0;
    return 1;
}

/* Returns a view of the other whose axes are the atoms, in the reference's order. */
static struct tensor view_of(const struct tensor *other, const struct atoms *a, const int *order)
{
    struct tensor v = {.dtype = other->dtype, .rank = a->count, .data = other->data};
    int64_t stride = 1;

    for (int i = a->count - 1; i >= 0; i--) {
        v.shape[order[i]] = a->held[order[i]];
        v.stride[order[i]] = stride;
        stride *= a->held[order[i]];
    }
    for (int i = 0; i < a->count; i++)
        if (a->held[i] > a->at[i] && !(a->copies > 1 && i == a->heads))
            v = tensor_slice(&v, i, a->skip[i], a->at[i]);
    if (a->copies > 1) {
        v.shape[a->heads] = a->at[a->heads];
        v.stride[a->heads] *= a->copies;
    }
    return v;
}

/* Returns a view of [.., D/2, 2] as [.., 2, D/2]: undoes a layout where the two elements that rotary
 * embedding rotates together lie side by side. */
static struct tensor unpaired(const struct tensor *v)
{
    struct tensor t = *v;
    const int last = v->rank - 1;

    t.rank++;
    t.shape[last] = 2;
    t.shape[last + 1] = v->shape[last] / 2;
    t.stride[last + 1] = 2 * v->stride[last];
    t.stride[last] = v->stride[last];
    return t;
}

static const char *order_text(const struct atoms *a, const int *order, int heads_axis)
{
    if (order == orders[0])
        return "";
    if (a->count == 2)
        return "transposed";
    if (heads_axis == 0 && order == orders[1])
        return "heads last";
    if (heads_axis == 1 && order == orders[1])
        return "heads first";
    return "axes in another order";
}

static void say(char *out, size_t size, const char *a, const char *b, const char *c)
{
    snprintf(out, size, "%s%s%s%s%s", a, *a && *b ? ", " : "", b, (*a || *b) && *c ? ", " : "", c);
}

/* ---- choosing ---- */

struct choice {
    const struct align_model *model;
    const struct tensor *other, *reference;
    struct alignment *out;
    int found;
    int plain; /* what was found is the plain order */
};

/* Returns whether a layout is clearly nearer than the best so far: the plain one is given up only for
 * one that is near where the plain one is far. */
static int is_better(const struct choice *c, double distance)
{
    if (!c->found)
        return 1;
    if (c->plain)
        return distance < 0.05 && c->out->distance > 10 * distance && c->out->distance > 0.2;
    return distance < c->out->distance;
}

static void consider(struct choice *c, const struct atoms *a, int order, int heads_axis,
                     int with_pairs)
{
    struct tensor part = *c->reference, view = view_of(c->other, a, orders[order]);
    const char *moved = order_text(a, orders[order], heads_axis);
    int64_t first_row = 0;
    double distance;

    for (int i = 0; i < part.rank; i++)
        if (a->padding && strcmp(a->padding, "last row only") == 0 &&
            part.shape[i] == c->model->tokens) {
            first_row = part.shape[i] - 1;
            part = tensor_slice(&part, i, first_row, 1);
            break;
        }
    if (with_pairs)
        view = unpaired(&view);
    distance = align_distance(&view, &part);
    if (!is_better(c, distance))
        return;
    c->found = 1;
    c->plain = !*moved && !with_pairs && !a->padding;
    *c->out = (struct alignment){
        .view = view, .value = part, .first_row = first_row, .distance = distance};
    c->out->value.data = NULL;
    say(c->out->layout, sizeof(c->out->layout), moved, a->padding ? a->padding : "",
        with_pairs ? "the pairs of the rotation side by side" : "");
}

/* Whether queries and keys, as many of both, would be exchanged: what looks so where the value has a
 * name is a mistake, not a layout. */
static int swaps_positions(const struct atoms *a, const int *order, int heads_axis)
{
    return heads_axis == 0 && a->count == 3 && a->at[1] == a->at[2] && order[2] != 2;
}

static void try_order(struct choice *c, const struct atoms *a, int order, int heads_axis)
{
    int64_t axes[ATOMS];

    if (!order_is_of(orders[order], a->count) ||
        (c->model->named && swaps_positions(a, orders[order], heads_axis)))
        return;
    for (int i = 0; i < a->count; i++)
        axes[i] = a->held[orders[order][i]];
    if (!shape_fits(c->other, axes, a->count))
        return;
    consider(c, a, order, heads_axis, 0);
    if (heads_axis >= 0 && a->at[a->count - 1] == c->model->width && c->model->width % 2 == 0)
        consider(c, a, order, heads_axis, 1);
}

static void try_atoms(struct choice *c, const struct atoms *a, int heads_axis)
{
    for (int order = 0; order < 6; order++)
        try_order(c, a, order, heads_axis);
}

/* The reference's axes, and with heads apart where its last axis holds them. */
static void try_cuts(struct choice *c, void (*vary)(struct choice *c, struct atoms *a, int heads))
{
    const struct tensor *r = c->reference;
    const int64_t heads[] = {c->model->heads, c->model->kv_heads};
    struct atoms a = {.count = r->rank};

    if (r->rank > ATOMS || r->rank == 0)
        return;
    memcpy(a.at, r->shape, sizeof(a.at[0]) * (size_t)r->rank);
    vary(c, &a, r->rank == 3 ? 0 : -1);
    for (int i = 0; i < 2 && r->rank == 2; i++) {
        if (heads[i] == 0 || r->shape[1] != heads[i] * c->model->width)
            continue;
        a = (struct atoms){.count = 3, .at = {r->shape[0], heads[i], c->model->width}};
        vary(c, &a, 1);
    }
}

static void as_they_are(struct choice *c, struct atoms *a, int heads)
{
    memcpy(a->held, a->at, sizeof(a->held));
    try_atoms(c, a, heads);
}

static void with_other_rows(struct choice *c, struct atoms *a, int64_t rows, int left,
                            const char *text, int heads)
{
    struct atoms b = *a;

    memcpy(b.held, b.at, sizeof(b.held));
    b.padding = text;
    for (int i = 0; i < b.count; i++) {
        if (b.at[i] != c->model->tokens)
            continue;
        b.held[i] = rows;
        b.skip[i] = left ? rows - b.at[i] : 0;
        if (rows == 1) {
            b.at[i] = 1;
            break;
        }
    }
    try_atoms(c, &b, heads);
}

/* Tries shapes with more or fewer rows: padding rows, the last row alone, a padded vocabulary. */
static void padded(struct choice *c, struct atoms *a, int heads)
{
    for (int i = 0; i < c->other->rank; i++) {
        const int64_t n = c->other->shape[i];
        const int last = a->count - 1;

        if (n > c->model->tokens) {
            with_other_rows(c, a, n, 0, "rows padded on the right", heads);
            with_other_rows(c, a, n, 1, "rows padded on the left", heads);
        }
        if (n > a->at[last] && (n < 2 * a->at[last] || a->at[last] == c->model->tokens)) {
            struct atoms b = *a;

            memcpy(b.held, b.at, sizeof(b.held));
            b.held[last] = n;
            b.padding = "its last axis padded";
            try_atoms(c, &b, heads);
        }
    }
    with_other_rows(c, a, 1, 0, "last row only", heads);
}

/* Returns whether all copies of each head are the same. */
static int are_copies(const struct tensor *other, const struct atoms *a, const int *order)
{
    const struct tensor first = view_of(other, a, order);
    struct tensor next = first;

    for (int64_t k = 1; k < a->copies; k++) {
        next.data = (char *)first.data +
                    (size_t)(k * (first.stride[a->heads] / a->copies)) * dtype_size(first.dtype);
        if (align_distance(&next, &first) != 0)
            return 0;
    }
    return 1;
}

/* Keys and values as they are once each head stands there for every query head that reads it. */
static void repeated(struct choice *c, struct atoms *a, int heads)
{
    const struct align_model *m = c->model;
    struct atoms b = *a;

    if (heads < 0 || m->kv_heads <= 0 || m->heads % m->kv_heads || m->heads == m->kv_heads ||
        a->at[heads] != m->kv_heads)
        return;
    memcpy(b.held, b.at, sizeof(b.held));
    b.held[heads] = m->heads;
    b.copies = m->heads / m->kv_heads;
    b.heads = heads;
    b.padding = "each head repeated for its queries";
    for (int order = 0; order < 6; order++)
        if (order_is_of(orders[order], b.count) && are_copies(c->other, &b, orders[order]))
            try_order(c, &b, order, heads);
}

int align_find(const struct align_model *m, const struct tensor *other,
               const struct tensor *reference, struct alignment *out)
{
    struct choice c = {.model = m, .other = other, .reference = reference, .out = out};

    try_cuts(&c, as_they_are);
    if (!c.found && m->tokens > 1)
        try_cuts(&c, padded);
    if (!c.found &&
        tensor_count(other) == tensor_count(reference) * m->heads / (m->kv_heads ? m->kv_heads : 1))
        try_cuts(&c, repeated);
    return c.found ? 0 : -1;
}
