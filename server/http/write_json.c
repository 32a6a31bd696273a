/* write_json.c - values as nested lists, or as digests of their bytes. */
#include "server/http/write.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/facts.h"
#include "server/http/json.h"
#include "server/http/number.h"

struct state {
    const char *only;
    int64_t entry;                  /* being written; -1 before the first */
    int64_t index;                  /* of its next element */
    int64_t inner[TENSOR_MAX_RANK]; /* elements below one index of each axis */
    EVP_MD_CTX *digest;             /* NULL: data */
};

/* ---- one value ---- */

static void open_lists(struct state *s, int rank, struct buffer *out)
{
    int axis = 0;

    if (s->index)
        buffer_text(out, ",");
    while (axis < rank && s->index % s->inner[axis] != 0)
        axis++;
    for (; axis < rank; axis++)
        buffer_text(out, "[");
}

static void close_lists(struct state *s, int rank, struct buffer *out)
{
    for (int axis = rank - 1; axis >= 0 && s->index % s->inner[axis] == 0; axis--)
        buffer_text(out, "]");
}

static void put_element(enum dtype dtype, const unsigned char *at, struct buffer *out)
{
    char number[NUMBER_TEXT];
    const char *text;
    int64_t whole;
    float f;
    bf16 b;
    int n;

    switch (dtype) {
    case DTYPE_BF16:
        memcpy(&b, at, sizeof(b));
        text = number_bf16(b, &n);
        buffer_append(out, text, (size_t)n);
        break;
    case DTYPE_F32:
        memcpy(&f, at, sizeof(f));
        buffer_append(out, number, (size_t)number_f32(f, number));
        break;
    default:
        memcpy(&whole, at, sizeof(whole));
        buffer_format(out, "%" PRId64, whole);
    }
}

/* Rows of the last axis have commas only; brackets come where a row begins and ends. */
static int put_elements(struct work *w, const struct run_entry *e, const unsigned char *at,
                        int64_t count, struct error *err)
{
    struct state *s = w->state;
    size_t size = dtype_size(e->dtype);
    int64_t row = e->rank ? e->shape[e->rank - 1] : 1;

    for (int64_t i = 0; i < count; i++, at += size) {
        if (s->index % row == 0)
            open_lists(s, e->rank, &w->out);
        else
            buffer_append(&w->out, ",", 1);
        put_element(e->dtype, at, &w->out);
        s->index++;
        if (s->index % row == 0)
            close_lists(s, e->rank, &w->out);
        if (w->out.size >= WORK_PIECE && work_send(w, 1, err))
            return -1;
    }
    return 0;
}

static int begin(struct work *w, struct error *err)
{
    struct state *s = w->state;
    const struct run_entry *e = &w->run->entries[s->entry];
    int64_t inner = 1;

    s->index = 0;
    for (int axis = e->rank - 1; axis >= 0; axis--)
        s->inner[axis] = inner *= e->shape[axis];
    if (s->entry)
        buffer_text(&w->out, ",");
    json_put_name(&w->out, s->only ? s->only : e->name);
    buffer_format(&w->out, ":{\"dtype\":\"%s\",\"shape\":", dtype_name(e->dtype));
    json_put_ints(&w->out, e->shape, e->rank);
    if (!s->digest)
        buffer_text(&w->out, ",\"data\":");
    else if (!EVP_DigestInit_ex(s->digest, EVP_sha256(), NULL))
        return error_set(err, 500, "SHA-256 is not to be had from libcrypto");
    return 0;
}

static int end(struct work *w, struct error *err)
{
    struct state *s = w->state;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;

    if (s->digest) {
        if (!EVP_DigestFinal_ex(s->digest, digest, &size))
            return error_set(err, 500, "SHA-256 failed in libcrypto");
        buffer_text(&w->out, ",\"sha256\":\"");
        for (unsigned i = 0; i < size; i++)
            buffer_format(&w->out, "%02x", digest[i]);
        buffer_text(&w->out, "\"");
    } else if (!s->index) {
        buffer_text(&w->out, "[]");
    }
    buffer_text(&w->out, "}");
    return work_send(w, WORK_PIECE, err);
}

/* ---- all of them, in order ---- */

