/* understand.c - see understand.h. */
#include "client/understand.h"

#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "client/compare_stats.h"
#include "client/dump_write.h"
#include "client/names.h"
#include "client/side.h"

enum { NEAREST = 3, PARTS = 3 };

/* By numbers alone a value is recognised when it is this near, and the next one this much farther. */
static const double NEAR = 0.1, FARTHER = 3;

/* A value as it will stand in the file. */
struct piece {
    char *name;
    struct tensor view, shape;
    int reference;     /* position there; for what was not understood, behind all */
    int64_t first_row; /* of the reference, as struct alignment has it */
};

struct job {
    const struct safetensors *dump, *reference;
    const struct understand_options *o;
    struct understood *out;
    struct piece *pieces;
    int count;
    char *claimed; /* by position in the reference */
};

/* ---- names ---- */

/* The path of a name or an alias, with the call it stands before. */
static int known_path(const json_t *known, const char *name, char *out, size_t size)
{
    const char *base = side_base_name(name);
    const char *path = json_string_value(json_object_get(known, base));

    if (path)
        snprintf(out, size, "%.*s%s", (int)(base - name), name, path);
    return path ? 1 : 0;
}

/* pattern matched, "\1" in path replaced. */
static int expand(const char *pattern, const char *path, const char *name, char *out, size_t size)
{
    regmatch_t at[10];
    regex_t regex;
    size_t n = 0;
    int fits;

    if (strcmp(pattern, name) == 0)
        return snprintf(out, size, "%s", path) >= 0;
    if (regcomp(&regex, pattern, REG_EXTENDED))
        return 0;
    fits = regexec(&regex, name, 10, at, 0) == 0 && at[0].rm_so == 0 && !name[at[0].rm_eo];
    for (; fits && *path && n + 1 < size; path++)
        if (*path == '\\' && path[1] >= '1' && path[1] <= '9') {
            const regmatch_t *m = &at[*++path - '0'];

            if (m->rm_so >= 0)
                n += (size_t)snprintf(out + n, size - n, "%.*s", (int)(m->rm_eo - m->rm_so),
                                      name + m->rm_so);
        } else {
            out[n++] = *path;
        }
    if (fits && n < size)
        out[n] = '\0';
    regfree(&regex);
    return fits;
}

int understand_map_check(const json_t *map, const struct safetensors *dump, const char *file,
                         struct error *err)
{
    const char *pattern;
    json_t *path;

    json_object_foreach ((json_t *)map, pattern, path) {
        regex_t regex;
        char why[160];
        const int code = dump && safetensors_find(dump, pattern)
                             ? 0
                             : regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB);

        if (code) {
            regerror(code, &regex, why, sizeof(why));
            return error_set(err, 400, "%s: \"%s\" is no regular expression: %s", file, pattern,
                             why);
        }
        if (!dump || !safetensors_find(dump, pattern))
            regfree(&regex);
    }
    return 0;
}

json_t *understand_map_unused(const json_t *map, const struct safetensors *dump)
{
    json_t *unused = json_array(), *path, *what, *left_out = side_left_out(dump->metadata);
    const char *pattern, *name;
    char out[2 * NAMES_SIZE];

    json_object_foreach ((json_t *)map, pattern, path) {
        int used = 0;

        for (int i = 0; !used && i < dump->count; i++)
            used = expand(pattern, "", dump->entries[i].name, out, sizeof(out));
        json_object_foreach (left_out, name, what) {
            (void)what;
            used |= expand(pattern, "", name, out, sizeof(out));
        }
        if (!used)
            json_array_append_new(unused, json_string(pattern));
    }
    json_decref(left_out);
    return unused;
}

static int given_path(const json_t *map, const char *name, char *out, size_t size)
{
    const char *pattern;
    json_t *path;

    json_object_foreach ((json_t *)map, pattern, path)
        if (json_is_string(path) && expand(pattern, json_string_value(path), name, out, size))
            return 1;
    return 0;
}

