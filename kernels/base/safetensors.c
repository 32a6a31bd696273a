/* safetensors.c - see safetensors.h.
 *
 * Opening is: map the file, parse the header as JSON, turn each of its members into an entry, sort
 * the entries by offset, and check that they tile the data section. */
#include "kernels/base/safetensors.h"

#include "kernels/base/json_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/file_kind.h"

/* Every dtype of the format; the crate refuses all other names. */
static const struct {
    const char *name;
    unsigned bits;
} known_dtypes[] = {
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
};

static unsigned dtype_bits(const char *name)
{
    for (size_t i = 0; i < sizeof(known_dtypes) / sizeof(known_dtypes[0]); i++)
        if (strcmp(known_dtypes[i].name, name) == 0)
            return known_dtypes[i].bits;
    return 0;
}

/* ---- one entry ---- */

/* Reads a JSON shape: the number of its elements, and its first TENSOR_MAX_RANK extents. */
static int read_shape(const json_t *shape, int64_t *extents, uint64_t *elements, struct error *err)
{
    size_t rank = json_array_size(shape);

    if (!json_is_array(shape))
        return error_set(err, 400, "shape is not a list");
    *elements = 1;
    for (size_t i = 0; i < rank; i++) {
        const json_t *n = json_array_get(shape, i);
        json_int_t extent = json_integer_value(n);

        if (!json_is_integer(n) || extent < 0)
            return error_set(err, 400, "shape[%zu] is not a whole number from 0", i);
        if (__builtin_mul_overflow(*elements, (uint64_t)extent, elements))
            return error_set(err, 400, "shape has more than 2^64 elements");
        if (i < TENSOR_MAX_RANK)
            extents[i] = extent;
    }
    return 0;
}

/* Returns a checked shape as "2,3", malloc'ed. */
static char *shape_text(const json_t *shape)
{
    struct buffer text = {0};

    buffer_text(&text, "");
    for (size_t i = 0; i < json_array_size(shape); i++)
        buffer_format(&text, "%s%lld", i ? "," : "",
                      (long long)json_integer_value(json_array_get(shape, i)));
    if (text.failed)
        buffer_clear(&text);
    return text.data;
}

static int read_offsets(const json_t *offsets, struct safetensors_entry *e, struct error *err)
{
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);

    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < 0)
        return error_set(err, 400, "data_offsets is not a pair of whole numbers");
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    if (e->end < e->begin)
        return error_set(err, 400, "data_offsets end before they begin");
    return 0;
}

static int check_size(const struct safetensors_entry *e, unsigned bits, uint64_t elements,
                      struct error *err)
{
    uint64_t size;

    if (__builtin_mul_overflow(elements, (uint64_t)bits, &size))
        return error_set(err, 400, "shape x dtype does not fit 64 bits");
    if (size % 8)
        return error_set(err, 400, "%s data does not end at a whole byte", e->dtype_text);
    if (size / 8 != e->end - e->begin)
        return error_set(err, 400, "shape x %s is %llu bytes, data_offsets span %llu",
                         e->dtype_text, (unsigned long long)(size / 8),
                         (unsigned long long)(e->end - e->begin));
    return 0;
}

static int read_entry(const json_t *info, struct safetensors_entry *e, struct error *err)
{
    const json_t *shape = json_object_get(info, "shape");
    const char *dtype_text = json_string_value(json_object_get(info, "dtype"));
    int64_t extents[TENSOR_MAX_RANK] = {0};
    uint64_t elements = 0;
    enum dtype dtype;
    unsigned bits;

    if (!json_is_object(info))
        return error_set(err, 400, "its description is not an object");
    if (!dtype_text)
        return error_set(err, 400, "dtype is missing or not a string");
    bits = dtype_bits(dtype_text);
    if (!bits)
        return error_set(err, 400, "unknown dtype '%.32s'", dtype_text);
    strncpy(e->dtype_text, dtype_text, sizeof(e->dtype_text) - 1);
    if (read_shape(shape, extents, &elements, err) ||
        read_offsets(json_object_get(info, "data_offsets"), e, err) ||
        check_size(e, bits, elements, err))
        return -1;
    e->shape_text = shape_text(shape);
    if (!e->shape_text)
        return error_set(err, 500, "no memory");
    e->supported = json_array_size(shape) <= TENSOR_MAX_RANK && !dtype_parse(dtype_text, &dtype);
    if (e->supported)
        e->tensor = tensor_make(dtype, (int)json_array_size(shape), extents, NULL);
    return 0;
}

/* ---- all entries ---- */

