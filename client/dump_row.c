/* dump_row.c - one row of a batch, as a dump of its own.  See dump.h. */
#include <stdlib.h>
#include <string.h>

#include "client/dump.h"
#include "client/dump_write.h"

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
