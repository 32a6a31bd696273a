/* normalize.c - see normalize.h.
 *
 * The `tokenizers` package normalizes with older Unicode data than utf8proc.  A character that its
 * data does not know has combining class 0 and no mapping: it stays as it is, and nothing before it
 * is reordered or composed with anything after it.  So such characters are copied, and only the
 * stretches of text between them go through utf8proc. */
#include "server/tokenizer/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "server/tokenizer/unicode_class.h"
#include "kernels/base/utf8.h"

enum kind { FORM, LOWERCASE, STRIP, PREPEND, REPLACE };

struct step {
    enum kind kind;
    utf8proc_option_t form;  /* FORM */
    int left, right;         /* STRIP */
    char *pattern, *content; /* REPLACE; PREPEND has only content */
    size_t pattern_size, content_size;
};

struct normalizer {
    struct step *steps;
    size_t count;
};

static const struct {
    const char *name;
    int form;
} forms[] = {
    {"NFC", UTF8PROC_COMPOSE},
    {"NFD", UTF8PROC_DECOMPOSE},
    {"NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
    {"NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
};

static int copy_string(const json_t *json, const char *key, char **copy, size_t *size,
                       struct error *err)
{
    const json_t *value = json_object_get(json, key);

    if (!json_is_string(value))
        return error_param(err, 400, key, "normalizer: \"%s\" is not a string", key);
    *size = json_string_length(value);
    *copy = malloc(*size + 1);
    if (!*copy)
        return error_set(err, 500, "normalizer: out of memory");
    memcpy(*copy, json_string_value(value), *size + 1);
    return 0;
}

static int parse_replace(const json_t *json, struct step *s, struct error *err)
{
    const json_t *pattern = json_object_get(json, "pattern");

    if (!json_object_get(pattern, "String"))
        return error_param(err, 400, "pattern",
                           "normalizer: Replace with a pattern that is not a String is not "
                           "supported");
    if (copy_string(pattern, "String", &s->pattern, &s->pattern_size, err) ||
        copy_string(json, "content", &s->content, &s->content_size, err))
        return -1;
    if (!s->pattern_size)
        return error_param(err, 400, "pattern", "normalizer: Replace of an empty string");
    return 0;
}

static int parse_step(const json_t *json, const char *type, struct step *s, struct error *err)
{
    size_t i;

    for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (!strcmp(type, forms[i].name)) {
            s->kind = FORM;
            s->form = (utf8proc_option_t)(forms[i].form | UTF8PROC_STABLE);
            return 0;
        }
    }
    if (!strcmp(type, "Lowercase")) {
        s->kind = LOWERCASE;
        return 0;
    }
    if (!strcmp(type, "Strip")) {
        s->kind = STRIP;
        s->left = json_is_true(json_object_get(json, "strip_left"));
        s->right = json_is_true(json_object_get(json, "strip_right"));
        return 0;
    }
    if (!strcmp(type, "Prepend")) {
        s->kind = PREPEND;
        return copy_string(json, "prepend", &s->content, &s->content_size, err);
    }
    if (!strcmp(type, "Replace")) {
        s->kind = REPLACE;
        return parse_replace(json, s, err);
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
        free(n->steps[i].pattern);
        free(n->steps[i].content);
    }
    free(n->steps);
    free(n);
}

/* The code points of one stretch of text between two characters that are copied. */
struct points {
    utf8proc_int32_t *data;
    size_t count, capacity;
};

static int points_room(struct points *p, size_t more)
{
    size_t capacity = p->capacity ? p->capacity : 256;
    utf8proc_int32_t *data;

    if (p->count + more <= p->capacity)
        return 0;
    while (capacity < p->count + more)
        capacity *= 2;
    data = realloc(p->data, capacity * sizeof(*data));
    if (!data)
        return -1;
    p->data = data;
    p->capacity = capacity;
    return 0;
}

/* Appends the full decomposition of every character, not yet in canonical order. */
static int decompose(utf8proc_option_t form, const char *text, size_t size, struct points *p)
{
    utf8proc_ssize_t n;
    uint32_t point;
    size_t at = 0;
    int boundary = 0;

    while (at < size) {
        at += (size_t)utf8_get(text + at, &point);
        if (points_room(p, 32)) /* the longest decomposition has 18 */
            return -1;
        n = utf8proc_decompose_char((utf8proc_int32_t)point, p->data + p->count, 32, form,
                                    &boundary);
        if (n < 0 || n > 32)
            return -1;
        p->count += (size_t)n;
    }
    return 0;
}

static unsigned combining_class(utf8proc_int32_t point)
{
    return (unsigned)utf8proc_get_property(point)->combining_class & 0xFFu;
}

/* Sorts a run of combining marks by class: a stable counting sort, linear in the run's length. */
static int order_run(utf8proc_int32_t *run, size_t count)
{
    utf8proc_int32_t *sorted = malloc(count * sizeof(*sorted));
    size_t start[257] = {0}, i;

    if (!sorted)
        return -1;
    for (i = 0; i < count; i++)
        start[combining_class(run[i]) + 1]++;
    for (i = 1; i < 257; i++)
        start[i] += start[i - 1];
    for (i = 0; i < count; i++)
        sorted[start[combining_class(run[i])]++] = run[i];
    memcpy(run, sorted, count * sizeof(*sorted));
    free(sorted);
    return 0;
}

/* Brings code points into canonical order: each run with classes other than 0 is sorted by class. */
static int order(struct points *p)
{
    size_t i = 0, start;
    int sorted;

    while (i < p->count) {
        if (!combining_class(p->data[i])) {
            i++;
            continue;
        }
        sorted = 1;
        for (start = i++; i < p->count && combining_class(p->data[i]); i++)
            if (combining_class(p->data[i]) < combining_class(p->data[i - 1]))
                sorted = 0;
        if (!sorted && order_run(p->data + start, i - start))
            return -1;
    }
    return 0;
}

/* Normalizes one stretch of text.  (utf8proc_map would order its marks in quadratic time.) */
static int stretch(utf8proc_option_t form, const char *text, size_t size, struct buffer *out,
                   struct error *err)
{
    struct points p = {0};
    utf8proc_ssize_t count;
    char bytes[4];
    int result = 0;
    size_t i;

    if (!size)
        return 0;
    if (decompose(form, text, size, &p) || order(&p)) {
        result = error_set(err, 500, "normalizer: out of memory");
        goto done;
    }
    if (form & UTF8PROC_COMPOSE) {
        count = utf8proc_normalize_utf32(p.data, (utf8proc_ssize_t)p.count, form);
        if (count < 0) {
            result = error_set(err, 500, "normalizer: %s", utf8proc_errmsg(count));
            goto done;
        }
        p.count = (size_t)count;
    }
    for (i = 0; i < p.count; i++)
        buffer_append(out, bytes, (size_t)utf8_put((uint32_t)p.data[i], bytes));
done:
    free(p.data);
    return result;
}

static int ascii(const char *text, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++)
        if ((unsigned char)text[i] >= 0x80)
            return 0;
    return 1;
}

