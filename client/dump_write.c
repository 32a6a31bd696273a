/* dump_write.c - see dump_write.h. */
#include "client/dump_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int put(FILE *f, const void *bytes, size_t size, struct error *err)
{
    return fwrite(bytes, 1, size, f) == size
               ? 0
               : error_set(err, 500, "cannot write a temporary file: %s", strerror(errno));
}

static int put_array(FILE *f, const struct safetensors_spec *spec, int i, dump_fill *fill,
                     void *user, struct error *err)
{
    const struct tensor t = tensor_make(spec->dtype, spec->rank, spec->shape, NULL);
    const size_t size = tensor_bytes(&t);
    void *bytes = malloc(size + 1);
    int rc;

    if (!bytes)
        return error_set(err, 500, "no memory for the %zu bytes of %s", size, spec->name);
    rc = fill(user, i, bytes, err) || put(f, bytes, size, err) ? -1 : 0;
    free(bytes);
    return rc;
}

struct safetensors *dump_write(const char *label, const struct safetensors_spec *specs, int count,
                               const json_t *metadata, dump_fill *fill, void *user,
                               struct error *err)
{
    FILE *f = tmpfile();
    struct safetensors *file = NULL;
    struct buffer header = {0};
    char path[64];

    if (!f) {
        error_set(err, 500, "cannot make a temporary file: %s", strerror(errno));
        return NULL;
    }
    if (safetensors_header(&header, specs, count, metadata, err) ||
        put(f, header.data, header.size, err))
        goto out;
    for (int i = 0; i < count; i++)
        if (put_array(f, &specs[i], i, fill, user, err))
            goto out;
    if (fflush(f)) {
        error_set(err, 500, "cannot write a temporary file: %s", strerror(errno));
        goto out;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fileno(f));
    file = safetensors_open(path, err);
    if (!file)
        error_prefix(err, "%s: ", label);
out:
    buffer_clear(&header);
    fclose(f);
    return file;
}
