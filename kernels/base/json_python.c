/* json_python.c - see json_python.h.  Python: Lib/json/decoder.py, Lib/json/scanner.py. */
#include "kernels/base/json_python.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Digits that any 64-bit integer has room for. */
enum { SAFE_DIGITS = 18 };

struct reader {
    const char *at, *end;
    struct buffer *out;
};

static size_t left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}

static void take(struct reader *r, size_t size)
{
    buffer_append(r->out, r->at, size);
    r->at += size;
}

/* The code unit of a \uXXXX at p, or -1. */
static int code_unit(const struct reader *r, const char *p)
{
    int unit = 0;

    if (r->end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        const int c = tolower((unsigned char)p[i]);

        if (!isxdigit(c))
            return -1;
        unit = unit * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return unit;
}

static int is_high_surrogate(int unit)
{
    return unit >= 0xd800 && unit < 0xdc00;
}

static int is_low_surrogate(int unit)
{
    return unit >= 0xdc00 && unit < 0xe000;
}

/* An escape sequence; r->at is at its backslash. */
static void read_escape(struct reader *r)
{
    const int unit = code_unit(r, r->at);

    if (is_high_surrogate(unit) && is_low_surrogate(code_unit(r, r->at + 6))) {
        take(r, 12);
    } else if (unit == 0 || is_high_surrogate(unit) || is_low_surrogate(unit)) {
        buffer_text(r->out, "\\ufffd");
        r->at += 6;
    } else {
        take(r, left(r) < 2 ? left(r) : 2);
    }
}

static void read_string(struct reader *r)
{
    take(r, 1);
    while (r->at < r->end && *r->at != '"') {
        if (*r->at == '\\')
            read_escape(r);
        else
            take(r, 1);
    }
    take(r, r->at < r->end);
}

static int is_number_byte(char c)
{
    return isdigit((unsigned char)c) || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E';
}

static void read_number(struct reader *r)
{
    size_t size = 0;
    int whole = 1;
    char *copy;
    double value;

    while (size < left(r) && is_number_byte(r->at[size]))
        whole &= isdigit((unsigned char)r->at[size++]) || r->at[size - 1] == '-';
    if (whole && size <= SAFE_DIGITS) {
        take(r, size);
        return;
    }
    copy = strndup(r->at, size);
    value = copy ? strtod(copy, NULL) : 0;
    free(copy);
    r->out->failed |= !copy;
    if (isfinite(value)) {
        take(r, size);
        buffer_text(r->out, whole ? ".0" : "");
    } else {
        buffer_text(r->out, value < 0 ? "\"-Infinity\"" : "\"Infinity\"");
        r->at += size;
    }
}

/* Whether one of Python's names for numbers stands here; then it is quoted. */
static int read_name(struct reader *r)
{
    static const char *const names[] = {"NaN", "Infinity", "-Infinity"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const size_t size = strlen(names[i]);

        if (left(r) >= size && memcmp(r->at, names[i], size) == 0) {
            buffer_format(r->out, "\"%s\"", names[i]);
            r->at += size;
            return 1;
        }
    }
    return 0;
}

void json_python(const char *text, size_t size, struct buffer *out)
{
    struct reader r = {.at = text, .end = text + size, .out = out};

    while (r.at < r.end) {
        if (*r.at == '"')
            read_string(&r);
        else if (read_name(&r))
            continue;
        else if (isdigit((unsigned char)*r.at) || *r.at == '-')
            read_number(&r);
        else
            take(&r, 1);
    }
}
