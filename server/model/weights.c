/* weights.c - see weights.h.
 *
 * The checkpoint's files stay mapped; `slots` lists their tensors in name order.  Where a tensor must
 * be converted to bf16 or is not aligned, its first use makes a copy, under the lock, which lives
 * until weights_release or weights_close. */
#include "server/model/weights.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/bf16.h"
#include "kernels/base/float16.h"
#include "kernels/base/json_file.h"
#include "kernels/base/safetensors.h"

struct slot {
    const struct safetensors *file;
    const struct safetensors_entry *entry;
    struct tensor tensor; /* bf16, contiguous and aligned, once `ready` */
    int ready, used;      /* used: weights_find gave it */
    void *copy;           /* tensor.data, if it is not the file's own bytes; else NULL */
};

struct weights {
    char *folder;
    struct safetensors **files;
    int file_count;
    struct slot *slots; /* in name order */
    int count;
    atomic_int changed; /* 1 + the number of a file that was written to */
    pthread_mutex_t lock;
    int has_lock;
};

/* ---- finding the files ---- */

static int add_file(struct weights *w, const char *name, struct error *err)
{
    struct safetensors **files = realloc(w->files, (size_t)(w->file_count + 1) * sizeof(*files));
    struct safetensors *file = NULL;
    char *path = NULL;

    if (files)
        w->files = files;
    if (!files || asprintf(&path, "%s/%s", w->folder, name) < 0)
        return error_set(err, 500, "%s: no memory", w->folder);
    file = safetensors_open(path, err);
    free(path);
    if (!file)
        return -1;
    w->files[w->file_count++] = file;
    return 0;
}

static int is_file_name(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/') && strlen(name) < 256;
}

static const char *file_name(const struct safetensors *file)
{
    return strrchr(file->path, '/') + 1;
}

/* Opens the file of that name when it is not yet. */
static int open_shard(struct weights *w, const char *name, struct error *err)
{
    for (int i = 0; i < w->file_count; i++)
        if (strcmp(file_name(w->files[i]), name) == 0)
            return 0;
    return add_file(w, name, err);
}

/* Opens every file that the map names.  Which tensors are in which is read from the files: maps also
 * name buffers that nobody saved, and wrong files, and transformers does not mind. */
static int read_weight_map(struct weights *w, const char *index, json_t *map, struct error *err)
{
    const char *tensor, *last = "";
    json_t *value;

    if (json_object_size(map) == 0)
        return error_set(err, 400, "%s/%s: weight_map: missing, empty or not an object", w->folder,
                         index);
    json_object_foreach (map, tensor, value) {
        const char *name = json_string_value(value);

        if (!name || !is_file_name(name))
            return error_set(err, 400, "%s/%s: weight_map: %.120s: '%.80s' is not a file name",
                             w->folder, index, tensor, name ? name : "?");
        /* neighbours are mostly of one shard */
        if (strcmp(name, last) != 0 && open_shard(w, name, err))
            return error_prefix(err, "%s: weight_map: %.120s: ", index, tensor);
        last = name;
    }
    return 0;
}

static int is_file(const char *folder, const char *name)
{
    char *path = NULL;
    struct stat st;
    int found;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return 0;
    found = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    free(path);
    return found;
}

static int is_weights(const struct dirent *entry)
{
    static const char *const endings[] = {".safetensors", ".gguf", ".h5", ".msgpack",
                                          ".pth",         ".pt",   ".bin"};
    const char *ending = strrchr(entry->d_name, '.');

    for (size_t i = 0; ending && i < sizeof(endings) / sizeof(endings[0]); i++)
        if (strcmp(ending, endings[i]) == 0)
            return 1;
    return 0;
}

/* Names a file with weights that has neither name. */
static int say_other_file(const struct weights *w, const char *single, const char *index,
                          struct error *err)
{
    struct dirent **found = NULL;
    const int count = scandir(w->folder, &found, is_weights, alphasort);

    error_set(err, 400, "%s: neither %s nor %s is a file there%s%.80s%s", w->folder, single, index,
              count > 0 ? "; what is there, " : "", count > 0 ? found[0]->d_name : "",
              count > 0 ? ", has not the name or the format that transformers reads" : "");
    for (int i = 0; i < count; i++)
        free(found[i]);
    free(found);
    return -1;
}

