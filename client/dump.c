/* dump.c - see dump.h: whatever the file is becomes a list of arrays, and these are rewritten. */
#include "client/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include "client/dump_write.h"
#include "client/npy.h"

static const char METADATA[] = "__metadata__.json";

/* ---- arrays ---- */

struct array {
    char *name;
    struct npy npy;
    void *owned; /* what data points into, where it is its own */
};

struct arrays {
    struct array *at;
    int count, room;
    json_t *left_out, *metadata;
};

static void arrays_clear(struct arrays *a)
{
    for (int i = 0; i < a->count; i++) {
        free(a->at[i].name);
        free(a->at[i].owned);
    }
    free(a->at);
    json_decref(a->left_out);
    json_decref(a->metadata);
}

static int is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return 1;
    return 0;
}

static int is_tokens(const char *name)
{
    static const char *const names[] = {"tokens",       "input_ids",  "token_ids",     "ids",
                                        "input_tokens", "inp_tokens", "prompt_tokens", NULL};

    return is_one_of(name, names);
}

/* Returns whether an array can become a tensor; leading axes of one beyond the fourth are removed. */
static int usable(struct npy *a)
{
    while (a->rank > TENSOR_MAX_RANK && a->shape[0] == 1)
        memmove(a->shape, a->shape + 1, (size_t)--a->rank * sizeof(a->shape[0]));
    return a->rank <= TENSOR_MAX_RANK &&
           ((a->kind == 'f' && (a->size == 2 || a->size == 4 || a->size == 8)) ||
            ((a->kind == 'i' || a->kind == 'u') && a->size <= 8) ||
            (a->kind == 'V' && a->size == 2));
}

static int leave_out(struct arrays *all, const char *name, size_t length, const char *what,
                     struct error *err)
{
    char *key = strndup(name, length);
    const int rc = key ? json_object_set_new(all->left_out, key, json_string(what)) : -1;

    free(key);
    return rc ? error_set(err, 400, "the name of an array is not UTF-8") : 0;
}

/* Takes over owned, also after an error. */
static int add(struct arrays *all, const char *name, size_t length, struct npy npy, void *owned,
               struct error *err)
{
    struct array *more;
    char what[64];

    if (!usable(&npy)) {
        snprintf(what, sizeof(what), "%c%d of %d axes", npy.kind, npy.size, npy.rank);
        free(owned);
        return leave_out(all, name, length, what, err);
    }
    if (all->count == all->room) {
        all->room = all->room ? 2 * all->room : 64;
        more = realloc(all->at, (size_t)all->room * sizeof(*more));
        if (!more) {
            free(owned);
            return error_set(err, 500, "out of memory");
        }
        all->at = more;
    }
    all->at[all->count] = (struct array){strndup(name, length), npy, owned};
    return all->at[all->count++].name ? 0 : error_set(err, 500, "out of memory");
}

static size_t stem(const char *name)
{
    const size_t n = strlen(name);

    return n > 4 && strcmp(name + n - 4, ".npy") == 0 ? n - 4 : n;
}

/* ---- where they come from ---- */

static int add_safetensors(struct arrays *all, const struct safetensors *f, struct error *err)
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
            if (leave_out(all, e->name, strlen(e->name), e->dtype_text, err))
                return -1;
            continue;
        }
        while (at && *at && a.rank < NPY_MAX_RANK) {
            a.shape[a.rank++] = strtoll(at, (char **)&at, 10);
            at += *at == ',';
        }
        if (add(all, e->name, strlen(e->name), a, NULL, err))
            return -1;
    }
    return 0;
}

/* Takes over bytes. */
static int add_npy(struct arrays *all, const char *name, void *bytes, size_t size,
                   struct error *err)
{
    struct npy a;

    if (npy_read(name, bytes, size, &a, err)) {
        free(bytes);
        return -1;
    }
    return add(all, name, stem(name), a, bytes, err);
}