/* How the name was understood, or NULL; out: paths joined by "+". */
static const char *meaning(const struct understand_options *o, const char *name, char *out,
                           size_t size)
{
    if (given_path(o->map, name, out, size))
        return "given";
    if (strcmp(name, "tokens") == 0)
        return snprintf(out, size, "tokens") > 0 ? "exact" : NULL;
    if (known_path(o->known, name, out, size))
        return "exact";
    return names_guess(name, o->layers, out, size) ? "name" : NULL;
}

/* The n-th path of those joined by "+". */
static int path_at(const char *paths, int n, char *out, size_t size)
{
    while (n-- && (paths = strchr(paths, '+')) != NULL)
        paths++;
    if (!paths)
        return 0;
    snprintf(out, size, "%.*s", (int)strcspn(paths, "+"), paths);
    return 1;
}

/* Adds the paths that a name means to `names`.  Returns whether the daemon knows them all. */
static int add_names(const struct understand_options *o, const char *name, json_t *names,
                     json_t *seen)
{
    char paths[2 * NAMES_SIZE], path[NAMES_SIZE];
    int known = meaning(o, name, paths, sizeof(paths)) != NULL;

    for (int k = 0; known && path_at(paths, k, path, sizeof(path)); k++) {
        const char *base = side_base_name(path);

        known = strcmp(path, "tokens") == 0 || json_object_get(o->known, base);
        if (known && strcmp(path, "tokens") != 0 && !json_object_get(seen, base)) {
            json_object_set_new(seen, base, json_true());
            json_array_append_new(names, json_string(base));
        }
    }
    return known;
}

json_t *understand_names(const struct safetensors *dump, const struct understand_options *o,
                         json_t *unknown)
{
    json_t *names = json_array(), *seen = json_object(), *left_out = side_left_out(dump->metadata);
    json_t *unused;
    const char *name;

    for (int i = 0; i < dump->count; i++)
        if (!add_names(o, dump->entries[i].name, names, seen))
            json_array_append_new(unknown, json_string(dump->entries[i].name));
    json_object_foreach (left_out, name, unused) {
        (void)unused;
        add_names(o, name, names, seen);
    }
    json_decref(left_out);
    json_decref(seen);
    return names;
}

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

static int reference_of(const struct job *j, const char *path)
{
    const struct safetensors_entry *e = safetensors_find(j->reference, path);

    return e ? (int)(e - j->reference->entries) : -1;
}

static int add_piece(struct job *j, const char *name, const struct alignment *a, int reference,
                     struct error *err)
{
    struct piece *p = &j->pieces[j->count];

    *p = (struct piece){strdup(name), a->view, a->value, reference, a->first_row};
    if (!p->name)
        return error_set(err, 500, "out of memory");
    j->count++;
    if (reference < j->reference->count)
        j->claimed[reference] = 1;
    return 0;
}

static struct align_model model_of(const struct job *j, const char *path)
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

static int take(struct job *j, const struct safetensors_entry *e, const char *path, const char *how,
                const struct alignment *a, struct error *err)
{
    json_array_append_new(j->out->rows, row_of(e->name, path, how, a));
    j->out->renamed += strcmp(e->name, path) != 0;
    j->out->moved += *a->layout != '\0';
    return add_piece(j, path, a, reference_of(j, path), err);
}

/* ---- by name ---- */