/* No safetensors: says what is there instead and what to do with it. */
static int say_absent(const struct weights *w, const char *single, const char *index,
                      struct error *err)
{
    static const struct {
        const char *name, *advice;
    } others[] = {
        {"pytorch_model.bin", "a pickle"},
        {"pytorch_model.bin.index.json", "shards that are pickles"},
    };

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (is_file(w->folder, others[i].name))
            return error_set(
                err, 400,
                "%s: %s is %s, which can run code when it is read, and there is no %s. "
                "To convert: python3 -c \"from transformers import AutoModelForCausalLM "
                "as M; M.from_pretrained('.', dtype='auto').save_pretrained('.')\" in "
                "that folder",
                w->folder, others[i].name, others[i].advice, single);
    if (is_file(w->folder, "adapter_model.safetensors"))
        return error_set(err, 400,
                         "%s: an adapter (LoRA) without its model: merge_and_unload() of peft and "
                         "save_pretrained() make a model of both",
                         w->folder);
    return say_other_file(w, single, index, err);
}

/* A single file wins over an index, as in transformers. */
static int open_files(struct weights *w, struct error *err)
{
    static const char *const single = "model.safetensors";
    static const char *const index = "model.safetensors.index.json";
    json_t *root;
    int rc;

    if (is_file(w->folder, single))
        return add_file(w, single, err);
    if (!is_file(w->folder, index))
        return say_absent(w, single, index, err);
    root = json_file_read(w->folder, index, 0, err);
    if (!root)
        return -1;
    rc = read_weight_map(w, index, json_object_get(root, "weight_map"), err);
    json_decref(root);
    return rc;
}

/* ---- names ---- */

static int by_name(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;

    return strcmp(x->entry->name, y->entry->name);
}

/* Of one name, the file that comes last in the order of names is last. */
static int by_name_and_file(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;
    const int order = by_name(a, b);

    return order ? order : strcmp(x->file->path, y->file->path);
}

/* A tensor that is in several files: transformers keeps the last one that it reads. */
static void drop_doubles(struct weights *w)
{
    int kept = 0;

    for (int i = 0; i < w->count; i++) {
        if (kept && by_name(&w->slots[kept - 1], &w->slots[i]) == 0)
            kept--;
        w->slots[kept++] = w->slots[i];
    }
    w->count = kept;
}

static int list_tensors(struct weights *w, struct error *err)
{
    int count = 0;

    for (int i = 0; i < w->file_count; i++)
        count += w->files[i]->count;
    w->slots = calloc((size_t)count + 1, sizeof(*w->slots));
    if (!w->slots)
        return error_set(err, 500, "%s: no memory", w->folder);
    for (int i = 0; i < w->file_count; i++)
        for (int k = 0; k < w->files[i]->count; k++) {
            w->slots[w->count].file = w->files[i];
            w->slots[w->count++].entry = &w->files[i]->entries[k];
        }
    qsort(w->slots, (size_t)w->count, sizeof(*w->slots), by_name_and_file);
    drop_doubles(w);
    return 0;
}

struct weights *weights_open(const char *folder, struct error *err)
{
    struct weights *w = calloc(1, sizeof(*w));
    struct error own = {0};

    if (!err)
        err = &own;
    if (!w || !(w->folder = strdup(folder)) || pthread_mutex_init(&w->lock, NULL)) {
        error_set(err, 500, "%s: no memory", folder);
        goto fail;
    }
    w->has_lock = 1;
    if (open_files(w, err) || list_tensors(w, err))
        goto fail;
    return w;
fail:
    weights_close(w);
    return NULL;
}

void weights_close(struct weights *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->count; i++)
        free(w->slots[i].copy);
    for (int i = 0; i < w->file_count; i++)
        safetensors_close(w->files[i]);
    if (w->has_lock)
        pthread_mutex_destroy(&w->lock);
    free(w->slots);
    free(w->files);
    free(w->folder);
    free(w);
}

/* ---- pages ---- */

/* Asks the kernel to start reading a mapped range that is needed soon. */
static void ask_for_pages(const void *data, uint64_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)data / page * page;

    if (size)
        madvise((void *)first, (uintptr_t)data + (uintptr_t)size - first, MADV_WILLNEED);
}

/* Gives back the pages that lie wholly within a mapped range. */
static void drop_pages(const void *data, uint64_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t last = ((uintptr_t)data + (uintptr_t)size) / page * page;

    if (last > first)
        madvise((void *)first, last - first, MADV_DONTNEED);
}

/* ---- bf16 ---- */

/* Tensor.to(bfloat16) as from_pretrained calls it.  The two conversions round alike but for NaN:
 * that of f32, which is vectorized, makes 0xffff of it, that of f16 makes 0x7fc0, that of f64 one or the other: vectors of
 * 16, and what is left.  (In a tensor that PyTorch shares out between threads each has its own rest;
 * that is not followed.) */
static bf16 f64_nan(int64_t i, int64_t count)
{
    return i < count / 16 * 16 ? 0xffff : 0x7fc0;
}

