/* values.c - GET /v1/values: the catalogue of values, in execution order. */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    return 0;
}

/* Steps through a comma separated list: the next name in it, or NULL. */
static char *next_alias(char **list)
{
    char *name;

    if (!*list)
        return NULL;
    *list += strspn(*list, ", ");
    name = *list;
    if (!*name)
        return NULL;
    *list += strcspn(*list, ",");
    if (**list)
        *(*list)++ = '\0';
    return name;
}

static int fits(const struct filter *f, const struct step *s, const struct buffer *aliases)
{
    char *copy, *list, *name;
    int found;

    if (f->layer >= 0 && s->layer != f->layer)
        return 0;
    if (!f->glob || fnmatch(f->glob, s->name, 0) == 0)
        return 1;
    list = copy = aliases->data ? strdup(aliases->data) : NULL;
    found = 0;
    while (!found && (name = next_alias(&list)))
        found = fnmatch(f->glob, name, 0) == 0;
    free(copy);
    return found;
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

static void put_step(const struct program *p, const struct step *s, struct buffer *aliases,
                     struct buffer *out)
{
    char *list = aliases->data, *name;
    int count = 0;

    buffer_text(out, "{\"name\":");
    json_put_name(out, s->name);
    buffer_text(out, ",\"aliases\":[");
    while ((name = next_alias(&list))) {
        buffer_text(out, count++ ? "," : "");
        json_put_name(out, name);
    }
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
    facts_json(&reply->body, r->engine, filter.attention);
    buffer_text(&reply->body, ",\"values\":[");
    for (int i = 0; i < p->count; i++) {
        struct buffer aliases = {0};

        program_aliases(p, i, &aliases);
        if (fits(&filter, &p->steps[i], &aliases)) {
            buffer_text(&reply->body, count++ ? ",\n" : "\n");
            put_step(p, &p->steps[i], &aliases, &reply->body);
        }
        buffer_clear(&aliases);
    }
    buffer_text(&reply->body, "]}\n");
    reply_json(reply);
    return 0;
}