/* What dump_write_npz wrote.  Takes over bytes. */
static int add_metadata(struct arrays *all, char *bytes, size_t size)
{
    json_decref(all->metadata);
    all->metadata = json_loadb(bytes, size, 0, NULL);
    free(bytes);
    return 0;
}

static int add_member(struct arrays *all, zip_t *z, zip_uint64_t i, struct error *err)
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
        rc = strcmp(stat.name, METADATA) == 0 ? add_metadata(all, bytes, stat.size)
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

static int add_npz(struct arrays *all, const char *path, struct error *err)
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

static int add_file(struct arrays *all, const char *path, const char *name, struct error *err)
{
    size_t size;
    void *bytes = read_file(path, &size, err);

    return bytes ? add_npy(all, name, bytes, size, err) : -1;
}

/* nftw() hands on nothing of its caller's. */
static _Thread_local struct {
    struct arrays *all;
    struct error *err;
    size_t root;
} walk;

static int visit(const char *path, const struct stat *s, int kind, struct FTW *ftw)
{
    (void)s;
    (void)ftw;
    if (kind != FTW_F || path[stem(path)] == '\0')
        return 0;
    return add_file(walk.all, path, path + walk.root, walk.err);
}

static int add_folder(struct arrays *all, const char *path, struct error *err)
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

/* ---- rewriting ---- */

