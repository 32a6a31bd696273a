/* understand.c - see understand.h: which value is which, by name and by numbers. */
#include "client/understand.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/names.h"
#include "client/side.h"
#include "client/understand_job.h"

enum { NEAREST = 3, PARTS = 3 };

/* By numbers alone a value is recognised when it is this near, and the next one this much farther. */
static const double NEAR = 0.1, FARTHER = 3;

/* "1,2,3" and "2,3": what a comparison sees by itself. */
static int same_but_batch(const char *a, const char *b)
{
    a += strncmp(a, "1,", 2) == 0 ? 2 : 0;
    b += strncmp(b, "1,", 2) == 0 ? 2 : 0;
    return strcmp(a, b) == 0;
}

int understand_needless(const struct safetensors *dump, const struct safetensors *reference)
{
    if (json_object_get(dump->metadata, "left_out"))
        return 0;
    for (int i = 0; i < dump->count; i++) {
        const struct safetensors_entry *e = &dump->entries[i];
        const struct safetensors_entry *r = safetensors_find(reference, e->name);

        if (!r || !same_but_batch(r->shape_text, e->shape_text))
            return 0;
    }
    return 1;
}

/* ---- pieces ---- */

static int reference_of(const struct understand_job *j, const char *path)
{
    const struct safetensors_entry *e = safetensors_find(j->reference, path);

    return e ? (int)(e - j->reference->entries) : -1;
}

static int add_piece(struct understand_job *j, const char *name, const struct alignment *a,
                     int reference, struct error *err)
{
    struct understand_piece *p = &j->pieces[j->count];

    *p = (struct understand_piece){strdup(name), a->view, a->value, reference, a->first_row};
    if (!p->name)
        return error_set(err, 500, "out of memory");
    j->count++;
    if (reference < j->reference->count)
        j->claimed[reference] = 1;
    return 0;
}

static struct align_model model_of(const struct understand_job *j, const char *path)
{
    struct align_model m = j->o->model;

    if (side_step_of(path))
        m.tokens = 1;
    return m;
}

/* A distance in JSON, which has no infinity. */
static json_t *number(double d)
{
    return isfinite(d) ? json_real(d) : json_null();
}

static json_t *row_of(const char *name, const char *value, const char *how,
                      const struct alignment *a)
{
    return json_pack("{s:s,s:s?,s:s?,s:s,s:o}", "name", name, "value", value, "how", how, "layout",
                     a->layout, "distance", number(a->distance));
}

static int take(struct understand_job *j, const struct safetensors_entry *e, const char *path,
                const char *how, const struct alignment *a, struct error *err)
{
    json_array_append_new(j->out->rows, row_of(e->name, path, how, a));
    j->out->renamed += strcmp(e->name, path) != 0;
    j->out->moved += *a->layout != '\0';
    return add_piece(j, path, a, reference_of(j, path), err);
}

/* ---- by name ---- */

/* The parts that joined matrices give.  1: taken. */
static int take_fused(struct understand_job *j, const struct safetensors_entry *e,
                      const char *paths, const char *how, struct error *err)
{
    const struct align_model m = model_of(j, paths);
    const struct tensor *parts[PARTS];
    struct alignment found[PARTS];
    char path[NAMES_SIZE];
    int at[PARTS], count = 0;

    for (; count < PARTS && understand_path_at(paths, count, path, sizeof(path)); count++) {
        at[count] = reference_of(j, path);
        if (at[count] < 0 || j->claimed[at[count]])
            return 0;
        parts[count] = &j->reference->entries[at[count]].tensor;
    }
    if (align_fused(&m, &e->tensor, parts, count, found))
        return 0;
    for (int k = 0; k < count; k++)
        if (take(j, e, j->reference->entries[at[k]].name, how, &found[k], err))
            return -1;
    return 1;
}

/* Ids are taken as they are. */
static int take_tokens(struct understand_job *j, const struct safetensors_entry *e,
                       struct error *err)
{
    const struct alignment a = {.view = e->tensor, .value = e->tensor};
    const int at = reference_of(j, "tokens");

    json_array_append_new(j->out->rows, row_of(e->name, "tokens", "exact", &a));
    return add_piece(j, "tokens", &a, at < 0 ? 0 : at, err) ? -1 : 1;
}

/* 1: taken; 0: the name says nothing, or says what cannot be. */
static int take_named(struct understand_job *j, const struct safetensors_entry *e,
                      struct error *err)
{
    char paths[2 * NAMES_SIZE];
    const char *how = understand_meaning(j->o, e->name, paths, sizeof(paths));
    struct align_model m;
    struct alignment a;
    int at;