static int by_offset(const void *a, const void *b)
{
    const struct safetensors_entry *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    const struct safetensors_entry *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static int read_metadata(struct safetensors *s, json_t *metadata, struct error *err)
{
    const char *key;
    json_t *value;

    if (!metadata || json_is_null(metadata))
        return 0;
    if (!json_is_object(metadata))
        return error_set(err, 400, "%s: __metadata__ is not an object", s->path);
    json_object_foreach (metadata, key, value)
        if (!json_is_string(value))
            return error_set(err, 400, "%s: __metadata__.%.100s is not a string", s->path, key);
    s->metadata = json_incref(metadata);
    return 0;
}

static int read_entries(struct safetensors *s, json_t *header, struct error *err)
{
    const char *name;
    json_t *info;

    s->entries = calloc(json_object_size(header) + 1, sizeof(*s->entries));
    if (!s->entries)
        return error_set(err, 500, "%s: no memory for the header", s->path);
    json_object_foreach (header, name, info) {
        struct safetensors_entry *e = &s->entries[s->count];

        if (strcmp(name, "__metadata__") == 0)
            continue;
        e->name = strdup(name);
        s->count++;
        if (!e->name)
            return error_set(err, 500, "%s: no memory for the header", s->path);
        if (read_entry(info, e, err))
            return error_prefix(err, "%s: tensor '%.200s': ", s->path, name);
    }
    return 0;
}

/* Checks that the entries, in order of offset, cover the data section without holes or overlaps. */
static int check_tiling(struct safetensors *s, uint64_t data_size, struct error *err)
{
    uint64_t at = 0;

    qsort(s->entries, (size_t)s->count, sizeof(*s->entries), by_offset);
    for (int i = 0; i < s->count; i++) {
        struct safetensors_entry *e = &s->entries[i];

        if (e->begin != at)
            return error_set(err, 400, "%s: tensor '%.200s': data begins at %llu, %s %llu", s->path,
                             e->name, (unsigned long long)e->begin,
                             e->begin < at ? "overlapping what ends at" : "leaving a hole after",
                             (unsigned long long)at);
        if (e->end > data_size)
            return error_set(err, 400,
                             "%s: tensor '%.200s': data ends at %llu, the file holds %llu "
                             "(truncated?)",
                             s->path, e->name, (unsigned long long)e->end,
                             (unsigned long long)data_size);
        at = e->end;
        if (e->supported)
            e->tensor.data = (void *)(uintptr_t)(s->data + e->begin);
    }
    if (at != data_size)
        return error_set(err, 400, "%s: %llu bytes after the last tensor", s->path,
                         (unsigned long long)(data_size - at));
    return 0;
}

static int build_index(struct safetensors *s, struct error *err)
{
    const struct safetensors_entry **index = calloc((size_t)s->count + 1, sizeof(*index));

    if (!index)
        return error_set(err, 500, "%s: no memory for the header", s->path);
    for (int i = 0; i < s->count; i++)
        index[i] = &s->entries[i];
    qsort(index, (size_t)s->count, sizeof(*index), by_name);
    s->index = index;
    return 0;
}

/* ---- the file ---- */

static json_t *parse_header(const char *label, const unsigned char *bytes, size_t size,
                            uint64_t *header_size, struct error *err)
{
    const char *kind = file_kind(bytes, size);
    json_error_t trouble;
    json_t *header;
    uint64_t n = 0;

    if (size < 8) {
        error_set(err, 400, "%s: %zu bytes, too short for a safetensors file", label, size);
        return NULL;
    }
    for (int i = 7; i >= 0; i--)
        n = n << 8 | bytes[i];
    if (kind && n > SAFETENSORS_MAX_HEADER) {
        error_set(err, 400, "%s: %s", label, kind);
        return NULL;
    }
    if (n > SAFETENSORS_MAX_HEADER || n > size - 8 || n < 2) {
        error_set(err, 400, "%s: header of %llu bytes in a file of %zu (no safetensors file?)",
                  label, (unsigned long long)n, size);
        return NULL;
    }
    if (bytes[8] != '{') {
        error_set(err, 400, "%s: header does not begin with '{'", label);
        return NULL;
    }
    header = json_memory_read((const char *)bytes + 8, n, JSON_REJECT_DUPLICATES, &trouble);
    if (!header && json_memory_failed())
        error_set(err, 503, "%s: no memory for the header", label);
    else if (!header)
        error_set(err, 400, "%s: header: %s (byte %d)", label, trouble.text, trouble.position);
    *header_size = n;
    return header;
}

static struct safetensors *read_all(const char *label, const void *bytes, size_t size,
                                    struct error *err)
{
    struct safetensors *s = NULL;
    uint64_t header_size = 0;
    json_t *header = parse_header(label, bytes, size, &header_size, err);

    if (!header)
        return NULL;
    s = calloc(1, sizeof(*s));
    if (!s || !(s->path = strdup(label))) {
        error_set(err, 500, "%s: no memory", label);
        goto fail;
    }
    s->data = (const unsigned char *)bytes + 8 + header_size;
    if (read_metadata(s, json_object_get(header, "__metadata__"), err) ||
        read_entries(s, header, err) || check_tiling(s, size - 8 - header_size, err) ||
        build_index(s, err))
        goto fail;
    json_decref(header);
    return s;
fail:
    json_decref(header);
    safetensors_close(s);
    return NULL;
}

struct safetensors *safetensors_open(const char *path, struct error *err)
{
    struct mapping mapping;
    struct safetensors *s;

    if (mapping_open(&mapping, path, 8, err))
        return NULL;
    s = read_all(path, mapping.data, mapping.size, err);
    if (!s) {
        mapping_close(&mapping);
        return NULL;
    }
    s->mapping = mapping;
    return s;
}

struct safetensors *safetensors_open_memory(const char *label, const void *bytes, size_t size,
                                            struct error *err)
{
    return read_all(label, bytes, size, err);
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    mapping_close(&s->mapping);
    for (int i = 0; i < s->count; i++) {
        free(s->entries[i].name);
        free(s->entries[i].shape_text);
    }
    free(s->entries);
    free(s->index);
    json_decref(s->metadata);
    free(s->path);
    free(s);
}

const struct safetensors_entry *safetensors_find(const struct safetensors *s, const char *name)
{
    const struct safetensors_entry wanted = {.name = (char *)(uintptr_t)name};
    const struct safetensors_entry *key = &wanted, **found;

    found = bsearch(&key, s->index, (size_t)s->count, sizeof(key), by_name);
    return found ? *found : NULL;
}

/* ---- writing ---- */

/* Returns a spec as the header's JSON, with its data at *at, which it moves on; NULL when its size
 * does not fit. */
static json_t *describe(const struct safetensors_spec *spec, uint64_t *at)
{
    uint64_t size = dtype_size(spec->dtype), begin = *at;
    json_t *shape = json_array();
    int bad = 0;

    for (int i = 0; i < spec->rank && !bad; i++)
        bad = spec->shape[i] < 0 || __builtin_mul_overflow(size, (uint64_t)spec->shape[i], &size) ||
              json_array_append_new(shape, json_integer(spec->shape[i]));
    if (bad || __builtin_add_overflow(begin, size, at) || *at > INT64_MAX) {
        json_decref(shape);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(spec->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)*at);
}

static int can_be_named(const json_t *header, const char *name)
{
    return strcmp(name, "__metadata__") != 0 && !json_object_get(header, name);
}

static json_t *describe_all(const struct safetensors_spec *specs, int count, const json_t *metadata,
                            struct error *err)
{
    json_t *header = json_object();
    uint64_t at = 0;

    if (!header ||
        (metadata && json_object_set_new(header, "__metadata__", json_deep_copy(metadata)))) {
        error_set(err, 500, "no memory for a safetensors header");
        json_decref(header);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        json_t *info = can_be_named(header, specs[i].name) ? describe(&specs[i], &at) : NULL;

        if (!info || json_object_set_new(header, specs[i].name, info)) {
            error_set(err, 500,
                      "tensor '%.200s': no safetensors header can hold it (twice the same name, "
                      "a name that is no UTF-8, or more than 2^63 bytes)",
                      specs[i].name);
            json_decref(header);
            return NULL;
        }
    }
    return header;
}

static int append_text(const char *bytes, size_t size, void *buffer)
{
    buffer_append(buffer, bytes, size);
    return 0;
}

int safetensors_header(struct buffer *out, const struct safetensors_spec *specs, int count,
                       const json_t *metadata, struct error *err)
{
    json_t *header = describe_all(specs, count, metadata, err);
    struct buffer text = {0};
    unsigned char length[8];
    int rc = -1;

    if (!header)
        return -1;
    /* Into a buffer of ours, whose failure sticks, since json_dumps may lose a part in silence. */
    if (json_dump_callback(header, append_text, &text, JSON_COMPACT) || text.failed) {
        error_set(err, 500, "no memory for a safetensors header");
        goto done;
    }
    buffer_append(&text, "       ", (8 - text.size % 8) % 8);
    if (text.size > SAFETENSORS_MAX_HEADER) {
        error_set(err, 413, "safetensors header of %zu bytes, at most %d can be read", text.size,
                  SAFETENSORS_MAX_HEADER);
        goto done;
    }
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(text.size >> 8 * i);
    buffer_append(out, length, sizeof(length));
    buffer_append(out, text.data, text.size);
    rc = text.failed || out->failed ? error_set(err, 500, "no memory for a safetensors header") : 0;
done:
    buffer_clear(&text);
    json_decref(header);
    return rc;
}
