/* write_binary.c - values as one safetensors file. */
#include "server/http/write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/facts.h"
#include "server/http/json.h"
#include "kernels/base/safetensors.h"

static int on_value(struct work *w, int64_t entry, const void *data, size_t bytes,
                    struct error *err)
{
    (void)entry;
    return work_send_bytes(w, data, bytes, err);
}

static int on_close(struct work *w, struct error *err)
{
    size_t bytes = (size_t)(w->run->token_count + w->run->steps) * sizeof(*w->run->tokens);

    (void)err;
    buffer_append(&w->out, w->run->tokens, bytes);
    return 0;
}

static int set_text(json_t *object, const char *key, struct buffer *text)
{
    int rc = text->failed ? -1 : json_object_set_new(object, key, json_string(text->data));

    buffer_clear(text);
    return rc;
}

static json_t *metadata(const struct work *w, const struct write_spec *spec)
{
    json_t *object = json_object();
    struct buffer text = {0};
    int rc = object ? facts_metadata(object, w->engine, spec->prompt->attention) : -1;

    json_put_ints(&text, w->run->tokens, w->run->token_count);
    rc |= set_text(object, "prompt_tokens", &text);
    write_aliases(w->run, &text);
    rc |= set_text(object, "aliases", &text);
    if (spec->which == POSITIONS_LIST)
        json_put_ints(&text, spec->positions, spec->position_count);
    else
        buffer_text(&text, spec->which == POSITIONS_ALL ? "all" : "last");
    rc |= set_text(object, "positions", &text);
    if (spec->prompt->padding) {
        buffer_format(&text, "%" PRId64, spec->prompt->padding);
        rc |= set_text(object, "padding", &text);
    }
    if (spec->prompt->batch) {
        buffer_format(&text, "%" PRId64, spec->prompt->batch);
        rc |= set_text(object, "batch", &text);
    }
    if (spec->prompt->chunk_count) {
        json_put_ints(&text, spec->prompt->chunks, spec->prompt->chunk_count);
        rc |= set_text(object, "chunks", &text);
    }
    if (!rc)
        return object;
    json_decref(object);
    return NULL;
}

/* Entries, and the tokens as the last one.  The caller frees. */
static struct safetensors_spec *describe(const struct run *run, const char *only, int64_t *data)
{
    struct safetensors_spec *specs = calloc((size_t)run->entry_count + 1, sizeof(*specs));

    *data = (run->token_count + run->steps) * (int64_t)sizeof(*run->tokens);
    for (int64_t i = 0; specs && i < run->entry_count; i++) {
        const struct run_entry *e = &run->entries[i];

        specs[i] = (struct safetensors_spec){
            .name = only ? only : e->name, .dtype = e->dtype, .rank = e->rank};
        memcpy(specs[i].shape, e->shape, sizeof(e->shape));
        *data += (int64_t)e->bytes;
    }
    if (specs)
        specs[run->entry_count] =
            (struct safetensors_spec){.name = "tokens",
                                      .dtype = DTYPE_I64,
                                      .rank = 1,
                                      .shape = {run->token_count + run->steps}};
    return specs;
}

int write_binary(struct work *w, const struct write_spec *spec, int64_t *size, struct error *err)
{
    static const struct writer writer = {.value = on_value, .close = on_close};
    struct safetensors_spec *specs = describe(w->run, spec->only, size);
    json_t *about = metadata(w, spec);
    int rc = -1;

    w->writer = &writer;
    if (!specs || !about)
        error_set(err, 500, "no memory for the reply");
    else
        rc = safetensors_header(&w->out, specs, (int)w->run->entry_count + 1, about, err);
    *size += (int64_t)w->out.size;
    json_decref(about);
    free(specs);
    return rc;
}