/* [T, sum of columns]: the parts that matrices joined beside each other give.  1: taken. */
static int take_fused(struct job *j, const struct safetensors_entry *e, const char *paths,
                      const char *how, struct error *err)
{
    const struct tensor *t = &e->tensor;
    int64_t rows = 0, columns = 0, first = 0;
    struct tensor flat;
    char path[NAMES_SIZE];
    int at[PARTS], count = 0;

    for (; count < PARTS && path_at(paths, count, path, sizeof(path)); count++) {
        const struct tensor *r;

        at[count] = reference_of(j, path);
        if (at[count] < 0 || j->claimed[at[count]])
            return 0;
        r = &j->reference->entries[at[count]].tensor;
        rows = r->shape[0];
        columns += r->rank == 2 ? r->shape[1] : 0;
    }
    if (count < 2 || t->shape[t->rank - 1] != columns || tensor_count(t) != rows * columns)
        return 0;
    flat = tensor_make(t->dtype, 2, (const int64_t[]){rows, columns}, t->data);
    for (int k = 0; k < count; k++) {
        const struct safetensors_entry *r = &j->reference->entries[at[k]];
        struct alignment a = {.value = r->tensor, .layout = "cut out of a fused matrix"};

        a.view = tensor_slice(&flat, 1, first, r->tensor.shape[1]);
        a.distance = align_distance(&a.view, &r->tensor);
        first += r->tensor.shape[1];
        if (take(j, e, r->name, how, &a, err))
            return -1;
    }
    return 1;
}

/* Ids are taken as they are. */
static int take_tokens(struct job *j, const struct safetensors_entry *e, struct error *err)
{
    const struct alignment a = {.view = e->tensor, .value = e->tensor};
    const int at = reference_of(j, "tokens");

    json_array_append_new(j->out->rows, row_of(e->name, "tokens", "exact", &a));
    return add_piece(j, "tokens", &a, at < 0 ? 0 : at, err) ? -1 : 1;
}

/* 1: taken; 0: the name says nothing, or says what cannot be. */
static int take_named(struct job *j, const struct safetensors_entry *e, struct error *err)
{
    char paths[2 * NAMES_SIZE];
    const char *how = meaning(j->o, e->name, paths, sizeof(paths));
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
    if (at < 0 || j->claimed[at] ||
        align_find(&m, &e->tensor, &j->reference->entries[at].tensor, &a))
        return 0;
    return take(j, e, paths, how, &a, err) ? -1 : 1;
}

/* ---- by numbers ---- */

struct near {
    int at;
    struct alignment alignment;
};

/* The nearest of those that are free, in order. */
static int find_near(const struct job *j, const struct safetensors_entry *e, struct near *near)
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
static int misfit_of(const struct job *j, const struct safetensors_entry *e)
{
    char path[2 * NAMES_SIZE];
    int at;

    if (e->tensor.dtype == DTYPE_I64 || !meaning(j->o, e->name, path, sizeof(path)))
        return -1;
    at = reference_of(j, path);
    return at < 0 || j->claimed[at] || strcmp(path, "tokens") == 0 ? -1 : at;
}

/* Left as it is, under our name: a comparison says that the shapes differ. */
static int leave_misfit(struct job *j, const struct safetensors_entry *e, int at, struct error *err)
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

static int leave(struct job *j, const struct safetensors_entry *e, const struct near *near,
                 int count, struct error *err)
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

static int take_near(struct job *j, const struct safetensors_entry *e, struct error *err)
{
    struct near near[NEAREST];
    const int count = e->tensor.dtype == DTYPE_I64 ? 0 : find_near(j, e, near);
    const double d = count ? near[0].alignment.distance : INFINITY;

    if (d < NEAR && (count == 1 || near[1].alignment.distance > FARTHER * d))
        return take(j, e, j->reference->entries[near[0].at].name, "numbers", &near[0].alignment,
                    err);
    return leave(j, e, near, count, err);
}

/* ---- the file ---- */

static int by_reference(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;

    return x->reference != y->reference ? x->reference - y->reference : strcmp(x->name, y->name);
}

static void copy_out(const struct tensor *v, void *to)
{
    const size_t size = dtype_size(v->dtype);
    const int64_t piece = tensor_piece(v), count = tensor_count(v);

    for (int64_t n = 0; n < count; n += piece)
        memcpy((char *)to + (size_t)n * size,
               (const char *)v->data + (size_t)tensor_offset(v, n) * size, (size_t)piece * size);
}

