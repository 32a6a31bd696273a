/* dump_npz.c - a file of values written as .npz.  See dump.h. */
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "client/dump.h"
#include "kernels/base/json_memory.h"
#include "client/dump_arrays.h"
#include "client/npy.h"

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
    return facts ? put_member(z, DUMP_METADATA, zip_source_buffer(z, facts, strlen(facts), 0), err)
                 : 0;
}

int dump_write_npz(const struct safetensors *file, const char *path, struct error *err)
{
    int code, rc = -1;
    zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    struct buffer *headers = calloc((size_t)file->count + 1, sizeof(*headers));
    char *facts = file->metadata ? json_memory_text(file->metadata, JSON_COMPACT) : NULL;

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
