/* compare.c - see compare.h. */
#include "client/compare.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/glob.h"

const char *compare_verdict_name(enum compare_verdict verdict)
{
    static const char *const names[COMPARE_VERDICTS] = {
        [COMPARE_OPEN] = "open",           [COMPARE_EQUAL] = "equal bits",
        [COMPARE_CLOSE] = "close",         [COMPARE_DIFFERS] = "differs",
        [COMPARE_SHAPE] = "shape",         [COMPARE_DTYPE] = "dtype",
        [COMPARE_ONLY_A] = "missing in B", [COMPARE_ONLY_B] = "missing in A",
    };

    return names[verdict];
}

static int is_tokens(const char *name)
{
    return strcmp(name, "tokens") == 0;
}

static int wanted(const struct compare_options *o, const char *name)
{
    for (int i = 0; i < o->glob_count; i++)
        if (glob_matches(o->globs[i], name) || glob_matches(o->globs[i], side_base_name(name)))
            return 1;
    /* The ids come first whatever is compared: without them floats mean nothing. */
    return o->glob_count == 0 || is_tokens(name);
}

/* ---- deciding without numbers ---- */

static int same_extents(const struct side_value *a, int skip_a, const struct side_value *b,
                        int skip_b)
{
    if (a->rank - skip_a != b->rank - skip_b)
        return 0;
    for (int k = 0; k < a->rank - skip_a; k++)
        if (a->shape[k + skip_a] != b->shape[k + skip_b])
            return 0;
    return 1;
}

static int same_shape(const struct side_value *a, const struct side_value *b, int *batch)
{
    *batch = 0;
    if (same_extents(a, 0, b, 0))
        return 1;
    *batch = (a->rank == b->rank + 1 && a->shape[0] == 1 && same_extents(a, 1, b, 0)) ||
             (b->rank == a->rank + 1 && b->shape[0] == 1 && same_extents(a, 0, b, 1));
    return *batch;
}

static int computable(const struct side_value *v, enum dtype *dtype)
{
    return v->rank >= 0 && dtype_parse(v->dtype, dtype) == 0;
}

/* Compares the bytes of a dtype that is not computed with: all it can say is whether they are equal. */
static enum compare_verdict decide_bytes(const struct side_value *a, const struct side_value *b,
                                         const struct side *sa, const struct side *sb)
{
    uint64_t size;

    if (strcmp(a->dtype, b->dtype) != 0 || !a->entry || !b->entry)
        return COMPARE_DTYPE;
    size = a->entry->end - a->entry->begin;
    if (size != b->entry->end - b->entry->begin)
        return COMPARE_SHAPE;
    return memcmp(sa->file->data + a->entry->begin, sb->file->data + b->entry->begin, size) == 0
               ? COMPARE_EQUAL
               : COMPARE_DIFFERS;
}

/* Without tolerances equal digests say all; under them two NaNs may not be close. */
static enum compare_verdict decide(struct compare_row *r, const struct side *sa,
                                   const struct side *sb, const struct preset *preset)
{
    const struct side_value *a = r->a, *b = r->b;
    enum dtype da, db;

    if (!a || !b)
        return a ? COMPARE_ONLY_A : COMPARE_ONLY_B;
    if (!computable(a, &da) || !computable(b, &db))
        return decide_bytes(a, b, sa, sb);
    if (!compare_stats_possible(da, db))
        return COMPARE_DTYPE;
    if (!same_shape(a, b, &r->batch))
        return COMPARE_SHAPE;
    r->widened = da != db;
    if (preset->kind == PRESET_BITS && !r->widened && *a->sha256 &&
        strcmp(a->sha256, b->sha256) == 0)
        return COMPARE_EQUAL;
    return COMPARE_OPEN;
}

static int64_t row_elements(const struct side_value *v)
{
    int64_t n = 1;

    for (int k = 0; k < v->rank; k++)
        if (!v->shape[k]) /* the product of the others may not fit */
            return 0;
    for (int k = 0; k < v->rank; k++)
        n *= v->shape[k];
    return v->rank < 0 ? 0 : n;
}

/* ---- pairing ---- */

struct pairing {
    const struct side *lead, *follow; /* rows are in the order of lead */
    int swapped;                      /* lead is B */
    char *used;                       /* by position in follow */
    const struct compare_options *options;
    struct compare *out;
};