struct rewrite {
    const struct arrays *all;
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

static enum dtype target(const struct array *a)
{
    if (a->npy.kind == 'f')
        return a->npy.size == 2 ? DTYPE_F16 : a->npy.size == 4 ? DTYPE_F32 : DTYPE_F64;
    if (a->npy.kind == 'V' || (a->npy.kind == 'u' && a->npy.size == 2 && !is_tokens(a->name)))
        return DTYPE_BF16;
    return DTYPE_I64;
}

static void describe(const struct array *a, struct safetensors_spec *spec)
{
    const struct npy *n = &a->npy;
    const int ids = is_tokens(a->name);
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
static int settle_tokens(const char *path, struct arrays *all, struct error *err)
{
    const struct array *first = NULL;

    for (int i = 0; i < all->count; i++) {
        struct array *a = &all->at[i];

        if (!is_tokens(a->name))
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

static struct safetensors *rewrite(const char *path, const struct arrays *all,
                                   const json_t *metadata, struct error *err)
{
    struct rewrite r = {all, calloc((size_t)all->count + 1, sizeof(*r.specs))};
    json_t *facts = json_is_object(metadata) ? json_deep_copy(metadata) : json_object();
    struct safetensors *file = NULL;
    char *text = json_dumps(all->left_out, JSON_COMPACT);

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
        const int ids = is_tokens(e->name);

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
    struct arrays all = {.left_out = json_object()};

    if (!plain || is_plain(plain)) {
        arrays_clear(&all);
        return plain;
    }
    if (add_safetensors(&all, plain, err) == 0 && settle_tokens(path, &all, err) == 0)
        file = rewrite(path, &all, plain->metadata, err);
    arrays_clear(&all);
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
    struct arrays all = {0};
    struct safetensors *file = NULL;
    const char *slash = strrchr(path, '/');
    int rc;

    if (form == FORM_SAFETENSORS)
        return open_safetensors(path, err);
    all.left_out = json_object();
    rc = form == FORM_NPY   ? add_file(&all, path, slash ? slash + 1 : path, err)
         : form == FORM_NPZ ? add_npz(&all, path, err)
                            : add_folder(&all, path, err);
    if (rc == 0 && settle_tokens(path, &all, err) == 0)
        file = rewrite(path, &all, all.metadata, err);
    else if (rc)
        error_prefix(err, "%s: ", path);
    arrays_clear(&all);
    return file;
}

/* ---- a batch ---- */

int64_t dump_rows(const struct safetensors *dump)
{
    const struct safetensors_entry *e = safetensors_find(dump, "tokens");

    return e && e->supported && e->tensor.rank == 2 ? e->tensor.shape[0] : 1;
}

struct row {
    const struct safetensors_entry **entry;
    int64_t row;
};

static int fill_row(void *user, int i, void *to, struct error *err)
{
    const struct row *r = user;
    const struct tensor part = tensor_slice(&r->entry[i]->tensor, 0, r->row, 1);

    (void)err;
    memcpy(to, part.data, tensor_bytes(&part));
    return 0;
}

struct safetensors *dump_row(const struct safetensors *dump, int64_t row, struct error *err)
{
    const int64_t rows = dump_rows(dump);
    struct row r = {calloc((size_t)dump->count + 1, sizeof(*r.entry)), row};
    struct safetensors_spec *specs = calloc((size_t)dump->count + 1, sizeof(*specs));
    struct safetensors *file = NULL;
    int count = 0;

    for (int i = 0; r.entry && specs && i < dump->count; i++) {
        const struct safetensors_entry *e = &dump->entries[i];

        if (!e->supported || e->tensor.rank < 2 || e->tensor.shape[0] != rows)
            continue;
        r.entry[count] = e;
        specs[count] = (struct safetensors_spec){e->name, e->tensor.dtype, e->tensor.rank - 1, {0}};
        memcpy(specs[count].shape, e->tensor.shape + 1, sizeof(int64_t) * (TENSOR_MAX_RANK - 1));
        count++;
    }
    if (r.entry && specs)
        file = dump_write(dump->path, specs, count, dump->metadata, fill_row, &r, err);
    else
        error_set(err, 500, "out of memory");
    free(r.entry);
    free(specs);
    return file;
}

/* ---- writing ---- */

static int put_member(zip_t *z, const char *name, zip_source_t *source, struct error *err)
{
    zip_int64_t i = source ? zip_file_add(z, name, source, ZIP_FL_ENC_UTF_8) : -1;

    if (i >= 0 && zip_set_file_compression(z, (zip_uint64_t)i, ZIP_CM_STORE, 0) == 0)
        return 0;
    if (i < 0 && source)
        zip_source_free(source);
    return error_set(err, 500, "%s: %s", name, zip_strerror(z));
}

/* The data go out from where they are mapped; header lives until the archive is closed. */
static int put_array(zip_t *z, const struct safetensors_entry *e, struct buffer *header,
                     struct error *err)
{
    struct buffer name = {0};
    zip_buffer_fragment_t parts[2];
    int rc;

    npy_header(header, &e->tensor);
    buffer_format(&name, "%s.npy", e->name);
    parts[0] = (zip_buffer_fragment_t){(zip_uint8_t *)header->data, header->size};
    parts[1] = (zip_buffer_fragment_t){e->tensor.data, tensor_bytes(&e->tensor)};
    rc = header->failed || name.failed
             ? error_set(err, 500, "out of memory")
             : put_member(z, name.data, zip_source_buffer_fragment(z, parts, 2, 0), err);
    buffer_clear(&name);
    return rc;
}

static int put_all(zip_t *z, const struct safetensors *file, struct buffer *headers,
                   const char *facts, struct error *err)
{
    for (int i = 0; i < file->count; i++)
        if (put_array(z, &file->entries[i], &headers[i], err))
            return -1;
    return facts ? put_member(z, METADATA, zip_source_buffer(z, facts, strlen(facts), 0), err) : 0;
}

int dump_write_npz(const struct safetensors *file, const char *path, struct error *err)
{
    int code, rc = -1;
    zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    struct buffer *headers = calloc((size_t)file->count + 1, sizeof(*headers));
    char *facts = file->metadata ? json_dumps(file->metadata, JSON_COMPACT) : NULL;

    if (!z)
        error_set(err, 500, "cannot write %s (libzip's error %d)", path, code);
    else if (!headers)
        error_set(err, 500, "out of memory");
    else
        rc = put_all(z, file, headers, facts, err);
    if (rc == 0 && zip_close(z))
        rc = error_set(err, 500, "cannot write %s: %s", path, zip_strerror(z));
    if (rc && z)
        zip_discard(z);
    for (int i = 0; headers && i < file->count; i++)
        buffer_clear(&headers[i]);
    free(headers);
    free(facts);
    return rc;
}