    if (!how || (e->tensor.dtype == DTYPE_I64) != (strcmp(paths, "tokens") == 0))
        return 0;
    if (strcmp(paths, "tokens") == 0)
        return take_tokens(j, e, err);
    if (strchr(paths, '+'))
        return take_fused(j, e, paths, how, err);
    at = reference_of(j, paths);
    m = model_of(j, paths);
    m.named = 1;
    if (at < 0 || j->claimed[at] ||
        align_find(&m, &e->tensor, &j->reference->entries[at].tensor, &a))
        return 0;
    return take(j, e, paths, how, &a, err) ? -1 : 1;
}

/* ---- all layers in one ---- */

/* The value of layer i: without the leading axis, which tells the layers apart. */
static struct tensor layer_of(const struct tensor *t, int i)
{
    struct tensor part = tensor_slice(t, 0, i, 1);

    part.rank--;
    memmove(part.shape, part.shape + 1, sizeof(part.shape[0]) * (size_t)part.rank);
    memmove(part.stride, part.stride + 1, sizeof(part.stride[0]) * (size_t)part.rank);
    return part;
}

static int take_layer(struct understand_job *j, const struct safetensors_entry *e,
                      const char *pattern, int i, struct error *err)
{
    const struct tensor part = layer_of(&e->tensor, i);
    char path[2 * NAMES_SIZE];
    struct align_model m;
    struct alignment a;
    int at, rc;

    understand_stacked_path(j->o, pattern, i, path, sizeof(path));
    at = reference_of(j, path);
    m = model_of(j, path);
    if (at < 0 || j->claimed[at] || align_find(&m, &part, &j->reference->entries[at].tensor, &a))
        return 0;
    rc = take(j, e, path, "stacked", &a, err);
    if (rc == 0)
        json_object_set_new(json_array_get(j->out->rows, json_array_size(j->out->rows) - 1),
                            "pattern", json_string(pattern));
    return rc ? -1 : 1;
}

/* 1: taken, as far as it could be; 0: it does not hold a value of each layer. */
static int take_stacked(struct understand_job *j, const struct safetensors_entry *e,
                        struct error *err)
{
    char pattern[2 * NAMES_SIZE];
    const int count = understand_stacked(j->o, e, pattern, sizeof(pattern));
    int taken = 0;

    for (int i = 0; i < count; i++) {
        const int rc = take_layer(j, e, pattern, i, err);

        if (rc < 0)
            return -1;
        taken += rc;
    }
    return taken > 0;
}

/* ---- by numbers ---- */

struct near {
    int at;
    struct alignment alignment;
};

/* The nearest of those that are free, in order. */
static int find_near(const struct understand_job *j, const struct safetensors_entry *e,
                     struct near *near)
{
    int count = 0;

    for (int i = 0; i < j->reference->count; i++) {
        const struct safetensors_entry *r = &j->reference->entries[i];
        struct near n = {.at = i};
        const struct align_model m = model_of(j, r->name);
        int k;

        if (j->claimed[i] || r->tensor.dtype == DTYPE_I64 ||
            side_step_of(r->name) != side_step_of(e->name) ||
            align_find(&m, &e->tensor, &r->tensor, &n.alignment))
            continue;
        for (k = count < NEAREST ? count++ : NEAREST; k > 0; k--) {
            if (near[k - 1].alignment.distance <= n.alignment.distance)
                break;
            if (k < NEAREST)
                near[k] = near[k - 1];
        }
        if (k < NEAREST)
            near[k] = n;
    }
    return count;
}

/* Returns the value that the name means, where only its shape does not fit; else -1. */
static int misfit_of(const struct understand_job *j, const struct safetensors_entry *e)
{
    char path[2 * NAMES_SIZE];
    int at;

    if (e->tensor.dtype == DTYPE_I64 || !understand_meaning(j->o, e->name, path, sizeof(path)))
        return -1;
    at = reference_of(j, path);
    return at < 0 || j->claimed[at] || strcmp(path, "tokens") == 0 ? -1 : at;
}

/* Left as it is, under our name: a comparison says that the shapes differ. */
static int leave_misfit(struct understand_job *j, const struct safetensors_entry *e, int at,
                        struct error *err)
{
    const struct alignment none = {.view = e->tensor, .value = e->tensor, .distance = INFINITY};
    const struct safetensors_entry *r = &j->reference->entries[at];
    json_t *row = row_of(e->name, NULL, NULL, &none);
    char theirs[128], ours[128];

    json_object_set_new(row, "misfit",
                        json_sprintf("shape %s does not fit %s, which has %s",
                                     tensor_shape_text(&e->tensor, theirs, sizeof(theirs)), r->name,
                                     tensor_shape_text(&r->tensor, ours, sizeof(ours))));
    json_object_set_new(row, "nearest", json_array());
    json_array_append_new(j->out->rows, row);
    j->out->unmatched++;
    return add_piece(j, r->name, &none, at, err);
}

