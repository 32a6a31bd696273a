/* normalize.c - see normalize.h. */
#include "server/tokenizer/normalize.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/utf8.h"
#include "server/tokenizer/aligned.h"
#include "server/tokenizer/byte_level.h"
#include "server/tokenizer/charsmap.h"
#include "server/tokenizer/replace.h"
#include "server/tokenizer/unicode_class.h"
#include "server/tokenizer/unicode_form.h"

struct step {
    int (*run)(const struct step *s, const char *text, size_t size, struct aligned *out,
               struct error *err);
    int form;        /* of run_form */
    int left, right; /* of run_strip */
    char *content;   /* of run_prepend */
    size_t content_size;
    struct replace *replace;
    struct charsmap *charsmap;
};

struct normalizer {
    struct step *steps;
    size_t count;
};

/* ---- what they do ---- */

/* The package composes with the first character's place and decomposes into it. */
static int run_form(const struct step *s, const char *text, size_t size, struct aligned *out,
                    struct error *err)
{
    struct buffer first = {0};
    int rc = 0;

    if (out->zero)
        rc = unicode_form_run(s->form, text, out->zero, &first, err);
    out->zero_out = first.size;
    if (!rc)
        rc = unicode_form_run(s->form, text, size, out->out, err);
    rc = first.failed ? error_set(err, 500, "normalizer: out of memory") : rc;
    buffer_clear(&first);
    return rc;
}

static int run_lowercase(const struct step *s, const char *text, size_t size, struct aligned *out,
                         struct error *err)
{
    uint32_t point, lower[2];
    size_t at = 0, start;
    char bytes[4];
    int i, n;

    (void)s, (void)err;
    while (at < size) {
        start = at;
        at += (size_t)utf8_get(text + at, &point);
        n = unicode_lower_of(point, lower);
        for (i = 0; i < n; i++)
            aligned_put(out, bytes, (size_t)utf8_put(lower[i], bytes), start);
    }
    return 0;
}

static int run_strip(const struct step *s, const char *text, size_t size, struct aligned *out,
                     struct error *err)
{
    size_t first = 0, last = size, at = 0, n;
    uint32_t point;
    int inside = 0;

    (void)err;
    if (s->right)
        last = 0;
    while (at < size) {
        n = (size_t)utf8_get(text + at, &point);
        if (!unicode_is_space(point)) {
            if (!inside && s->left)
                first = at;
            inside = 1;
            if (s->right)
                last = at + n;
        }
        at += n;
    }
    if (inside || !(s->left || s->right))
        aligned_copy(out, text, first, last - first);
    return 0;
}

static int run_strip_accents(const struct step *s, const char *text, size_t size,
                             struct aligned *out, struct error *err)
{
    size_t at, n;
    uint32_t point;

    (void)s, (void)err;
    for (at = 0; at < size; at += n) {
        n = (size_t)utf8_get(text + at, &point);
        if (!unicode_is_mark(point))
            aligned_copy(out, text, at, n);
    }
    return 0;
}

static int run_prepend(const struct step *s, const char *text, size_t size, struct aligned *out,
                       struct error *err)
{
    (void)err;
    if (size)
        aligned_put(out, s->content, s->content_size, 0);
    aligned_copy(out, text, 0, size);
    return 0;
}

static int run_replace(const struct step *s, const char *text, size_t size, struct aligned *out,
                       struct error *err)
{
    return replace_run(s->replace, text, size, out, err);
}

