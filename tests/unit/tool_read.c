/* tool_read.c - what a .npy or safetensors file holds, for tests/fuzz/differential.py: paths by line on the standard
 * input; for each one line of JSON, {"error":"..."} or {"NAME":[dtype, [shape], fortran order, offset, bytes]}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "client/npy.h"
#include "kernels/base/safetensors.h"

static char *read_all(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *bytes = malloc(1 << 22);

    *size = f && bytes ? fread(bytes, 1, 1 << 22, f) : 0;
    if (f)
        fclose(f);
    return bytes;
}

static json_t *about_npy(const char *bytes, size_t size, struct error *err)
{
    json_t *shape = json_array(), *out;
    struct npy a;
    char dtype[32];
    size_t elements = 1;

    if (npy_read("x", bytes, size, &a, err)) {
        json_decref(shape);
        return NULL;
    }
    for (int i = 0; i < a.rank; i++) {
        json_array_append_new(shape, json_integer(a.shape[i]));
        elements *= (size_t)a.shape[i];
    }
    snprintf(dtype, sizeof(dtype), "%s%c%d", a.swapped ? ">" : "", a.kind, a.size);
    out = json_object();
    json_object_set_new(out, "",
                        json_pack("[s, o, b, I, I]", dtype, shape, a.fortran,
                                  (json_int_t)((const char *)a.data - bytes),
                                  (json_int_t)(elements * (size_t)a.size)));
    return out;
}

static json_t *about_safetensors(const char *bytes, size_t size, struct error *err)
{
    struct safetensors *s = safetensors_open_memory("x", bytes, size, err);
    json_t *out = s ? json_object() : NULL;

    for (int i = 0; s && i < s->count; i++) {
        const struct safetensors_entry *e = &s->entries[i];

        json_object_set_new(
            out, e->name,
            json_pack("[s, s, b, I, I]", e->dtype_text, e->shape_text, 0,
                      (json_int_t)((const char *)s->data - bytes) + (json_int_t)e->begin,
                      (json_int_t)(e->end - e->begin)));
    }
    safetensors_close(s);
    return out;
}

int main(void)
{
    char path[4096];

    while (fgets(path, sizeof(path), stdin)) {
        struct error err = {0};
        json_t *out;
        size_t size;
        char *bytes;

        path[strcspn(path, "\n")] = '\0';
        bytes = read_all(path, &size);
        out = strstr(path, "/npy/") ? about_npy(bytes, size, &err)
                                    : about_safetensors(bytes, size, &err);
        if (!out)
            out = json_pack("{s:s}", "error", err.text);
        json_dumpf(out, stdout, JSON_COMPACT);
        puts("");
        json_decref(out);
        free(bytes);
    }
    return 0;
}
