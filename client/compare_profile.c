/* compare_profile.c - where in each value the sides are apart.  See compare.h. */
#include <stdlib.h>
#include <string.h>

#include "client/compare.h"

/* Sets what is not known from a value [heads, T, width] of that name. */
static void learn(struct align_model *m, const struct side_value *v)
{
    const char *end = v ? strrchr(v->canonical, '.') : NULL;

    if (!end || v->rank < 3)
        return;
    if (strcmp(end, ".q_rope") == 0 && !m->heads) {
        m->heads = v->shape[v->rank - 3];
        m->width = v->shape[v->rank - 1];
    }
    if ((strcmp(end, ".k_rope") == 0 || strcmp(end, ".keys") == 0) && !m->kv_heads)
        m->kv_heads = v->shape[v->rank - 3];
}

/* Both sides have as many elements; of two shapes it is the one without a batch of one. */
static const struct side_value *shape_of(const struct compare_row *r)
{
    return r->a->rank <= r->b->rank ? r->a : r->b;
}

static int profile_row(struct compare_row *r, const struct align_model *m,
                       const struct preset *preset, struct error *err)
{
    const struct side_value *v = shape_of(r);
    const struct profile_axes axes = profile_axes_of(r->name, v->shape, v->rank, m);

    r->profile = calloc(1, sizeof(*r->profile));
    if (!r->profile)
        return error_set(err, 500, "out of memory");
    return profile_make(&r->a->entry->tensor, &r->b->entry->tensor, &axes, preset, r->profile, err);
}

int compare_profile(struct compare *c, const struct align_model *model, struct error *err)
{
    struct align_model m = *model;

    for (int i = 0; i < c->count; i++) {
        learn(&m, c->rows[i].b);
        learn(&m, c->rows[i].a);
    }
    for (int i = 0; i < c->count; i++) {
        struct compare_row *r = &c->rows[i];

        if (r->has_stats && (r->stats.differing || r->failing) &&
            r->a->entry->tensor.dtype != DTYPE_I64 && profile_row(r, &m, &c->preset, err))
            return -1;
    }
    return 0;
}