static void add_row(struct pairing *p, const struct side_value *lead,
                    const struct side_value *follow)
{
    struct compare_row *r = &p->out->rows[p->out->count];
    const struct side *a = p->swapped ? p->follow : p->lead, *b = p->swapped ? p->lead : p->follow;

    r->a = p->swapped ? follow : lead;
    r->b = p->swapped ? lead : follow;
    r->name = lead ? lead->canonical : follow->canonical;
    if (!wanted(p->options, r->name) || (p->options->common && (!lead || !follow)))
        return;
    r->verdict = decide(r, a, b, &p->options->preset);
    p->out->paired += lead && follow;
    p->out->count++;
}

static void add_unpaired(struct pairing *p, int from, int stop_at_used)
{
    for (int i = from; i < p->follow->count && !(stop_at_used && p->used[i]); i++)
        if (!p->used[i]) {
            p->used[i] = 1;
            add_row(p, NULL, &p->follow->values[i]);
        }
}

static const struct side_value *partner(const struct side *s, const struct side_value *v)
{
    const struct side_value *found = side_find(s, v->name);

    return found ? found : side_find(s, v->canonical);
}

static int position(const struct side *s, const struct side_value *v)
{
    return (int)(v - s->values);
}

/* Makes the rows.  They are in the order of `lead`.  A value that only `follow` has comes after its
 * predecessor there if follow is in order of execution, else at the end. */
static void pair_all(struct pairing *p, const int *match)
{
    if (p->follow->ordered)
        add_unpaired(p, 0, 1);
    for (int i = 0; i < p->lead->count; i++) {
        const struct side_value *other = match[i] < 0 ? NULL : &p->follow->values[match[i]];

        add_row(p, &p->lead->values[i], other);
        if (other && p->follow->ordered)
            add_unpaired(p, match[i] + 1, 1);
    }
    add_unpaired(p, 0, 0);
}

static int *find_matches(struct pairing *p)
{
    int *match = calloc((size_t)p->lead->count + 1, sizeof(*match));

    if (!match)
        return NULL;
    for (int i = 0; i < p->lead->count; i++) {
        const struct side_value *v = partner(p->follow, &p->lead->values[i]);

        match[i] = v && !p->used[position(p->follow, v)] ? position(p->follow, v) : -1;
        if (match[i] >= 0)
            p->used[match[i]] = 1;
    }
    /* The follower may know the alias under which lead has its path. */
    for (int k = 0; k < p->follow->count; k++) {
        const struct side_value *v = partner(p->lead, &p->follow->values[k]);

        if (!p->used[k] && v && match[position(p->lead, v)] < 0) {
            match[position(p->lead, v)] = k;
            p->used[k] = 1;
        }
    }
    return match;
}

static void tokens_first(struct compare *c)
{
    for (int i = 1; i < c->count; i++)
        if (is_tokens(c->rows[i].name)) {
            struct compare_row tokens = c->rows[i];

            memmove(&c->rows[1], &c->rows[0], (size_t)i * sizeof(c->rows[0]));
            c->rows[0] = tokens;
            return;
        }
}

static int64_t prompt_length_of(const struct compare *c, const struct side *a, const struct side *b)
{
    json_t *ids = side_prompt_tokens(a);
    int64_t length, steps = 0;

    if (!ids)
        ids = side_prompt_tokens(b);
    length = (int64_t)json_array_size(ids);
    json_decref(ids);
    if (length > 0 || c->count == 0 || !is_tokens(c->rows[0].name) || !c->rows[0].a)
        return length;
    /* Every step was fed one id: what the tokens hold beyond that is the prompt. */
    for (int i = 0; i < c->count; i++) {
        int step = side_step_of(c->rows[i].name);

        steps = step > steps ? step : steps;
    }
    return row_elements(c->rows[0].a) - steps;
}

struct compare *compare_create(const struct side *a, const struct side *b,
                               const struct compare_options *options, struct error *err)
{
    struct compare *c = calloc(1, sizeof(*c));
    int swapped = !a->ordered && b->ordered;
    struct pairing p = {.lead = swapped ? b : a,
                        .follow = swapped ? a : b,
                        .swapped = swapped,
                        .options = options,
                        .out = c};
    int *match = NULL;

    if (!c)
        goto fail;
    c->first = -1;
    c->first_token = -1;
    c->nan_bits = options->nan_bits;
    c->preset = options->preset;
    c->rows = calloc((size_t)a->count + (size_t)b->count + 1, sizeof(*c->rows));
    p.used = calloc((size_t)p.follow->count + 1, 1);
    if (!c->rows || !p.used)
        goto fail;
    match = find_matches(&p);
    if (!match)
        goto fail;
    pair_all(&p, match);
    tokens_first(c);
    c->prompt_length = prompt_length_of(c, a, b);
    goto out;
fail:
    error_set(err, 500, "out of memory");
    compare_free(c);
    c = NULL;
out:
    free(match);
    free(p.used);
    return c;
}

