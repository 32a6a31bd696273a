/* dump.c - see dump.h: whatever the file is becomes a list of arrays, and these are rewritten. */
#include "client/dump.h"
#include "kernels/base/json_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/dump_arrays.h"
#include "client/dump_write.h"

/* ---- rewriting ---- */

struct rewrite {
    const struct dump_arrays *all;
    struct safetensors_spec *specs;
};

static int64_t integer_at(const struct npy *a, const unsigned char *p)
{
    uint64_t v = 0;

    for (int k = 0; k < a->size; k++)
        v |= (uint64_t)p[a->swapped ? a->size - 1 - k : k] << 8 * k;
    if (a->kind == 'i' && a->size < 8 && v >> (8 * a->size - 1))
        v |= ~(uint64_t)0 << 8 * a->size;
    return (int64_t)v;
}

static void put_element(const struct npy *a, const unsigned char *from, enum dtype dtype, char *to)
{
    if (dtype == DTYPE_I64) {
        const int64_t v = integer_at(a, from);

        memcpy(to, &v, sizeof(v));
        return;
    }
    for (int k = 0; k < a->size; k++)
        to[k] = (char)from[a->swapped ? a->size - 1 - k : k];
}

/* Elements in row-major order; in Fortran order the first axis is the innermost. */
static int fill(void *user, int i, void *to, struct error *err)
{
    const struct rewrite *r = user;
    const struct npy *a = &r->all->at[i].npy;
    const enum dtype dtype = r->specs[i].dtype;
    struct tensor source = {.rank = a->rank};
    int64_t count = 1, stride = 1;

    (void)err;
    for (int k = 0; k < a->rank; k++)
        if (a->shape[k] == 0)
            return 0;
    for (int k = 0; k < a->rank; k++) {
        const int axis = a->fortran ? k : a->rank - 1 - k;

        source.shape[axis] = a->shape[axis];
        source.stride[axis] = stride;
        stride *= a->shape[axis];
    }
    count = stride;
    for (int64_t n = 0; n < count; n++)
        put_element(a, a->data + tensor_offset(&source, n) * a->size, dtype,
                    (char *)to + (size_t)n * dtype_size(dtype));
    return 0;
}

static enum dtype target(const struct dump_array *a)
{
    if (a->npy.kind == 'f')
        return a->npy.size == 2 ? DTYPE_F16 : a->npy.size == 4 ? DTYPE_F32 : DTYPE_F64;
    if (a->npy.kind == 'V' || (a->npy.kind == 'u' && a->npy.size == 2 && !dump_is_tokens(a->name)))
        return DTYPE_BF16;
    return DTYPE_I64;
}

static void describe(const struct dump_array *a, struct safetensors_spec *spec)
{
    const struct npy *n = &a->npy;
    const int ids = dump_is_tokens(a->name);
    const int skip = ids && n->rank == 2 && n->shape[0] == 1;

    *spec = (struct safetensors_spec){ids ? "tokens" : a->name, target(a), n->rank - skip, {0}};
    for (int k = 0; k < spec->rank; k++)
        spec->shape[k] = n->shape[k + skip];
}

static int same_ids(const struct npy *a, const struct npy *b)
{
    int64_t count[2] = {1, 1};
    const struct npy *of[2] = {a, b};

    for (int i = 0; i < 2; i++) {
        if ((of[i]->kind != 'i' && of[i]->kind != 'u') || (of[i]->fortran && of[i]->rank > 1))
            return 0;
        for (int k = 0; k < of[i]->rank; k++)
            count[i] *= of[i]->shape[k];
    }
    for (int64_t n = 0; count[0] == count[1] && n < count[0]; n++)
        if (integer_at(a, a->data + n * a->size) != integer_at(b, b->data + n * b->size))
            return 0;
    return count[0] == count[1];
}

/* Keeps the token ids once, where the file has them under several names. */
static int settle_tokens(const char *path, struct dump_arrays *all, struct error *err)
{
    const struct dump_array *first = NULL;

    for (int i = 0; i < all->count; i++) {
        struct dump_array *a = &all->at[i];

        if (!dump_is_tokens(a->name))
            continue;
        if (!first) {
            first = a;
            continue;
        }
        if (!same_ids(&first->npy, &a->npy))
            return error_set(err, 400, "%s: `%s` and `%s` are not the same token ids", path,
                             first->name, a->name);
        free(a->name);
        free(a->owned);
        memmove(a, a + 1, (size_t)(--all->count - i) * sizeof(*a));
        i--;
    }
    return 0;
}