static void convert(bf16 *to, const unsigned char *from, int64_t count, enum dtype dtype)
{
    for (int64_t i = 0; i < count; i++) {
        if (dtype == DTYPE_F64) {
            double d;

            /* to f32 first, then to bf16: two roundings */
            memcpy(&d, from + 8 * i, sizeof(d));
            to[i] = d != d ? f64_nan(i, count) : bf16_from_f32((float)d);
        } else if (dtype == DTYPE_F32) {
            float f;

            memcpy(&f, from + 4 * i, sizeof(f));
            to[i] = f != f ? 0xffff : bf16_from_f32(f);
        } else {
            uint16_t half;

            memcpy(&half, from + 2 * i, sizeof(half));
            to[i] = bf16_from_f32(f32_from_f16(half));
        }
    }
}

enum { PIECE = 1 << 24 }; /* bytes that are read before their pages are dropped */

static void convert_all(bf16 *to, const unsigned char *from, int64_t count, enum dtype dtype)
{
    const int64_t size = (int64_t)dtype_size(dtype), most = PIECE / size;

    for (int64_t first = 0; first < count; first += most) {
        const int64_t piece = count - first < most ? count - first : most;

        convert(to + first, from + first * size, piece, dtype);
        drop_pages(from + first * size, (uint64_t)(piece * size));
    }
}

static int say_unfit(const struct slot *s, struct error *err)
{
    const struct safetensors_entry *e = s->entry;
    enum dtype dtype;

    if (dtype_parse(e->dtype_text, &dtype) == 0 && dtype != DTYPE_I64)
        return error_set(err, 400, "%s: tensor '%.200s' has the shape [%.60s]: at most %d axes",
                         s->file->path, e->name, e->shape_text, TENSOR_MAX_RANK);
    return error_set(err, 400,
                     "%s: tensor '%.200s' is of dtype %s: quantized and integer weights are not "
                     "supported (BF16, F16, F32 and F64 are)",
                     s->file->path, e->name, e->dtype_text);
}

/* Makes the slot's bf16 tensor, if that has not been done.  The caller holds the lock. */
static int prepare(struct slot *s, struct error *err)
{
    const struct safetensors_entry *e = s->entry;
    const struct tensor *from = &e->tensor;
    int64_t count = tensor_count(from);

    if (!e->supported || (from->dtype != DTYPE_BF16 && from->dtype != DTYPE_F16 &&
                          from->dtype != DTYPE_F32 && from->dtype != DTYPE_F64))
        return say_unfit(s, err);
    s->tensor = tensor_make(DTYPE_BF16, from->rank, from->shape, from->data);
    if (from->dtype != DTYPE_BF16 || (uintptr_t)from->data % sizeof(bf16)) {
        s->copy = aligned_alloc(64, ((size_t)count * sizeof(bf16) + 127) / 64 * 64);
        if (!s->copy)
            return error_set(err, 500, "%s: tensor '%.200s': no memory for %lld elements",
                             s->file->path, e->name, (long long)count);
        if (from->dtype == DTYPE_BF16)
            memcpy(s->copy, from->data, (size_t)count * sizeof(bf16));
        else
            convert_all(s->copy, from->data, count, from->dtype);
        s->tensor.data = s->copy;
        drop_pages(from->data, e->end - e->begin);
    }
    s->ready = 1;
    return 0;
}

static struct slot *find_slot(const struct weights *w, const char *name)
{
    const struct safetensors_entry wanted = {.name = (char *)(uintptr_t)name};
    const struct slot key = {.entry = &wanted};

    return bsearch(&key, w->slots, (size_t)w->count, sizeof(key), by_name);
}

const struct tensor *weights_find(struct weights *w, const char *name, struct error *err)
{
    static const char prefix[] = "model.";
    struct slot *s = find_slot(w, name);
    char longer[512];
    int rc = 0;

    /* A checkpoint saved from the model without its head, or from a module that holds the model. */
    if (!s && strncmp(name, prefix, sizeof(prefix) - 1) == 0)
        s = find_slot(w, name + sizeof(prefix) - 1);
    if (!s && snprintf(longer, sizeof(longer), "%s%s", prefix, name) < (int)sizeof(longer))
        s = find_slot(w, longer);
    if (!s)
        return NULL;
    pthread_mutex_lock(&w->lock);
    if (!s->ready)
        rc = prepare(s, err);
    s->used = 1;
    pthread_mutex_unlock(&w->lock);
    return rc ? NULL : &s->tensor;
}

