/* align_fused.c - matrices joined into one, taken apart.  See align.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/align.h"

enum { PARTS = 3 };

struct fused {
    const struct align_model *model;
    const struct tensor *other, *const *parts;
    int count;
    int64_t rows, columns;
};

/* The layouts: each sets the views of all parts, or returns 0 where it cannot be. */

static int joined(const struct fused *f, int reversed, struct tensor *views)
{
    const struct tensor flat =
        tensor_make(f->other->dtype, 2, (const int64_t[]){f->rows, f->columns}, f->other->data);
    int64_t first = 0;

    for (int i = 0; i < f->count; i++) {
        const int k = reversed ? f->count - 1 - i : i;

        views[k] = tensor_slice(&flat, 1, first, f->parts[k]->shape[1]);
        first += f->parts[k]->shape[1];
    }
    return 1;
}

static int in_order(const struct fused *f, struct tensor *views)
{
    return joined(f, 0, views);
}

static int in_other_order(const struct fused *f, struct tensor *views)
{
    return f->count == 2 && joined(f, 1, views);
}

/* [T, X, parts] */
static int one_by_one(const struct fused *f, struct tensor *views)
{
    const int64_t width = f->parts[0]->shape[1];
    const struct tensor t = tensor_make(
        f->other->dtype, 3, (const int64_t[]){f->rows, width, f->count}, f->other->data);

    for (int k = 0; k < f->count; k++) {
        if (f->parts[k]->shape[1] != width)
            return 0;
        views[k] = tensor_slice(&t, 2, k, 1);
    }
    return 1;
}

/* Query, key and value heads: how many of each, in a group that one key head belongs to. */
static int heads_of(const struct fused *f, int64_t *heads)
{
    for (int k = 0; k < f->count; k++) {
        if (f->model->width <= 0 || f->parts[k]->shape[1] % f->model->width)
            return 0;
        heads[k] = f->parts[k]->shape[1] / f->model->width;
    }
    return f->count == PARTS;
}

/* [T, key heads, queries of it + 2, width] */
static int by_groups(const struct fused *f, struct tensor *views)
{
    int64_t heads[PARTS], first = 0;
    struct tensor t;

    if (!heads_of(f, heads) || heads[1] == 0 || heads[0] % heads[1] || heads[1] != heads[2])
        return 0;
    t = tensor_make(f->other->dtype, 4,
                    (const int64_t[]){f->rows, heads[1], heads[0] / heads[1] + 2, f->model->width},
                    f->other->data);
    for (int k = 0; k < PARTS; k++) {
        views[k] = tensor_slice(&t, 2, first, heads[k] / heads[1]);
        first += heads[k] / heads[1];
    }
    return 1;
}

/* [all heads, T, width] */
static int heads_first(const struct fused *f, struct tensor *views)
{
    int64_t heads[PARTS], first = 0, all = f->model->width ? f->columns / f->model->width : 0;
    const struct tensor t = tensor_make(
        f->other->dtype, 3, (const int64_t[]){all, f->rows, f->model->width}, f->other->data);

    if (!heads_of(f, heads))
        return 0;
    for (int k = 0; k < PARTS; k++) {
        const struct tensor part = tensor_slice(&t, 0, first, heads[k]);

        views[k] = part;
        views[k].shape[0] = part.shape[1];
        views[k].shape[1] = part.shape[0];
        views[k].stride[0] = part.stride[1];
        views[k].stride[1] = part.stride[0];
        first += heads[k];
    }
    return 1;
}

static const struct {
    int (*set)(const struct fused *f, struct tensor *views);
    const char *text;
} layouts[] = {
    {in_order, "cut out of a fused matrix"},
    {in_other_order, "cut out of a fused matrix, where it stands in the other order"},
    {one_by_one, "cut out of a fused matrix, where its columns take turns"},
    {by_groups, "cut out of a fused matrix, where heads stand in groups"},
    {heads_first, "cut out of a fused matrix, heads first"},
};

/* The plain layout is given up only for one that is near where it is far. */
static int is_better(double distance, double best, int plain)
{
    return plain ? distance < 0.05 && best > 10 * distance && best > 0.2 : distance < best;
}

int align_fused(const struct align_model *m, const struct tensor *other,
                const struct tensor *const *parts, int count, struct alignment *out)
{
    struct fused f = {.model = m, .other = other, .parts = parts, .count = count};
    double best = INFINITY;

    f.rows = parts[0]->shape[0];
    for (int k = 0; k < count; k++)
        f.columns += parts[k]->rank == 2 && parts[k]->shape[0] == f.rows ? parts[k]->shape[1] : 0;
    if (count < 2 || count > PARTS || tensor_count(other) != f.rows * f.columns)
        return -1;
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        struct tensor views[PARTS];
        double distance = 0;

        if (!layouts[i].set(&f, views))
            continue;
        for (int k = 0; k < count; k++)
            distance = fmax(distance, align_distance(&views[k], parts[k]));
        if (i && !is_better(distance, best, i && strcmp(out[0].layout, layouts[0].text) == 0))
            continue;
        best = distance;
        for (int k = 0; k < count; k++) {
            out[k] = (struct alignment){.view = views[k], .value = *parts[k]};
            out[k].value.data = NULL;
            out[k].distance = align_distance(&views[k], parts[k]);
            snprintf(out[k].layout, sizeof(out[k].layout), "%s", layouts[i].text);
        }
    }
    return 0;
}
