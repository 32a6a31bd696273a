/* unicode_form.c - see unicode_form.h.
 *
 * The `tokenizers` package normalizes with older Unicode data than utf8proc.  A character that its
 * data does not know has combining class 0 and no mapping: it stays as it is, and nothing before it
 * is reordered or composed with anything after it.  So such characters are copied, and only the
 * stretches of text between them go through utf8proc. */
#include "server/tokenizer/unicode_form.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "server/tokenizer/unicode_class.h"
#include "kernels/base/utf8.h"

static const struct {
    const char *name;
    int form;
} forms[] = {
    {"NFC", UTF8PROC_COMPOSE},
    {"NFD", UTF8PROC_DECOMPOSE},
    {"NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
    {"NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
};

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

int unicode_form_find(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (!strcmp(name, forms[i].name))
            return forms[i].form | UTF8PROC_STABLE;
    return -1;
}

int unicode_form_run(int form, const char *text, size_t size, struct buffer *out, struct error *err)
{
    const utf8proc_option_t option = (utf8proc_option_t)form;
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
            if (stretch(option, text + start, at - start, out, err))
                return -1;
            buffer_append(out, text + at, (size_t)n);
            start = at + (size_t)n;
        }
        at += (size_t)n;
    }
    return stretch(option, text + start, size - start, out, err);
}
