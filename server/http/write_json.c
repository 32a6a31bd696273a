/* write_json.c - values as nested lists, and what all JSON forms have in common. */
#include "server/http/write.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/facts.h"
#include "server/http/json.h"
#include "server/http/number.h"

enum { AT_ONCE = 512 }; /* elements between two looks at what there is to send */

struct state {
    const char *only;
    int64_t entry;                  /* being written; -1 before the first */
    int64_t index;                  /* of its next element */
    int64_t inner[TENSOR_MAX_RANK]; /* elements below one index of each axis */
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

static void put_double(double d, struct buffer *out)
{
    if (isfinite(d))
        buffer_format(out, "%.17g", d);
    else
        buffer_text(out, isnan(d) ? "\"NaN\"" : d > 0 ? "\"Infinity\"" : "\"-Infinity\"");
}

/* count elements, each with a comma behind it. */
static void put_elements(enum dtype dtype, const void *from, int64_t count, struct buffer *out)
{
    char number[NUMBER_TEXT];

    if (dtype == DTYPE_BF16) {
        char *room = buffer_room(out, (size_t)count * NUMBER_ROOM);

        if (room)
            out->size += (size_t)(number_bf16_list(from, count, room) - room);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        if (dtype == DTYPE_F32)
            buffer_append(out, number, (size_t)number_f32(((const float *)from)[i], number));
        else if (dtype == DTYPE_F64)
            put_double(((const double *)from)[i], out);
        else
            buffer_format(out, "%" PRId64, ((const int64_t *)from)[i]);
        buffer_append(out, ",", 1);
    }
}

/* Brackets come where a row of the last axis begins and ends. */
static int put_rows(struct work *w, const struct run_entry *e, const unsigned char *at,
                    int64_t count, struct error *err)
{
    struct state *s = w->state;
    const int64_t row = e->rank ? e->shape[e->rank - 1] : 1;

    while (count) {
        const int64_t left = row - s->index % row, most = left < AT_ONCE ? left : AT_ONCE;
        const int64_t n = most < count ? most : count;

        if (left == row)
            open_lists(s, e->rank, &w->out);
        put_elements(e->dtype, at, n, &w->out);
        s->index += n;
        if (n == left) {
            w->out.size -= w->out.size > 0; /* the last comma */
            close_lists(s, e->rank, &w->out);
        }
        if (work_send(w, WORK_PIECE, err))
            return -1;
        at += (size_t)n * dtype_size(e->dtype);
        count -= n;
    }
    return 0;
}

static void begin(struct work *w)
{
    struct state *s = w->state;
    const struct run_entry e = run_entry(w->run, s->entry);
    int64_t inner = 1;

    s->index = 0;
    for (int axis = e.rank - 1; axis >= 0; axis--)
        s->inner[axis] = inner *= e.shape[axis];
    write_entry(w, s->entry, s->only);
    buffer_text(&w->out, ",\"data\":");
}

static int end(struct work *w, struct error *err)
{
    struct state *s = w->state;

    buffer_text(&w->out, s->index ? "}" : "[]}");
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
        if (++s->entry < w->run->entry_count)
            begin(w);
    }
    return 0;
}

static int on_value(struct work *w, int64_t entry, const void *data, size_t bytes,
                    struct error *err)
{
    const struct run_entry e = run_entry(w->run, entry);

    if (advance(w, entry, err))
        return -1;
    return put_rows(w, &e, data, (int64_t)(bytes / dtype_size(e.dtype)), err);
}

static int on_close(struct work *w, struct error *err)
{
    const struct state *s = w->state;

    if (advance(w, w->run->entry_count, err))
        return -1;
    write_tail(w, s->only);
    return 0;
}

/* ---- around them ---- */

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
    facts_json(&w->out, w->engine, spec->prompt->attention, spec->prompt->torch_threads);
    facts_notice_json(&w->out, w->engine, w->run->token_count + w->run->steps);
    buffer_text(&w->out, ",\"prompt_tokens\":");
    json_put_ints(&w->out, w->run->tokens, w->run->token_count);
    buffer_text(&w->out, ",\"positions\":");
    if (spec->which == POSITIONS_LIST)
        json_put_ints(&w->out, spec->positions, spec->position_count);
    else
        buffer_text(&w->out, spec->which == POSITIONS_ALL ? "\"all\"" : "\"last\"");
    if (spec->prompt->padding)
        buffer_format(&w->out, ",\"padding\":%" PRId64, spec->prompt->padding);
    if (spec->prompt->ids_from_mask)
        buffer_text(&w->out, ",\"position_ids\":\"mask\"");
    if (spec->prompt->batch)
        buffer_format(&w->out, ",\"batch\":%" PRId64, spec->prompt->batch);
    if (spec->prompt->chunk_count) {
        buffer_text(&w->out, ",\"chunks\":");
        json_put_ints(&w->out, spec->prompt->chunks, spec->prompt->chunk_count);
    }
}

void write_open(struct work *w, const struct write_spec *spec)
{
    write_head(w, spec);
    if (spec->only) {
        buffer_text(&w->out, ",");
    } else {
        buffer_text(&w->out, ",\"aliases\":");
        write_aliases(w->run, &w->out);
        buffer_text(&w->out, ",\"values\":{");
    }
}

void write_entry(struct work *w, int64_t entry, const char *only)
{
    const struct run_entry e = run_entry(w->run, entry);
    char *name = only ? NULL : run_entry_name(w->run, entry);

    if (entry)
        buffer_text(&w->out, ",");
    if (only || name)
        json_put_name(&w->out, only ? only : name);
    else
        w->out.failed = 1;
    buffer_format(&w->out, ":{\"dtype\":\"%s\",\"shape\":", dtype_name(e.dtype));
    json_put_ints(&w->out, e.shape, e.rank);
    free(name);
}

void write_tail(struct work *w, const char *only)
{
    buffer_text(&w->out, only ? ",\"tokens\":" : "},\"tokens\":");
    json_put_ints(&w->out, w->run->tokens, w->run->token_count + w->run->steps);
    buffer_text(&w->out, "}\n");
}

int write_json(struct work *w, const struct write_spec *spec, struct error *err)
{
    static const struct writer writer = {.value = on_value, .close = on_close, .free = free};
    struct state *s = calloc(1, sizeof(*s));

    if (!s)
        return error_set(err, 500, "no memory for the reply");
    w->writer = &writer;
    w->state = s;
    s->only = spec->only;
    s->entry = -1;
    write_open(w, spec);
    return 0;
}
