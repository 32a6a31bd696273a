/* write_binary.c - values as one safetensors file. */
#include "server/http/write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/facts.h"
#include "server/http/json.h"
#include "kernels/base/safetensors.h"

enum {
    HEAD_BYTES = 1024, /* that a value takes while the header is written */
    HEAD_VALUES = 1024 /* whose header is written in a moment: some milliseconds */
};

struct state {
    const char *only;
    json_t *about; /* the metadata; NULL once the header is written */
};

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
    int rc = object
                 ? facts_metadata(object, w->engine, spec->prompt->attention,
                                  spec->prompt->torch_threads) |
                       facts_notice_metadata(object, w->engine, w->run->token_count + w->run->steps)
                 : -1;

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
    if (spec->prompt->ids_from_mask) {
        buffer_text(&text, "mask");
        rc |= set_text(object, "position_ids", &text);
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

/* Entries, and the tokens as the last one; *bytes: of all their data.  NULL: no memory.  The caller
 * calls specs_free. */
static struct safetensors_spec *specs_of(const struct run *run, const char *only, int64_t *bytes)
{
    struct safetensors_spec *specs = calloc((size_t)run->entry_count + 1, sizeof(*specs));

    *bytes = (run->token_count + run->steps) * (int64_t)sizeof(*run->tokens);
    for (int64_t i = 0; specs && i < run->entry_count; i++) {
        const struct run_entry e = run_entry(run, i);

        specs[i] = (struct safetensors_spec){
            .name = only ? only : run_entry_name(run, i), .dtype = e.dtype, .rank = e.rank};
        memcpy(specs[i].shape, e.shape, sizeof(e.shape));
        *bytes += (int64_t)e.bytes;
    }
    if (specs)
        specs[run->entry_count] =
            (struct safetensors_spec){.name = "tokens",
                                      .dtype = DTYPE_I64,
                                      .rank = 1,
                                      .shape = {run->token_count + run->steps}};
    return specs;
}

static void specs_free(struct safetensors_spec *specs, const struct run *run, const char *only)
{
    for (int64_t i = 0; specs && !only && i < run->entry_count; i++)
        free((char *)(uintptr_t)specs[i].name);
    free(specs);
}

static int have_names(const struct safetensors_spec *specs, const struct run *run)
{
    for (int64_t i = 0; specs && i < run->entry_count; i++)
        if (!specs[i].name)
            return 0;
    return specs != NULL;
}

/* The header names every value: megabytes, where a short request asks for many.  So it is written
 * when the first value comes, not while the run is queued. */
static int put_header(struct work *w, struct error *err)
{
    struct state *s = w->state;
    const int64_t before = (int64_t)w->out.size;
    struct safetensors_spec *specs;
    int64_t size;
    int rc;

    if (!s->about)
        return 0;
    specs = specs_of(w->run, s->only, &size);
    rc = have_names(specs, w->run)
             ? safetensors_header(&w->out, specs, (int)w->run->entry_count + 1, s->about, err)
             : error_set(err, 500, "no memory for the reply");
    specs_free(specs, w->run, s->only);
    json_decref(s->about);
    s->about = NULL;
    stream_set_length(w->stream, size + (int64_t)w->out.size - before);
    return rc;
}

static int on_value(struct work *w, int64_t entry, const void *data, size_t bytes,
                    struct error *err)
{
    (void)entry;
    return put_header(w, err) ? -1 : work_send_bytes(w, data, bytes, err);
}

static int on_close(struct work *w, struct error *err)
{
    const size_t bytes = (size_t)(w->run->token_count + w->run->steps) * sizeof(*w->run->tokens);

    if (put_header(w, err))
        return -1;
    buffer_append(&w->out, w->run->tokens, bytes);
    return 0;
}

static void on_free(void *user)
{
    struct state *s = user;

    json_decref(s->about);
    free(s);
}

int write_binary(struct work *w, const struct write_spec *spec, struct error *err)
{
    static const struct writer writer = {.value = on_value, .close = on_close, .free = on_free};
    struct state *s = calloc(1, sizeof(*s));

    if (!s)
        return error_set(err, 500, "no memory for the reply");
    w->writer = &writer;
    w->state = s;
    s->only = spec->only;
    s->about = metadata(w, spec);
    w->alone = w->run->entry_count > HEAD_VALUES;
    w->writer_bytes = (uint64_t)w->run->entry_count * HEAD_BYTES;
    return s->about ? 0 : error_set(err, 500, "no memory for the reply");
}
