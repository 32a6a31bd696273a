/* dump_sources.c - the kinds of file that a dump may be, each as a list of arrays.  See dump_arrays.h. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zip.h>

#include "client/dump_arrays.h"
#include "kernels/base/json_memory.h"

static size_t stem(const char *name)
{
    const size_t n = strlen(name);

    return n > 4 && strcmp(name + n - 4, ".npy") == 0 ? n - 4 : n;
}

int dump_arrays_from_safetensors(struct dump_arrays *all, const struct safetensors *f,
                                 struct error *err)
{
    static const struct {
        const char *name;
        char kind;
        int size;
    } kinds[] = {{"BF16", 'V', 2}, {"F16", 'f', 2}, {"F32", 'f', 4}, {"F64", 'f', 8},
                 {"I8", 'i', 1},   {"U8", 'u', 1},  {"I16", 'i', 2}, {"U16", 'u', 2},
                 {"I32", 'i', 4},  {"U32", 'u', 4}, {"I64", 'i', 8}, {"U64", 'u', 8}};

    for (int i = 0; i < f->count; i++) {
        const struct safetensors_entry *e = &f->entries[i];
        struct npy a = {.kind = '?', .data = f->data + e->begin};
        const char *at = e->shape_text;

        for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
            if (strcmp(kinds[k].name, e->dtype_text) == 0) {
                a.kind = kinds[k].kind;
                a.size = kinds[k].size;
            }
        if (a.kind == '?') {
            if (dump_arrays_leave_out(all, e->name, strlen(e->name), e->dtype_text, err))
                return -1;
            continue;
        }
        while (at && *at && a.rank < NPY_MAX_RANK) {
            a.shape[a.rank++] = strtoll(at, (char **)&at, 10);
            at += *at == ',';
        }
        if (dump_arrays_add(all, e->name, strlen(e->name), a, NULL, err))
            return -1;
    }
    return 0;
}

/* Takes over bytes. */
static int add_npy(struct dump_arrays *all, const char *name, void *bytes, size_t size,
                   struct error *err)
{
    struct npy a;

    if (npy_read(name, bytes, size, &a, err)) {
        free(bytes);
        return -1;
    }
    return dump_arrays_add(all, name, stem(name), a, bytes, err);
}

/* What dump_write_npz wrote.  Takes over bytes. */
static int add_metadata(struct dump_arrays *all, char *bytes, size_t size)
{
    json_decref(all->metadata);
    all->metadata = json_memory_read(bytes, size, 0, NULL);
    free(bytes);
    return 0;
}

static int add_member(struct dump_arrays *all, zip_t *z, zip_uint64_t i, struct error *err)
{
    zip_stat_t stat;
    zip_file_t *f = NULL;
    char *bytes = NULL;
    int rc = -1;

    if (zip_stat_index(z, i, 0, &stat) == 0)
        f = zip_fopen_index(z, i, 0);
    if (f)
        bytes = malloc(stat.size + 1);
    if (bytes && zip_fread(f, bytes, stat.size) == (zip_int64_t)stat.size) {
        rc = strcmp(stat.name, DUMP_METADATA) == 0 ? add_metadata(all, bytes, stat.size)
                                                   : add_npy(all, stat.name, bytes, stat.size, err);
    } else {
        free(bytes);
        error_set(err, 400, "its member %llu cannot be read: %s", (unsigned long long)i,
                  zip_strerror(z));
    }
    if (f)
        zip_fclose(f);
    return rc;
}

int dump_arrays_from_npz(struct dump_arrays *all, const char *path, struct error *err)
{
    int code, rc = 0;
    zip_t *z = zip_open(path, ZIP_RDONLY, &code);
    zip_error_t why;

    if (!z) {
        zip_error_init_with_code(&why, code);
        error_set(err, 400, "cannot be read as .npz: %s", zip_error_strerror(&why));
        zip_error_fini(&why);
        return -1;
    }
    for (zip_int64_t i = 0; rc == 0 && i < zip_get_num_entries(z, 0); i++) {
        const char *name = zip_get_name(z, (zip_uint64_t)i, 0);
        const size_t n = name ? strlen(name) : 0;

        if (n > 8 && strcmp(name + n - 8, "data.pkl") == 0)
            rc = error_set(err, 400,
                           "written by torch.save; make it a safetensors file: python -m samebit "
                           "convert %.200s out.safetensors",
                           path);
        else if (n && name[n - 1] != '/')
            rc = add_member(all, z, (zip_uint64_t)i, err);
    }
    if (rc == 0 && all->count == 0 && json_object_size(all->left_out) == 0)
        rc = error_set(err, 400, "holds no array");
    zip_discard(z);
    return rc;
}

static void *read_file(const char *path, size_t *size, struct error *err)
{
    FILE *f = fopen(path, "rb");
    struct stat s;
    char *bytes = NULL;

    if (f && fstat(fileno(f), &s) == 0)
        bytes = malloc((size_t)s.st_size + 1);
    *size = bytes ? fread(bytes, 1, (size_t)s.st_size, f) : 0;
    if (!bytes || *size != (size_t)s.st_size) {
        error_set(err, 400, "cannot be read: %s", strerror(errno));
        free(bytes);
        bytes = NULL;
    }
    if (f)
        fclose(f);
    return bytes;
}

int dump_arrays_from_npy(struct dump_arrays *all, const char *path, const char *name,
                         struct error *err)
{
    size_t size;
    void *bytes = read_file(path, &size, err);

    return bytes ? add_npy(all, name, bytes, size, err) : -1;
}

/* nftw() hands on nothing of its caller's. */
static _Thread_local struct {
    struct dump_arrays *all;
    struct error *err;
    size_t root;
} walk;

static int visit(const char *path, const struct stat *s, int kind, struct FTW *ftw)
{
    (void)s;
    (void)ftw;
    if (kind != FTW_F || path[stem(path)] == '\0')
        return 0;
    return dump_arrays_from_npy(walk.all, path, path + walk.root, walk.err);
}

int dump_arrays_from_folder(struct dump_arrays *all, const char *path, struct error *err)
{
    char *root = strdup(path);
    size_t n = root ? strlen(root) : 0;

    while (n > 1 && root[n - 1] == '/')
        root[--n] = '\0';
    walk.all = all;
    walk.err = err;
    walk.root = n + 1;
    if (!root || nftw(root, visit, 16, 0) || all->count == 0)
        error_set(err, 400, "holds no .npy file");
    free(root);
    return err->code ? -1 : 0;
}