void compare_free(struct compare *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++)
        if (c->rows[i].profile) {
            profile_clear(c->rows[i].profile);
            free(c->rows[i].profile);
        }
    free(c->rows);
    free(c);
}

/* ---- numbers ---- */

/* Token ids are names: one that is near is another one. */
static int has_tolerance(const struct compare *c, const struct compare_row *r)
{
    return c->preset.kind != PRESET_BITS && !is_tokens(r->name);
}

static enum compare_verdict judge(const struct compare *c, struct compare_row *r)
{
    const enum compare_verdict bits = r->stats.differing ? COMPARE_DIFFERS : COMPARE_EQUAL;

    r->first_failing = -1;
    if (!has_tolerance(c, r))
        return bits;
    r->failing = preset_failing(&c->preset, &r->a->entry->tensor, &r->b->entry->tensor,
                                &r->first_failing, NULL);
    return r->failing ? COMPARE_DIFFERS : bits == COMPARE_EQUAL ? COMPARE_EQUAL : COMPARE_CLOSE;
}

static int run_row(const struct compare *c, struct compare_row *r, struct error *err)
{
    const struct safetensors_entry *a = r->a->entry, *b = r->b->entry;

    if (!a || !b)
        return error_set(err, 500, "%s: the numbers of %s were not sent", r->name, a ? "B" : "A");
    if (tensor_count(&a->tensor) != tensor_count(&b->tensor))
        return error_set(err, 500, "%s: the numbers are not of the shape announced", r->name);
    compare_stats_run(&a->tensor, &b->tensor, c->nan_bits, &r->stats);
    r->has_stats = 1;
    r->verdict = judge(c, r);
    return 0;
}

static uint64_t row_bytes(const struct compare_row *r)
{
    enum dtype dtype;

    if (r->verdict != COMPARE_OPEN || dtype_parse(r->a->dtype, &dtype))
        return 0;
    return (uint64_t)row_elements(r->a) * dtype_size(dtype);
}

/* Finds the first divergence.  A wrong id of the prompt comes before every value, and a wrong id that
 * step i was fed before the values of step i. */
static void find_first(struct compare *c)
{
    int token_step = 0;

    for (int i = 0; i < c->count && c->first < 0; i++) {
        enum compare_verdict v = c->rows[i].verdict;

        if (!is_tokens(c->rows[i].name) &&
            (v == COMPARE_DIFFERS || v == COMPARE_SHAPE || v == COMPARE_DTYPE))
            c->first = i;
    }
    if (c->count == 0 || !is_tokens(c->rows[0].name) || !c->rows[0].a || !c->rows[0].b ||
        c->rows[0].verdict == COMPARE_EQUAL)
        return;
    if (c->rows[0].has_stats)
        c->first_token = c->rows[0].stats.first;
    if (c->prompt_length > 0 && c->first_token >= c->prompt_length)
        token_step = (int)(c->first_token - c->prompt_length) + 1;
    if (c->first < 0 || side_step_of(c->rows[c->first].name) >= token_step)
        c->first = 0;
}

int compare_run(struct compare *c,
                int (*progress)(void *user, const char *name, uint64_t done, uint64_t all),
                void *user, struct error *err)
{
    uint64_t all = 0, done = 0;

    for (int i = 0; i < c->count; i++)
        all += row_bytes(&c->rows[i]);
    for (int i = 0; i < c->count; i++) {
        struct compare_row *r = &c->rows[i];

        if (r->verdict == COMPARE_OPEN) {
            done += row_bytes(r);
            if (run_row(c, r, err))
                return -1;
            if (progress && progress(user, r->name, done, all))
                return error_set(err, 499, "stopped at %s", r->name);
        }
        c->totals[r->verdict]++;
        if (r->verdict == COMPARE_EQUAL || r->verdict == COMPARE_CLOSE ||
            r->verdict == COMPARE_DIFFERS)
            c->elements += row_elements(r->a);
        c->wrong += r->has_stats ? r->stats.differing : 0;
        c->failing += r->failing;
        c->nan_other += r->has_stats ? r->stats.nan_other : 0;
    }
    find_first(c);
    return 0;
}

int compare_same(const struct compare *c)
{
    return c->totals[COMPARE_EQUAL] + c->totals[COMPARE_CLOSE] == c->count;
}
