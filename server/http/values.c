/* values.c - GET /v1/values: the catalogue of values, in execution order. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/glob.h"
#include "server/http/facts.h"
#include "server/http/json.h"
#include "server/http/routes.h"

/* ?attention=, ?layer= and ?glob=. */
struct filter {
    enum attention attention;
    int layer;        /* -1: any */
    const char *glob; /* NULL: any */
};

static int count_layers(const struct program *p)
{
    int layers = 0;

    for (int i = 0; i < p->count; i++)
        if (p->steps[i].layer >= layers)
            layers = p->steps[i].layer + 1;
    return layers;
}

static int filter_read(const struct request *r, struct filter *out, struct error *err)
{
    static const char *const known[] = {"attention", "layer", "glob", NULL};
    const char *text;
    int layers;

    *out = (struct filter){.attention = r->engine->attention, .layer = -1};
    if (request_only(r, known, err))
        return -1;
    if (request_query(r, "attention", &text) &&
        engine_attention(r->engine, text, &out->attention, err))
        return -1;
    layers = count_layers(r->engine->program[out->attention]);
    if (request_query(r, "layer", &text)) {
        size_t digits = strspn(text, "0123456789");

        out->layer = digits && digits < 9 && !text[digits] ? atoi(text) : layers;
        if (out->layer >= layers)
            return error_param(err, 400, "layer", "layer '%.40s': there are 0 to %d", text,
                               layers - 1);
    }
    if (request_query(r, "glob", &out->glob) && !*out->glob)
        return error_param(err, 400, "glob", "glob is empty");
    if (out->glob && strlen(out->glob) > GLOB_MOST)
        return error_param(err, 400, "glob", "glob: %zu bytes; the limit is %d", strlen(out->glob),
                           GLOB_MOST);
    return 0;
}

static int matches_glob(void *user, const char *name)
{
    const struct filter *f = user;

    return glob_matches(f->glob, name);
}

/* Returns whether the filter lets a step through, by its name or one of its aliases; -1: no
 * memory. */
static int fits(struct filter *f, const struct program *p, int step)
{
    if (f->layer >= 0 && p->steps[step].layer != f->layer)
        return 0;
    if (!f->glob || matches_glob(f, p->steps[step].name))
        return 1;
    return program_aliases(p, step, matches_glob, f);
}

static const char *input_name(const struct program *p, int value)
{
    if (value == PROGRAM_TOKENS)
        return "tokens";
    if (value == PROGRAM_POSITIONS)
        return "positions";
    return p->steps[value - PROGRAM_INPUTS].name;
}

static void put_inputs(const struct program *p, const struct step *s, struct buffer *out)
{
    buffer_text(out, ",\"inputs\":[");
    for (int i = 0; i < s->inputs; i++) {
        buffer_text(out, i ? "," : "");
        json_put_name(out, input_name(p, s->in[i]));
    }
    buffer_text(out, "]");
}

/* ["T", 896], and the same as one text. */
static void put_shape(const struct shape *shape, struct buffer *out)
{
    char text[128];

    buffer_text(out, ",\"shape\":[");
    for (int i = 0; i < shape->rank; i++) {
        struct shape one = {.rank = 1, .at = {shape->at[i]}};

        buffer_text(out, i ? "," : "");
        if (shape->at[i].kind == EXTENT_CONST) {
            buffer_format(out, "%" PRId64, shape->at[i].n);
            continue;
        }
        shape_text(&one, text, sizeof(text));
        json_put_text(out, text + 1, strlen(text) - 2);
    }
    buffer_text(out, "],\"shape_text\":");
    json_put_name(out, shape_text(shape, text, sizeof(text)));
}

static void put_source(const struct family *f, const struct step *s, struct buffer *out)
{
    char text[256];

    if (!s->row || !s->row->line || !f->mirror_file)
        return;
    snprintf(text, sizeof(text), "transformers %s %s:%d",
             f->mirror_version ? f->mirror_version : "", f->mirror_file, s->row->line);
    buffer_text(out, ",\"source\":");
    json_put_name(out, text);
}

static int put_alias(void *user, const char *alias)
{
    struct buffer *out = user;

    buffer_text(out, out->data && out->data[out->size - 1] == '[' ? "" : ",");
    json_put_name(out, alias);
    return 0;
}

static void put_step(const struct program *p, int step, struct buffer *out)
{
    const struct step *s = &p->steps[step];

    buffer_text(out, "{\"name\":");
    json_put_name(out, s->name);
    buffer_text(out, ",\"aliases\":[");
    out->failed |= program_aliases(p, step, put_alias, out) != 0;
    buffer_format(out, "],\"op\":\"%s\"", op_name(s->op));
    if (s->layer >= 0)
        buffer_format(out, ",\"layer\":%d", s->layer);
    put_inputs(p, s, out);
    put_shape(&s->shape, out);
    buffer_format(out, ",\"dtype\":\"%s\",\"mirror\":", dtype_name(s->shape.dtype));
    json_put_name(out, op_mirror(s->op));
    put_source(p->family, s, out);
    buffer_text(out, "}");
}

int values_get(const struct request *r, struct reply *reply, struct error *err)
{
    const struct program *p;
    struct filter filter;
    int count = 0;

    if (filter_read(r, &filter, err) || request_takes_json(r, err))
        return -1;
    p = r->engine->program[filter.attention];
    buffer_text(&reply->body, "{");
    facts_json(&reply->body, r->engine, filter.attention, 0);
    buffer_text(&reply->body, ",\"values\":[");
    for (int i = 0; i < p->count; i++) {
        const int fit = fits(&filter, p, i);

        reply->body.failed |= fit < 0;
        if (fit) {
            buffer_text(&reply->body, count++ ? ",\n" : "\n");
            put_step(p, i, &reply->body);
        }
    }
    buffer_text(&reply->body, "]}\n");
    reply_json(reply);
    return 0;
}
