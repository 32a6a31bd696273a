/* pattern.c - see pattern.h. */
#include "server/tokenizer/pattern.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "server/tokenizer/unicode_class.h"
#include "kernels/base/utf8.h"

struct pattern {
    pcre2_code *code;
    int classes; /* it has a \p, \s or \d, which ask for the category of a character */
};

struct pattern_scan {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

struct pattern *pattern_open(const char *text, size_t size, int literal, struct error *err)
{
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP);
    struct buffer translated = {0};
    struct pattern *p = calloc(1, sizeof(*p));
    PCRE2_UCHAR message[160];
    PCRE2_SIZE offset;
    int code;

    if (p && literal)
        buffer_append(&translated, text, size);
    else if (p && pattern_translate(text, size, &translated, &p->classes, err))
        goto failed;
    if (!p || translated.failed) {
        error_set(err, 500, "pattern: out of memory");
        goto failed;
    }
    p->code = pcre2_compile((PCRE2_SPTR)(translated.data ? translated.data : ""), translated.size,
                            options, &code, &offset, NULL);
    if (!p->code) {
        pcre2_get_error_message(code, message, sizeof(message));
        error_param(err, 400, "pattern", "pattern \"%.120s\": %s", text, (char *)message);
        goto failed;
    }
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* may fail: matching is then only slower */
    buffer_clear(&translated);
    return p;
failed:
    buffer_clear(&translated);
    free(p);
    return NULL;
}

void pattern_close(struct pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    free(p);
}

struct pattern_scan *pattern_scan_open(struct error *err)
{
    struct pattern_scan *s = calloc(1, sizeof(*s));

    if (s) {
        s->data = pcre2_match_data_create(1, NULL);
        s->context = pcre2_match_context_create(NULL);
        s->stack = pcre2_jit_stack_create(32 * 1024, 16 * 1024 * 1024, NULL);
    }
    if (!s || !s->data || !s->context) {
        error_set(err, 500, "pattern: out of memory");
        pattern_scan_close(s);
        return NULL;
    }
    if (s->stack)
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    return s;
}

void pattern_scan_close(struct pattern_scan *s)
{
    if (!s)
        return;
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    free(s);
}

/* Finds the next match at or after `from`: returns 1 and its start and end, 0 for none, -1 error. */
static int match(const struct pattern *p, struct pattern_scan *s, const char *text, size_t size,
                 size_t from, size_t *start, size_t *end, struct error *err)
{
    PCRE2_UCHAR message[160];
    PCRE2_SIZE *at;
    int rc;

    rc =
        pcre2_match(p->code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK, s->data, s->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         s->data, s->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0) {
        pcre2_get_error_message(rc, message, sizeof(message));
        return error_set(err, 500, "pre_tokenizer: pattern at byte %zu of a piece of %zu: %s", from,
                         size, (char *)message);
    }
    at = pcre2_get_ovector_pointer(s->data);
    *start = at[0];
    *end = at[1];
    return 1;
}

static size_t width_at(const char *text, size_t size, size_t at)
{
    uint32_t point;

    return at < size ? (size_t)utf8_get(text + at, &point) : 1;
}

int pattern_each(const struct pattern *p, struct pattern_scan *s, const char *text, size_t size,
                 int (*found)(void *context, size_t start, size_t end), void *context,
                 struct error *err)
{
    size_t from = 0, start = 0, end = 0;
    int skip_empty = 0, rc;

    /* Backtracking may look at each character a few times: allowed.  The limit stops patterns whose
     * cost grows faster than the text. */
    pcre2_set_match_limit(s->context, (uint32_t)(size < 100000000 ? 10000000 + 32 * size : ~0u));
    while (from <= size) {
        rc = match(p, s, text, size, from, &start, &end, err);
        if (rc <= 0)
            return rc;
        from = end;
        if (start == end) {
            from += width_at(text, size, end);
            if (skip_empty) {
                skip_empty = 0;
                continue;
            }
        } else {
            skip_empty = 1;
        }
        if (found(context, start, end))
            return error_set(err, 500, "pre_tokenizer: out of memory");
    }
    return 0;
}

void pattern_view(const struct pattern *p, const char *text, size_t size, struct buffer *out)
{
    size_t at = 0, good = 0, n;
    uint32_t point, shown;
    char bytes[4];

    while (p->classes && at < size) {
        if ((unsigned char)text[at] < 0xCD) { /* nothing to replace below U+0340 */
            at += (unsigned char)text[at] < 0x80 ? 1 : 2;
            continue;
        }
        n = (size_t)utf8_get(text + at, &point);
        shown = unicode_stand_in(point);
        if (shown != point) {
            buffer_append(out, text + good, at - good);
            buffer_append(out, bytes, (size_t)utf8_put(shown, bytes));
            good = at + n;
        }
        at += n;
    }
    buffer_append(out, text + good, size - good);
}