/* What Google's neural machine translation took out, and took for a space. */
static int nmt_drops(uint32_t c)
{
    return (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
           c == 0x9F;
}

static int nmt_is_space(uint32_t c)
{
    return c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
           (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
           c == 0xFEFF || c == 0xFFFD;
}

static int run_nmt(const struct step *s, const char *text, size_t size, struct aligned *out,
                   struct error *err)
{
    size_t at, n;
    uint32_t point;

    (void)s, (void)err;
    for (at = 0; at < size; at += n) {
        n = (size_t)utf8_get(text + at, &point);
        if (nmt_is_space(point))
            aligned_put(out, " ", 1, at);
        else if (!nmt_drops(point))
            aligned_copy(out, text, at, n);
    }
    return 0;
}

static int run_byte_level(const struct step *s, const char *text, size_t size, struct aligned *out,
                          struct error *err)
{
    (void)s, (void)err;
    byte_level_encode(text, out->zero, out->out);
    out->zero_out = out->out->size - out->from;
    byte_level_encode(text + out->zero, size - out->zero, out->out);
    return 0;
}

static int run_precompiled(const struct step *s, const char *text, size_t size, struct aligned *out,
                           struct error *err)
{
    (void)err;
    charsmap_run(s->charsmap, text, size, out);
    return 0;
}

/* ---- how they are written ---- */

static int parse_strip(const json_t *json, struct step *s, struct error *err)
{
    (void)err;
    s->left = json_is_true(json_object_get(json, "strip_left"));
    s->right = json_is_true(json_object_get(json, "strip_right"));
    return 0;
}

static int parse_prepend(const json_t *json, struct step *s, struct error *err)
{
    const json_t *value = json_object_get(json, "prepend");

    if (!json_is_string(value))
        return error_param(err, 400, "prepend", "normalizer: \"prepend\" is not a string");
    s->content_size = json_string_length(value);
    s->content = malloc(s->content_size + 1);
    if (!s->content)
        return error_set(err, 500, "normalizer: out of memory");
    memcpy(s->content, json_string_value(value), s->content_size + 1);
    return 0;
}

static int parse_replace(const json_t *json, struct step *s, struct error *err)
{
    s->replace = replace_open(json, err);
    return s->replace ? 0 : error_prefix(err, "normalizer: ");
}

static int parse_precompiled(const json_t *json, struct step *s, struct error *err)
{
    s->charsmap = charsmap_open(json_object_get(json, "precompiled_charsmap"), err);
    return s->charsmap ? 0 : error_prefix(err, "normalizer: ");
}

static const struct {
    const char *type;
    int (*run)(const struct step *s, const char *text, size_t size, struct aligned *out,
               struct error *err);
    int (*parse)(const json_t *json, struct step *s, struct error *err);
} types[] = {
    {"Lowercase", run_lowercase, NULL},        {"Strip", run_strip, parse_strip},
    {"StripAccents", run_strip_accents, NULL}, {"Prepend", run_prepend, parse_prepend},
    {"Replace", run_replace, parse_replace},   {"Nmt", run_nmt, NULL},
    {"ByteLevel", run_byte_level, NULL},       {"Precompiled", run_precompiled, parse_precompiled},
};

static int parse_step(const json_t *json, const char *type, struct step *s, struct error *err)
{
    size_t i;

    s->form = unicode_form_find(type);
    if (s->form >= 0) {
        s->run = run_form;
        return 0;
    }
    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(type, types[i].type))
            continue;
        s->run = types[i].run;
        return types[i].parse ? types[i].parse(json, s, err) : 0;
    }
    return error_param(err, 400, "normalizer", "normalizer: \"%s\" is not supported", type);
}

static int parse(const json_t *json, int depth, struct normalizer *n, struct error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    const json_t *list, *item;
    struct step *grown;
    size_t i;

    if (!type || depth > 8)
        return error_param(err, 400, "normalizer", "normalizer: no \"type\", or nested too deep");
    if (!strcmp(type, "Sequence")) {
        list = json_object_get(json, "normalizers");
        if (!json_is_array(list))
            return error_param(err, 400, "normalizers", "normalizer: \"normalizers\" is no list");
        json_array_foreach (list, i, item)
            if (parse(item, depth + 1, n, err))
                return -1;
        return 0;
    }
    grown = realloc(n->steps, (n->count + 1) * sizeof(*grown));
    if (!grown)
        return error_set(err, 500, "normalizer: out of memory");
    n->steps = grown;
    memset(&grown[n->count], 0, sizeof(*grown));
    return parse_step(json, type, &grown[n->count++], err);
}

struct normalizer *normalizer_open(const json_t *json, struct error *err)
{
    struct normalizer *n = calloc(1, sizeof(*n));

    if (!n) {
        error_set(err, 500, "normalizer: out of memory");
        return NULL;
    }
    if (json && !json_is_null(json) && parse(json, 0, n, err)) {
        normalizer_close(n);
        return NULL;
    }
    return n;
}

void normalizer_close(struct normalizer *n)
{
    size_t i;

    if (!n)
        return;
    for (i = 0; i < n->count; i++) {
        free(n->steps[i].content);
        replace_close(n->steps[i].replace);
        charsmap_close(n->steps[i].charsmap);
    }
    free(n->steps);
    free(n);
}

int normalizer_run(const struct normalizer *n, const char *text, size_t size, size_t *zero,
                   struct buffer *out, struct error *err)
{
    struct buffer now = {0}, next = {0};
    struct aligned aligned;
    size_t i, first = zero ? *zero : 0;
    int result = 0;

    buffer_append(&now, text, size);
    for (i = 0; i < n->count && !result && !now.failed; i++) {
        aligned = aligned_begin(&next, first < now.size ? first : now.size);
        result = n->steps[i].run(&n->steps[i], now.data ? now.data : "", now.size, &aligned, err);
        first = aligned.zero_out;
        buffer_clear(&now);
        now = next;
        memset(&next, 0, sizeof(next));
    }
    if (!result)
        buffer_append(out, now.data, now.size);
    if (!result && (now.failed || out->failed))
        result = error_set(err, 500, "normalizer: out of memory");
    if (zero)
        *zero = first < now.size ? first : now.size;
    buffer_clear(&now);
    return result;
}