static int leave(struct understand_job *j, const struct safetensors_entry *e,
                 const struct near *near, int count, struct error *err)
{
    const struct alignment none = {.view = e->tensor, .value = e->tensor, .distance = INFINITY};
    json_t *row, *list;
    const int misfit = misfit_of(j, e);

    if (misfit >= 0)
        return leave_misfit(j, e, misfit, err);
    row = row_of(e->name, NULL, NULL, &none);
    list = json_array();

    for (int k = 0; k < count; k++)
        json_array_append_new(list, json_pack("{s:s,s:o}", "value",
                                              j->reference->entries[near[k].at].name, "distance",
                                              number(near[k].alignment.distance)));
    json_object_set_new(row, "nearest", list);
    json_array_append_new(j->out->rows, row);
    j->out->unmatched++;
    for (int i = 0; i < j->count; i++)
        if (strcmp(j->pieces[i].name, e->name) == 0) /* of another value */
            return 0;
    return add_piece(j, e->name, &none, j->reference->count, err);
}

static int take_near(struct understand_job *j, const struct safetensors_entry *e, struct error *err)
{
    struct near near[NEAREST];
    const int count = e->tensor.dtype == DTYPE_I64 ? 0 : find_near(j, e, near);
    const double d = count ? near[0].alignment.distance : INFINITY;

    if (d < NEAR && (count == 1 || near[1].alignment.distance > FARTHER * d))
        return take(j, e, j->reference->entries[near[0].at].name, "numbers", &near[0].alignment,
                    err);
    return leave(j, e, near, count, err);
}

/* A value that the dump has under another name too: told, and not needed again.  1: it is one. */
static int is_again(struct understand_job *j, const struct safetensors_entry *e)
{
    const struct alignment none = {.distance = INFINITY, .layout = "which the dump has twice"};
    char path[2 * NAMES_SIZE];
    int at;

    if (!understand_meaning(j->o, e->name, path, sizeof(path)))
        return 0;
    at = reference_of(j, path);
    if (at < 0 || !j->claimed[at])
        return 0;
    json_array_append_new(j->out->rows, row_of(e->name, path, "again", &none));
    return 1;
}

/* Names that are paths of ours go first, then what other names say, then what numbers say. */
enum { BY_PATH, BY_NAME, BY_NUMBERS, WAYS };

static int take_by_name(struct understand_job *j, const struct safetensors_entry *e,
                        struct error *err)
{
    const int rc = take_stacked(j, e, err);

    return rc ? rc : take_named(j, e, err);
}

static int take_one(struct understand_job *j, const struct safetensors_entry *e, int way,
                    struct error *err)
{
    if (way == BY_PATH && reference_of(j, e->name) < 0)
        return 0;
    if (way != BY_NUMBERS)
        return e->tensor.rank ? take_by_name(j, e, err) : 0;
    return is_again(j, e) || take_near(j, e, err) == 0 ? 1 : -1;
}

static int take_all(struct understand_job *j, struct error *err)
{
    char *taken = calloc((size_t)j->dump->count + 1, 1);
    int rc = taken ? 0 : error_set(err, 500, "out of memory");

    for (int way = BY_PATH; way < WAYS; way++)
        for (int i = 0; rc >= 0 && i < j->dump->count; i++) {
            const struct safetensors_entry *e = &j->dump->entries[i];

            if (taken[i] || !e->supported || e->tensor.rank > TENSOR_MAX_RANK)
                continue;
            rc = take_one(j, e, way, err);
            taken[i] = rc > 0;
        }
    free(taken);
    return rc < 0 ? -1 : 0;
}

int understand(const struct safetensors *dump, const struct safetensors *reference,
               const struct understand_options *o, struct understood *out, struct error *err)
{
    struct understand_job j = {.dump = dump, .reference = reference, .o = o, .out = out};
    int rc = -1;

    *out = (struct understood){.rows = json_array()};
    j.pieces = calloc((size_t)dump->count * (size_t)(PARTS + o->layers + 1) + 1, sizeof(*j.pieces));
    j.claimed = calloc((size_t)reference->count + 1, 1);
    if (!j.pieces || !j.claimed || !out->rows)
        error_set(err, 500, "out of memory");
    else if (take_all(&j, err) == 0)
        rc = understand_write(&j, err);
    for (int i = 0; i < j.count; i++)
        free(j.pieces[i].name);
    free(j.pieces);
    free(j.claimed);
    if (rc)
        understood_clear(out);
    return rc;
}

void understood_clear(struct understood *u)
{
    safetensors_close(u->file);
    safetensors_close(u->reference);
    json_decref(u->rows);
    *u = (struct understood){0};
}