static int run_form(const struct step *s, const char *text, size_t size, struct buffer *out,
                    struct error *err)
{
    size_t at = 0, start = 0;
    uint32_t point;
    int n;

    if (ascii(text, size)) {
        buffer_append(out, text, size);
        return 0;
    }
    while (at < size) {
        n = utf8_get(text + at, &point);
        if (point >= 0x300 && unicode_is_plain(point)) {
            if (stretch(s->form, text + start, at - start, out, err))
                return -1;
            buffer_append(out, text + at, (size_t)n);
            start = at + (size_t)n;
        }
        at += (size_t)n;
    }
    return stretch(s->form, text + start, size - start, out, err);
}

static void run_lowercase(const char *text, size_t size, struct buffer *out)
{
    uint32_t point, lower[2];
    size_t at = 0;
    char bytes[4];
    int i, n;

    while (at < size) {
        at += (size_t)utf8_get(text + at, &point);
        n = unicode_lower_of(point, lower);
        for (i = 0; i < n; i++)
            buffer_append(out, bytes, (size_t)utf8_put(lower[i], bytes));
    }
}

static void run_strip(const struct step *s, const char *text, size_t size, struct buffer *out)
{
    size_t first = 0, last = size, at = 0, n;
    uint32_t point;
    int inside = 0;

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
    if (!inside && (s->left || s->right))
        return;
    buffer_append(out, text + first, last - first);
}

static void run_replace(const struct step *s, const char *text, size_t size, struct buffer *out)
{
    const char *end = text + size, *hit;

    while ((hit = memmem(text, (size_t)(end - text), s->pattern, s->pattern_size))) {
        buffer_append(out, text, (size_t)(hit - text));
        buffer_append(out, s->content, s->content_size);
        text = hit + s->pattern_size;
    }
    buffer_append(out, text, (size_t)(end - text));
}

static int run_step(const struct step *s, const char *text, size_t size, struct buffer *out,
                    struct error *err)
{
    switch (s->kind) {
    case FORM:
        return run_form(s, text, size, out, err);
    case LOWERCASE:
        run_lowercase(text, size, out);
        return 0;
    case STRIP:
        run_strip(s, text, size, out);
        return 0;
    case PREPEND:
        if (size)
            buffer_append(out, s->content, s->content_size);
        buffer_append(out, text, size);
        return 0;
    case REPLACE:
        run_replace(s, text, size, out);
        return 0;
    }
    return error_set(err, 500, "normalizer: unknown step");
}

int normalizer_run(const struct normalizer *n, const char *text, size_t size, struct buffer *out,
                   struct error *err)
{
    struct buffer now = {0}, next = {0};
    int result = 0;
    size_t i;

    buffer_append(&now, text, size);
    for (i = 0; i < n->count && !result; i++) {
        result = run_step(&n->steps[i], now.data ? now.data : "", now.size, &next, err);
        buffer_clear(&now);
        now = next;
        memset(&next, 0, sizeof(next));
    }
    if (!result)
        buffer_append(out, now.data, now.size);
    if (now.failed || out->failed)
        result = error_set(err, 500, "normalizer: out of memory");
    buffer_clear(&now);
    return result;
}