static struct safetensors *rewrite(const char *path, const struct dump_arrays *all,
                                   const json_t *metadata, struct error *err)
{
    struct rewrite r = {all, calloc((size_t)all->count + 1, sizeof(*r.specs))};
    json_t *facts = json_is_object(metadata) ? json_deep_copy(metadata) : json_object();
    struct safetensors *file = NULL;
    char *text = json_memory_text(all->left_out, JSON_COMPACT);

    if (!r.specs || !facts || !text) {
        error_set(err, 500, "out of memory");
        goto out;
    }
    if (json_object_size(all->left_out))
        json_object_set_new(facts, "left_out", json_string(text));
    for (int i = 0; i < all->count; i++)
        describe(&all->at[i], &r.specs[i]);
    file = dump_write(path, r.specs, all->count, facts, fill, &r, err);
out:
    free(text);
    free(r.specs);
    json_decref(facts);
    return file;
}

/* ---- opening ---- */

/* Returns whether a safetensors file needs no rewriting. */
static int is_plain(const struct safetensors *f)
{
    for (int i = 0; i < f->count; i++) {
        const struct safetensors_entry *e = &f->entries[i];
        const int ids = dump_is_tokens(e->name);

        if (!e->supported || e->tensor.rank > TENSOR_MAX_RANK)
            return 0;
        if (ids && (strcmp(e->name, "tokens") != 0 || e->tensor.dtype != DTYPE_I64 ||
                    (e->tensor.rank == 2 && e->tensor.shape[0] == 1)))
            return 0;
    }
    return 1;
}

static struct safetensors *open_safetensors(const char *path, struct error *err)
{
    struct safetensors *plain = safetensors_open(path, err), *file = NULL;
    struct dump_arrays all = {.left_out = json_object()};

    if (!plain || is_plain(plain)) {
        dump_arrays_clear(&all);
        return plain;
    }
    if (dump_arrays_from_safetensors(&all, plain, err) == 0 && settle_tokens(path, &all, err) == 0)
        file = rewrite(path, &all, plain->metadata, err);
    dump_arrays_clear(&all);
    safetensors_close(plain);
    return file;
}

enum form { FORM_SAFETENSORS, FORM_NPY, FORM_NPZ, FORM_FOLDER };

/* One without members begins with its end. */
static int is_zip(const unsigned char *head, size_t n)
{
    return n >= 4 && (memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0);
}

static int ends_in_npz(const char *path)
{
    const size_t n = strlen(path);

    return n > 4 && strcmp(path + n - 4, ".npz") == 0;
}

static enum form form_of(const char *path)
{
    unsigned char head[8] = {0};
    struct stat s;
    FILE *f;
    size_t n;

    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode))
        return FORM_FOLDER;
    f = fopen(path, "rb");
    n = f ? fread(head, 1, sizeof(head), f) : 0;
    if (f)
        fclose(f);
    if (npy_is(head, n))
        return FORM_NPY;
    return is_zip(head, n) || ends_in_npz(path) ? FORM_NPZ : FORM_SAFETENSORS;
}

struct safetensors *dump_open(const char *path, struct error *err)
{
    const enum form form = form_of(path);
    struct dump_arrays all = {0};
    struct safetensors *file = NULL;
    const char *slash = strrchr(path, '/');
    int rc;

    if (form == FORM_SAFETENSORS)
        return open_safetensors(path, err);
    all.left_out = json_object();
    rc = form == FORM_NPY   ? dump_arrays_from_npy(&all, path, slash ? slash + 1 : path, err)
         : form == FORM_NPZ ? dump_arrays_from_npz(&all, path, err)
                            : dump_arrays_from_folder(&all, path, err);
    if (rc == 0 && settle_tokens(path, &all, err) == 0)
        file = rewrite(path, &all, all.metadata, err);
    else if (rc)
        error_prefix(err, "%s: ", path);
    dump_arrays_clear(&all);
    return file;
}