/* Ends the values before entry and begins it (entry_count: ends them all). */
static int advance(struct work *w, int64_t entry, struct error *err)
{
    struct state *s = w->state;

    while (s->entry < entry) {
        if (s->entry >= 0 && end(w, err))
            return -1;
        if (++s->entry < w->run->entry_count && begin(w, err))
            return -1;
    }
    return 0;
}

static int on_value(struct work *w, int64_t entry, const void *data, size_t bytes,
                    struct error *err)
{
    const struct run_entry *e = &w->run->entries[entry];
    struct state *s = w->state;

    if (advance(w, entry, err))
        return -1;
    if (!s->digest)
        return put_elements(w, e, data, (int64_t)(bytes / dtype_size(e->dtype)), err);
    if (!EVP_DigestUpdate(s->digest, data, bytes))
        return error_set(err, 500, "SHA-256 failed in libcrypto");
    return 0;
}

static int on_close(struct work *w, struct error *err)
{
    struct state *s = w->state;

    if (advance(w, w->run->entry_count, err))
        return -1;
    buffer_text(&w->out, s->only ? ",\"tokens\":" : "},\"tokens\":");
    json_put_ints(&w->out, w->run->tokens, w->run->token_count + w->run->steps);
    buffer_text(&w->out, "}\n");
    return 0;
}

static void on_free(void *user)
{
    struct state *s = user;

    EVP_MD_CTX_free(s->digest);
    free(s);
}

/* ---- the head ---- */

void write_aliases(const struct run *run, struct buffer *out)
{
    buffer_text(out, "{");
    for (int64_t i = 0; i < run->alias_count; i++) {
        int same = i && strcmp(run->aliases[i].alias, run->aliases[i - 1].alias) == 0;

        if (!same) {
            buffer_text(out, i ? "]," : "");
            json_put_name(out, run->aliases[i].alias);
        }
        buffer_text(out, same ? "," : ":[");
        json_put_name(out, run->aliases[i].path);
    }
    buffer_text(out, run->alias_count ? "]}" : "}");
}

void write_head(struct work *w, const struct write_spec *spec)
{
    buffer_text(&w->out, "{");
    facts_json(&w->out, w->engine, spec->prompt->attention);
    buffer_text(&w->out, ",\"prompt_tokens\":");
    json_put_ints(&w->out, w->run->tokens, w->run->token_count);
    buffer_text(&w->out, ",\"positions\":");
    if (spec->which == POSITIONS_LIST)
        json_put_ints(&w->out, spec->positions, spec->position_count);
    else
        buffer_text(&w->out, spec->which == POSITIONS_ALL ? "\"all\"" : "\"last\"");
    if (spec->prompt->padding)
        buffer_format(&w->out, ",\"padding\":%" PRId64, spec->prompt->padding);
    if (spec->prompt->batch)
        buffer_format(&w->out, ",\"batch\":%" PRId64, spec->prompt->batch);
    if (spec->prompt->chunk_count) {
        buffer_text(&w->out, ",\"chunks\":");
        json_put_ints(&w->out, spec->prompt->chunks, spec->prompt->chunk_count);
    }
}

static int setup(struct work *w, const struct write_spec *spec, int digest, struct error *err)
{
    static const struct writer writer = {.value = on_value, .close = on_close, .free = on_free};
    struct state *s = calloc(1, sizeof(*s));

    if (!s)
        return error_set(err, 500, "no memory for the reply");
    w->writer = &writer;
    w->state = s;
    s->only = spec->only;
    s->entry = -1;
    if (digest && !(s->digest = EVP_MD_CTX_new()))
        return error_set(err, 500, "no memory for the reply");
    write_head(w, spec);
    if (spec->only) {
        buffer_text(&w->out, ",");
    } else {
        buffer_text(&w->out, ",\"aliases\":");
        write_aliases(w->run, &w->out);
        buffer_text(&w->out, ",\"values\":{");
    }
    return 0;
}

int write_json(struct work *w, const struct write_spec *spec, struct error *err)
{
    return setup(w, spec, 0, err);
}

int write_digest(struct work *w, const struct write_spec *spec, struct error *err)
{
    return setup(w, spec, 1, err);
}
