/* target_client.c - what a daemon that is not to be trusted sends to samebit. */
#include "tests/fuzz/targets.h"

#include "client/compare.h"
#include "client/dump.h"
#include "client/receive.h"

int fuzz_receive(const uint8_t *data, size_t size)
{
    const size_t step = size && data[0] ? data[0] : 1;
    struct error err = {0};
    struct receive *r = receive_open(NULL, NULL, NULL, &err);
    int bad = 0;

    fuzz_demand(r != NULL, "a temporary file");
    for (size_t at = 1; at < size && !bad; at += step)
        bad = receive_write(r, data + at, size - at < step ? size - at : step, &err);
    fuzz_outcome(bad, &err);
    if (!bad && !receive_finish(r, &err)) {
        struct safetensors *s = receive_file(r, "x", &err);

        fuzz_outcome(!s, &err);
        safetensors_close(s);
    }
    receive_close(r);
    return 0;
}

int fuzz_digests(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, 0, size);
    const size_t first = end ? (size_t)(end - data) : size;
    json_t *ja = json_loadb((const char *)data, first, 0, NULL);
    json_t *jb =
        end ? json_loadb((const char *)end + 1, size - first - 1, 0, NULL) : json_incref(ja);
    struct error err = {0}, later = {0};
    struct side *a = ja ? side_from_digests("a", ja, &err) : NULL;
    struct side *b = a && jb ? side_from_digests("b", jb, &err) : NULL;
    const struct compare_options options = {0};
    struct compare *c = b ? compare_create(a, b, &options, &later) : NULL;

    if (c)
        compare_run(c, NULL, NULL, &later);
    compare_free(c);
    side_free(a);
    side_free(b);
    json_decref(ja);
    json_decref(jb);
    return 0;
}

/* Opens it, looks at every byte, at its rows, and writes what it is as .npz. */
static int open_dump(const char *name, const uint8_t *data, size_t size)
{
    char path[192], again[224];
    struct error err = {0}, later = {0};
    struct safetensors *s, *row;
    volatile unsigned sum = 0;

    snprintf(path, sizeof(path), "%s/%s", fuzz_folder(name, data, size), name);
    s = dump_open(path, &err);
    fuzz_outcome(!s, &err);
    if (!s)
        return 0;
    for (int i = 0; i < s->count; i++)
        for (uint64_t k = s->entries[i].begin; k < s->entries[i].end; k++)
            sum = sum + s->data[k];
    row = dump_rows(s) > 0 ? dump_row(s, 0, &later) : NULL;
    safetensors_close(row);
    later = (struct error){0};
    snprintf(again, sizeof(again), "%s.again.npz", path);
    fuzz_outcome(dump_write_npz(s, again, &later), &later);
    safetensors_close(s);
    return 0;
}

int fuzz_npy(const uint8_t *data, size_t size)
{
    return open_dump("x.npy", data, size);
}

int fuzz_npz(const uint8_t *data, size_t size)
{
    return open_dump("x.npz", data, size);
}
