/* replace.c - see replace.h. */
#include "server/tokenizer/replace.h"

#include <stdlib.h>
#include <string.h>

#include "server/tokenizer/pattern.h"

struct replace {
    struct pattern *pattern; /* NULL: the string is searched */
    char *string, *content;
    size_t string_size, content_size;
};

static int copy_string(const json_t *value, const char *key, char **copy, size_t *size,
                       struct error *err)
{
    if (!json_is_string(value))
        return error_param(err, 400, key, "Replace: \"%s\" is not a string", key);
    *size = json_string_length(value);
    *copy = malloc(*size + 1);
    if (!*copy)
        return error_set(err, 500, "out of memory");
    memcpy(*copy, json_string_value(value), *size + 1);
    return 0;
}

static int read_pattern(struct replace *r, const json_t *pattern, struct error *err)
{
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *string = json_object_get(pattern, "String");

    if (json_object_size(pattern) != 1 || !(regex || string))
        return error_param(err, 400, "pattern",
                           "Replace: \"pattern\" is neither {\"Regex\": ..} nor {\"String\": ..}");
    if (copy_string(regex ? regex : string, "pattern", &r->string, &r->string_size, err))
        return -1;
    if (!regex && !r->string_size)
        return error_param(err, 400, "pattern", "Replace: \"pattern\" is an empty string");
    if (regex && !(r->pattern = pattern_open(r->string, r->string_size, 0, err)))
        return -1;
    return 0;
}

struct replace *replace_open(const json_t *json, struct error *err)
{
    struct replace *r = calloc(1, sizeof(*r));

    if (!r) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    if (read_pattern(r, json_object_get(json, "pattern"), err) ||
        copy_string(json_object_get(json, "content"), "content", &r->content, &r->content_size,
                    err)) {
        replace_close(r);
        return NULL;
    }
    return r;
}

void replace_close(struct replace *r)
{
    if (!r)
        return;
    pattern_close(r->pattern);
    free(r->string);
    free(r->content);
    free(r);
}

struct replacing {
    const struct replace *replace;
    const char *text;
    struct aligned *out;
    size_t done; /* bytes of the text dealt with */
};

/* What comes instead stands for the last byte of the match. */
static int found(void *context, size_t start, size_t end)
{
    struct replacing *r = context;

    aligned_copy(r->out, r->text, r->done, start - r->done);
    aligned_put(r->out, r->replace->content, r->replace->content_size, end ? end - 1 : 0);
    r->done = end;
    return r->out->out->failed;
}

static int run_pattern(struct replacing *r, size_t size, struct error *err)
{
    struct pattern_scan *scan = pattern_scan_open(err);
    struct buffer view = {0};
    int rc = -1;

    if (!scan)
        return -1;
    pattern_view(r->replace->pattern, r->text, size, &view);
    if (view.failed)
        error_set(err, 500, "out of memory");
    else
        rc = pattern_each(r->replace->pattern, scan, view.data, size, found, r, err);
    buffer_clear(&view);
    pattern_scan_close(scan);
    return rc;
}

static void run_string(struct replacing *r, size_t size)
{
    const struct replace *p = r->replace;
    const char *hit;

    while ((hit = memmem(r->text + r->done, size - r->done, p->string, p->string_size)))
        found(r, (size_t)(hit - r->text), (size_t)(hit - r->text) + p->string_size);
}

int replace_run(const struct replace *r, const char *text, size_t size, struct aligned *out,
                struct error *err)
{
    struct replacing now = {.replace = r, .text = text, .out = out};

    if (!size)
        return 0;
    if (!r->pattern)
        run_string(&now, size);
    else if (run_pattern(&now, size, err))
        return -1;
    aligned_copy(out, text, now.done, size - now.done);
    return 0;
}
