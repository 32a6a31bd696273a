/* understand_write.c - the dump under our names, and our values cut to the rows that it has, as files.
 * See understand_job.h. */
#include <stdlib.h>
#include <string.h>

#include "client/dump_write.h"
#include "kernels/base/json_memory.h"
#include "client/names.h"
#include "client/side.h"
#include "client/understand_job.h"

static int by_reference(const void *a, const void *b)
{
    const struct understand_piece *x = a, *y = b;

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
    const struct understand_job *j = user;

    (void)err;
    copy_out(&j->pieces[i].view, to);
    return 0;
}

/* The reference's value i, from the first row on that its piece has. */
static struct tensor cut(const struct understand_job *j, int i)
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

static int write_reference(struct understand_job *j, struct error *err)
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
static json_t *facts_of(const struct understand_job *j)
{
    json_t *facts = json_copy(j->dump->metadata), *left_out = side_left_out(j->dump->metadata);
    json_t *renamed = json_object(), *what;
    char paths[2 * NAMES_SIZE], path[NAMES_SIZE], *text;
    const char *name;

    json_object_foreach (left_out, name, what) {
        if (!understand_meaning(j->o, name, paths, sizeof(paths)) || strcmp(paths, name) == 0) {
            json_object_set(renamed, name, what);
            continue;
        }
        for (int k = 0; understand_path_at(paths, k, path, sizeof(path)); k++)
            json_object_set_new(renamed, path,
                                json_sprintf("%s, named %s", json_string_value(what), name));
    }
    text = json_memory_text(renamed, JSON_COMPACT);
    if (json_object_size(renamed) && text)
        json_object_set_new(facts, "left_out", json_string(text));
    free(text);
    json_decref(renamed);
    json_decref(left_out);
    return facts;
}

static int write_file(struct understand_job *j, struct error *err)
{
    struct safetensors_spec *specs = calloc((size_t)j->count + 1, sizeof(*specs));
    json_t *facts;

    if (!specs)
        return error_set(err, 500, "out of memory");
    qsort(j->pieces, (size_t)j->count, sizeof(*j->pieces), by_reference);
    for (int i = 0; i < j->count; i++) {
        const struct understand_piece *p = &j->pieces[i];

        specs[i] = (struct safetensors_spec){p->name, p->view.dtype, p->shape.rank, {0}};
        memcpy(specs[i].shape, p->shape.shape, sizeof(specs[i].shape));
    }
    facts = facts_of(j);
    j->out->file = dump_write(j->dump->path, specs, j->count, facts, fill, j, err);
    json_decref(facts);
    free(specs);
    return j->out->file ? 0 : -1;
}

int understand_write(struct understand_job *j, struct error *err)
{
    return write_file(j, err) || write_reference(j, err) ? -1 : 0;
}