/* A buffer that old checkpoints hold; transformers says nothing of it either. */
static int is_old_buffer(const char *name)
{
    return strstr(name, "rotary_emb.inv_freq") != NULL;
}

int weights_unused(const struct weights *w, const char **first)
{
    int count = 0;

    for (int i = 0; i < w->count; i++)
        if (!w->slots[i].used && !is_old_buffer(w->slots[i].entry->name) && !count++)
            *first = w->slots[i].entry->name;
    return count;
}

int weights_count(const struct weights *w)
{
    return w->count;
}

uint64_t weights_bytes(const struct weights *w)
{
    uint64_t bytes = 0;

    for (int i = 0; i < w->count; i++)
        bytes += w->slots[i].entry->end - w->slots[i].entry->begin;
    return bytes;
}

static int is_mapped(const struct weights *w, const void *data)
{
    for (int i = 0; i < w->file_count; i++)
        if ((uintptr_t)data - (uintptr_t)w->files[i]->mapping.data < w->files[i]->mapping.size)
            return 1;
    return 0;
}

void weights_passed(const struct weights *w, const void *data, size_t bytes)
{
    if (is_mapped(w, data))
        drop_pages(data, bytes);
}

static struct slot *slot_of(const struct weights *w, const struct tensor *t)
{
    const char *first = (const char *)&w->slots[0].tensor;

    return &w->slots[((const char *)t - first) / (ptrdiff_t)sizeof(*w->slots)];
}

void weights_release(struct weights *w, const struct tensor *t)
{
    struct slot *s = slot_of(w, t);

    drop_pages(s->entry->tensor.data, s->entry->end - s->entry->begin);
    pthread_mutex_lock(&w->lock);
    if (s->copy) {
        free(s->copy);
        s->copy = s->tensor.data = NULL;
        s->ready = 0;
    }
    pthread_mutex_unlock(&w->lock);
}

/* ---- what is mapped stays what was hashed ---- */

int weights_check(struct weights *w, struct error *err)
{
    for (int i = 0; i < w->file_count; i++)
        if (mapping_changed(&w->files[i]->mapping))
            atomic_store(&w->changed, i + 1);
    return weights_state(w, err);
}

int weights_state(const struct weights *w, struct error *err)
{
    const int i = atomic_load(&w->changed);

    if (!i)
        return 0;
    return error_set(err, 503,
                     "%s was written to after it had been read: what is served is no longer what "
                     "its digest says; the daemon must be started again",
                     strrchr(w->files[i - 1]->path, '/') + 1);
}

/* ---- digest ---- */

struct digest {
    EVP_MD_CTX *context;
    int failed;
    uint64_t done, all;
    void (*progress)(void *user, uint64_t done, uint64_t all);
    void *user;
};

static void digest_text(struct digest *d, const char *text)
{
    d->failed |= !EVP_DigestUpdate(d->context, text, strlen(text) + 1);
}

static void digest_data(struct digest *d, const unsigned char *data, uint64_t size)
{
    while (size) {
        size_t piece = size < PIECE ? (size_t)size : PIECE;

        d->failed |= !EVP_DigestUpdate(d->context, data, piece);
        drop_pages(data, piece);
        d->done += piece;
        data += piece;
        size -= piece;
        if (d->progress)
            d->progress(d->user, d->done, d->all);
    }
}

static void digest_slot(struct digest *d, const struct slot *s)
{
    const struct safetensors_entry *e = s->entry;

    digest_text(d, e->name);
    digest_text(d, e->dtype_text);
    digest_text(d, e->shape_text);
    digest_data(d, s->file->data + e->begin, e->end - e->begin);
    drop_pages(s->file->data + e->begin, e->end - e->begin);
}

int weights_digest(const struct weights *w, char out[65],
                   void (*progress)(void *user, uint64_t done, uint64_t all), void *user,
                   struct error *err)
{
    struct digest d = {
        .context = EVP_MD_CTX_new(), .all = weights_bytes(w), .progress = progress, .user = user};
    unsigned char hash[32];

    d.failed = !d.context || !EVP_DigestInit_ex(d.context, EVP_sha256(), NULL);
    for (int i = 0; i < w->count && !d.failed; i++) {
        const struct slot *next = &w->slots[i + 1 < w->count ? i + 1 : i];

        ask_for_pages(next->file->data + next->entry->begin, next->entry->end - next->entry->begin);
        digest_slot(&d, &w->slots[i]);
    }
    d.failed = d.failed || !EVP_DigestFinal_ex(d.context, hash, NULL);
    EVP_MD_CTX_free(d.context);
    if (d.failed)
        return error_set(err, 500, "%s: SHA-256 failed", w->folder);
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
    return 0;
}