static int fill(void *user, int i, void *to, struct error *err)
{
    const struct job *j = user;

    (void)err;
    copy_out(&j->pieces[i].view, to);
    return 0;
}

/* The reference's value i, from the first row on that its piece has. */
static struct tensor cut(const struct job *j, int i)
{
    struct tensor t = j->reference->entries[i].tensor;

    for (int k = 0; k < j->count; k++)
        if (j->pieces[k].reference == i && j->pieces[k].first_row)
            for (int axis = 0; axis < t.rank; axis++)
                if (t.shape[axis] != j->pieces[k].shape.shape[axis])
                    t = tensor_slice(&t, axis, j->pieces[k].first_row, 1);
    return t;
}

static int fill_cut(void *user, int i, void *to, struct error *err)
{
    const struct tensor t = cut(user, i);

    (void)err;
    copy_out(&t, to);
    return 0;
}

static int write_reference(struct job *j, struct error *err)
{
    const struct safetensors *r = j->reference;
    struct safetensors_spec *specs = calloc((size_t)r->count + 1, sizeof(*specs));
    int needed = 0;

    if (!specs)
        return error_set(err, 500, "out of memory");
    for (int k = 0; k < j->count; k++)
        needed |= j->pieces[k].first_row > 0;
    for (int i = 0; needed && i < r->count; i++) {
        const struct tensor t = cut(j, i);

        specs[i] = (struct safetensors_spec){r->entries[i].name, t.dtype, t.rank, {0}};
        memcpy(specs[i].shape, t.shape, sizeof(specs[i].shape));
    }
    if (needed)
        j->out->reference = dump_write(r->path, specs, r->count, r->metadata, fill_cut, j, err);
    free(specs);
    return needed && !j->out->reference ? -1 : 0;
}

/* The dump's metadata, what is left out in it under our names. */
static json_t *facts_of(const struct job *j)
{
    json_t *facts = json_copy(j->dump->metadata), *left_out = side_left_out(j->dump->metadata);
    json_t *renamed = json_object(), *what;
    char paths[2 * NAMES_SIZE], path[NAMES_SIZE], *text;
    const char *name;

    json_object_foreach (left_out, name, what) {
        if (!meaning(j->o, name, paths, sizeof(paths)) || strcmp(paths, name) == 0) {
            json_object_set(renamed, name, what);
            continue;
        }
        for (int k = 0; path_at(paths, k, path, sizeof(path)); k++)
            json_object_set_new(renamed, path,
                                json_sprintf("%s, named %s", json_string_value(what), name));
    }
    text = json_dumps(renamed, JSON_COMPACT);
    if (json_object_size(renamed) && text)
        json_object_set_new(facts, "left_out", json_string(text));
    free(text);
    json_decref(renamed);
    json_decref(left_out);
    return facts;
}

static int write_file(struct job *j, struct error *err)
{
    struct safetensors_spec *specs = calloc((size_t)j->count + 1, sizeof(*specs));
    json_t *facts;

    if (!specs)
        return error_set(err, 500, "out of memory");
    qsort(j->pieces, (size_t)j->count, sizeof(*j->pieces), by_reference);
    for (int i = 0; i < j->count; i++) {
        const struct piece *p = &j->pieces[i];

        specs[i] = (struct safetensors_spec){p->name, p->view.dtype, p->shape.rank, {0}};
        memcpy(specs[i].shape, p->shape.shape, sizeof(specs[i].shape));
    }
    facts = facts_of(j);
    j->out->file = dump_write(j->dump->path, specs, j->count, facts, fill, j, err);
    json_decref(facts);
    free(specs);
    return j->out->file ? 0 : -1;
}

/* A value that the dump has under another name too: told, and not needed again.  1: it is one. */
static int is_again(struct job *j, const struct safetensors_entry *e)
{
    const struct alignment none = {.distance = INFINITY, .layout = "which the dump has twice"};
    char path[2 * NAMES_SIZE];
    int at;

    if (!meaning(j->o, e->name, path, sizeof(path)))
        return 0;
    at = reference_of(j, path);
    if (at < 0 || !j->claimed[at])
        return 0;
    json_array_append_new(j->out->rows, row_of(e->name, path, "again", &none));
    return 1;
}

/* Names that are paths of ours go first, then what other names say, then what numbers say. */
enum { BY_PATH, BY_NAME, BY_NUMBERS, WAYS };

static int take_one(struct job *j, const struct safetensors_entry *e, int way, struct error *err)
{
    if (way == BY_PATH && reference_of(j, e->name) < 0)
        return 0;
    if (way != BY_NUMBERS)
        return e->tensor.rank ? take_named(j, e, err) : 0;
    return is_again(j, e) || take_near(j, e, err) == 0 ? 1 : -1;
}

static int take_all(struct job *j, struct error *err)
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
    struct job j = {.dump = dump, .reference = reference, .o = o, .out = out};
    int rc = -1;

    *out = (struct understood){.rows = json_array()};
    j.pieces = calloc((size_t)dump->count * PARTS + 1, sizeof(*j.pieces));
    j.claimed = calloc((size_t)reference->count + 1, 1);
    if (!j.pieces || !j.claimed || !out->rows)
        error_set(err, 500, "out of memory");
    else if (take_all(&j, err) == 0)
        rc = write_file(&j, err) || write_reference(&j, err) ? -1 : 0;
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

/* ---- telling ---- */

json_t *understood_map(const struct understood *u)
{
    json_t *map = json_object(), *row;
    size_t i;

    json_array_foreach (u->rows, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *value = json_string_value(json_object_get(row, "value"));
        const char *before = json_string_value(json_object_get(map, name));
        json_t *text = before && value ? json_sprintf("%s+%s", before, value) : NULL;

        if (value)
            json_object_set_new(map, name, text ? text : json_string(value));
    }
    return map;
}

/* "0.012"; "no number in common" where nothing is comparable.  Returns out. */
static const char *distance_text(const json_t *row, char *out, size_t size)
{
    const json_t *d = json_object_get(row, "distance");

    if (!json_is_number(d))
        return "no number in common";
    snprintf(out, size, "%.2g", json_number_value(d));
    return out;
}

static void print_nearest(const json_t *row, FILE *stream)
{
    json_t *near;
    char text[32];
    size_t k;

    json_array_foreach (json_object_get(row, "nearest"), k, near)
        fprintf(stream, "%s%s (%s)", k ? ", " : "; nearest ",
                json_string_value(json_object_get(near, "value")),
                distance_text(near, text, sizeof(text)));
    fputc('\n', stream);
}

void understood_print(const struct understood *u, FILE *stream)
{
    json_t *row;
    size_t i;

    json_array_foreach (u->rows, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *value = json_string_value(json_object_get(row, "value"));
        const char *layout = json_string_value(json_object_get(row, "layout"));
        const char *how = json_string_value(json_object_get(row, "how"));
        const char *misfit = json_string_value(json_object_get(row, "misfit"));

        if (misfit) {
            fprintf(stream, "note: %s: %s\n", name, misfit);
            continue;
        }
        if (!value) {
            fprintf(stream, "note: %s is none of the model's values", name);
            print_nearest(row, stream);
            continue;
        }
        if ((strcmp(name, value) == 0 && !*layout) || strcmp(how, "again") == 0)
            continue;
        fprintf(stream, "note: %s", name);
        if (strcmp(name, value) != 0)
            fprintf(stream, " is %s", value);
        if (strcmp(how, "numbers") == 0)
            fprintf(stream, ", by its numbers (distance %.2g)",
                    json_number_value(json_object_get(row, "distance")));
        fprintf(stream, *layout ? ": %s\n" : "%s\n", layout);
    }
}
