/* pattern_dialect.c - translates a regular expression from Oniguruma's Ruby syntax to PCRE2's.
 *
 * Only constructs known to mean the same to both are let through, some of them rewritten.  Anything
 * else is refused: a pattern that compiles but means something else would give wrong token ids
 * without any error. */
#include "server/tokenizer/pattern.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/tokenizer/unicode_class.h"
#include "kernels/base/utf8.h"

enum { DEEPEST = 64 };

struct dialect {
    const char *text;
    size_t size, at;
    struct buffer *out;
    size_t group_start[DEEPEST]; /* where in `out` each open group begins */
    int group_fold[DEEPEST];     /* `fold` as it was outside that group */
    int depth;                   /* open groups */
    int fold;                    /* inside (?i:...), where upper and lower case are equal */
    size_t atom;                 /* where in `out` the last atom begins; SIZE_MAX: none to repeat */
    char folded;                 /* inside (?i:...): the literal just before, in lower case */
    int classes;                 /* seen: \p, \s or \d */
    int wide;                    /* seen: a literal that pattern_view may replace in the text */
    struct error *err;
};

static int refuse(struct dialect *d, const char *what)
{
    return error_param(d->err, 400, "pattern", "pattern: %s at byte %zu is not supported", what,
                       d->at);
}

static int peek(const struct dialect *d, size_t ahead)
{
    return d->at + ahead < d->size ? (unsigned char)d->text[d->at + ahead] : -1;
}

static int starts(const struct dialect *d, const char *prefix)
{
    size_t n = strlen(prefix);

    return d->size - d->at >= n && !memcmp(d->text + d->at, prefix, n);
}

static void begin_atom(struct dialect *d)
{
    d->atom = d->out->size;
    d->folded = 0;
}

/* Translates \p{..}: a general category by its short name, or Han.  d->at is at the 'p' or 'P'. */
static int property(struct dialect *d)
{
    static const char *const known =
        " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C "
        "Cc Cf Co Cn ";
    char kind = d->text[d->at], name[8] = " ";
    size_t n = 0;
    int negate = kind == 'P';

    if (d->fold)
        return refuse(d, "\\p inside (?i:)");
    d->classes = 1;
    d->at++;
    if (peek(d, 0) != '{')
        return refuse(d, "\\p without braces");
    d->at++;
    if (peek(d, 0) == '^') {
        negate = !negate;
        d->at++;
    }
    while (peek(d, n) > 0 && peek(d, n) != '}' && n < 5)
        n++;
    if (peek(d, n) != '}')
        return refuse(d, "this \\p{} name");
    memcpy(name + 1, d->text + d->at, n);
    memcpy(name + 1 + n, " ", 2);
    d->at += n + 1;
    if (!strcmp(name, " Han "))
        buffer_text(d->out, negate ? "\\P{sc:Han}" : "\\p{sc:Han}");
    else if (strstr(known, name))
        buffer_format(d->out, "\\%c{%.*s}", negate ? 'P' : 'p', (int)n, name + 1);
    else
        return refuse(d, "this \\p{} name");
    return 0;
}

/* Returns whether Oniguruma, ignoring case, takes these two letters for one character: "ss" for a
 * sharp s, "fi" for its ligature.  PCRE2 does not. */
static int folds_as_pair(char a, char b)
{
    char pair[4] = {' ', a, b, 0};

    return a && strstr(" ss st ff fi fl", pair) != NULL;
}

static int literal(struct dialect *d, uint32_t point, int in_class)
{
    char bytes[4], lower = 0;
    int n;

    d->wide |= unicode_has_stand_in(point, point);
    if (d->fold && point >= 0x80)
        return refuse(d, "a character beyond ASCII inside (?i:)");
    if (d->fold && !in_class) {
        lower = (char)tolower((int)point);
        if (folds_as_pair(d->folded, lower))
            return refuse(d, "letters that fold into one character inside (?i:)");
    }
    if (point < 0x80 && !isalnum((int)point) && point > ' ')
        buffer_format(d->out, "\\%c", (int)point);
    else if (point < 0x20)
        buffer_format(d->out, "\\x{%x}", (unsigned)point);
    else {
        n = utf8_put(point, bytes);
        buffer_append(d->out, bytes, (size_t)n);
    }
    d->folded = lower;
    return 0;
}

/* Reads \xHH, \x{H..} or \uHHHH; d->at is at the 'x' or 'u'. */
static int hexadecimal(struct dialect *d, uint32_t *point)
{
    size_t most = d->text[d->at] == 'u' ? 4 : 2, n = 0;
    int braces = d->text[d->at] == 'x' && peek(d, 1) == '{';
    char digits[8] = "";

    d->at += braces ? 2 : 1;
    if (braces)
        most = 6;
    while (n < most && peek(d, n) > 0 && isxdigit(peek(d, n)))
        n++;
    if (!n || (!braces && n != most) || (braces && peek(d, n) != '}'))
        return refuse(d, "this code point");
    memcpy(digits, d->text + d->at, n);
    d->at += n + (braces ? 1 : 0);
    *point = (uint32_t)strtoul(digits, NULL, 16);
    if ((!braces && most == 2 && *point >= 0x80) || *point > 0x10FFFF ||
        (*point >= 0xD800 && *point < 0xE000))
        return refuse(d, "this code point");
    return 0;
}

/* Reads an escape that stands for one character.  Returns 1, 0 if it is another escape, or -1. */
static int escaped_character(struct dialect *d, uint32_t *point)
{
    static const char *const from = "tnrfvae", *const to = "\t\n\r\f\v\a\x1B";
    int c = peek(d, 0);
    const char *found;

    if (c == 'x' || c == 'u')
        return hexadecimal(d, point) ? -1 : 1;
    if (c > 0 && c < 0x80 && (found = strchr(from, c))) {
        *point = (uint32_t)to[found - from];
        d->at++;
        return 1;
    }
    if (c >= 0x80 || (c > 0 && !isalnum(c))) {
        d->at += (size_t)utf8_get(d->text + d->at, point);
        return 1;
    }
    return 0;
}

/* Translates \s, \S, \d, \D, \p{..} or \P{..}; d->at is behind the backslash.  They mean the same
 * inside [...]. */
static int escaped_class(struct dialect *d)
{
    int c = peek(d, 0);

    if (c == 'p' || c == 'P')
        return property(d);
    if (c == 's' || c == 'S' || c == 'd' || c == 'D') {
        if (d->fold)
            return refuse(d, "a character class inside (?i:)");
        d->classes = 1;
        buffer_format(d->out, "\\%c", c);
        d->at++;
        return 0;
    }
    return refuse(d, "this escape");
}

/* Reads one member of [...] at d->at.  Returns 1 for a character, 0 for a set, -1 if refused. */
static int class_member(struct dialect *d, uint32_t *point)
{
    int rc;

    if (peek(d, 0) == '\\') {
        d->at++;
        rc = escaped_character(d, point);
        return rc ? rc : escaped_class(d);
    }
    if (peek(d, 0) == '[' || starts(d, "&&"))
        return refuse(d, "a set inside [...]");
    d->at += (size_t)utf8_get(d->text + d->at, point);
    return 1;
}

static int class_range(struct dialect *d, uint32_t first)
{
    uint32_t last = first;
    int rc;

    if (literal(d, first, 1))
        return -1;
    if (peek(d, 0) != '-' || peek(d, 1) == ']')
        return 0;
    d->at++;
    rc = class_member(d, &last);
    if (rc < 0)
        return -1;
    if (!rc || last < first)
        return refuse(d, "this range");
    buffer_text(d->out, "-");
    d->wide |= unicode_has_stand_in(first, last);
    return literal(d, last, 1);
}

static int character_class(struct dialect *d)
{
    uint32_t point = 0;
    int rc, members = 0;

    begin_atom(d);
    d->at++;
    buffer_text(d->out, "[");
    if (peek(d, 0) == '^') {
        if (d->fold)
            return refuse(d, "[^...] inside (?i:)");
        buffer_text(d->out, "^");
        d->at++;
    }
    while (peek(d, 0) != ']' || !members) {
        if (peek(d, 0) < 0 || peek(d, 0) == ']')
            return refuse(d, "an unclosed or empty [...]");
        if (members && peek(d, 0) == '-' && peek(d, 1) != ']')
            return refuse(d, "a '-' in the middle of [...]");
        rc = class_member(d, &point);
        if (rc < 0 || (rc && class_range(d, point)))
            return -1;
        members++;
    }
    d->at++;
    buffer_text(d->out, "]");
    return 0;
}

static int open_group(struct dialect *d)
{
    static const char *const heads[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    size_t i;

    if (d->depth == DEEPEST)
        return refuse(d, "a group nested this deep");
    begin_atom(d);
    d->group_start[d->depth] = d->atom;
    d->group_fold[d->depth++] = d->fold;
    d->atom = SIZE_MAX;
    if (peek(d, 1) != '?') {
        d->at++;
        buffer_text(d->out, "(?:"); /* nothing refers to groups, so none is captured */
        return 0;
    }
    for (i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        if (starts(d, heads[i])) {
            d->at += strlen(heads[i]);
            buffer_text(d->out, heads[i]);
            if (i == 1)
                d->fold = 1;
            return 0;
        }
    }
    return refuse(d, "this kind of group");
}

static int close_group(struct dialect *d)
{
    if (!d->depth)
        return refuse(d, "an unopened ')'");
    d->at++;
    d->fold = d->group_fold[--d->depth];
    d->atom = d->group_start[d->depth];
    d->folded = 0;
    buffer_text(d->out, ")");
    return 0;
}

/* Puts the last atom with its quantifier into a group, so that a second quantifier repeats both. */
static void wrap_atom(struct dialect *d)
{
    struct buffer tail = {0};

    buffer_append(&tail, d->out->data + d->atom, d->out->size - d->atom);
    d->out->size = d->atom;
    buffer_text(d->out, "(?:");
    buffer_append(d->out, tail.data, tail.size);
    buffer_text(d->out, ")");
    d->out->failed |= tail.failed;
    buffer_clear(&tail);
}

/* Reads {n}, {n,}, {,m} or {n,m}: returns its length, or 0 when the brace is a literal. */
static size_t interval(const struct dialect *d, unsigned *low, unsigned *high, int *open)
{
    size_t n = 1, start;

    *low = *high = 0;
    *open = 0;
    for (start = n; peek(d, n) > 0 && isdigit(peek(d, n)) && n - start < 5; n++)
        *low = *low * 10 + (unsigned)(peek(d, n) - '0');
    *high = *low;
    if (peek(d, n) == '}')
        return n > start ? n + 1 : 0;
    if (peek(d, n) != ',')
        return 0;
    if (n == start && peek(d, n + 1) == '}')
        return 0;
    *high = 0;
    for (start = ++n; peek(d, n) > 0 && isdigit(peek(d, n)) && n - start < 5; n++)
        *high = *high * 10 + (unsigned)(peek(d, n) - '0');
    *open = n == start;
    return peek(d, n) == '}' ? n + 1 : 0;
}

static int repeat_interval(struct dialect *d, size_t length, unsigned low, unsigned high, int open)
{
    int next = peek(d, length);

    if (!open && high < low)
        return refuse(d, "this interval");
    if (next == '?' && !open && low == high)
        return refuse(d, "{n}?");
    if (open)
        buffer_format(d->out, "{%u,}", low);
    else
        buffer_format(d->out, "{%u,%u}", low, high);
    d->at += length;
    if (next == '?') {
        buffer_text(d->out, "?");
        d->at++;
    } else if (next == '+') { /* in the Ruby dialect a second repeat, not a possessive one */
        wrap_atom(d);
        buffer_text(d->out, "+");
        d->at++;
    }
    return 0;
}

static int repeat(struct dialect *d)
{
    unsigned low, high;
    size_t length;
    int open, c = peek(d, 0);

    if (d->atom == SIZE_MAX)
        return refuse(d, "a repeat of nothing");
    if (c == '{') {
        length = interval(d, &low, &high, &open);
        if (repeat_interval(d, length, low, high, open))
            return -1;
    } else {
        buffer_format(d->out, "%c", c);
        d->at++;
        if (peek(d, 0) == '?' || peek(d, 0) == '+') {
            buffer_format(d->out, "%c", peek(d, 0));
            d->at++;
        }
    }
    d->folded = 0;
    d->atom = SIZE_MAX;
    c = peek(d, 0);
    if (c == '*' || c == '+' || c == '?' || (c == '{' && interval(d, &low, &high, &open)))
        return refuse(d, "a repeat of a repeat");
    return 0;
}

/* Translates \A, \z, ^ and $ with the meaning that Ruby gives them: ^ and $ match at every line. */
static int anchor(struct dialect *d)
{
    int c = peek(d, 0) == '\\' ? peek(d, 1) : peek(d, 0);

    buffer_text(d->out, c == 'A'   ? "\\A"
                        : c == 'z' ? "\\z"
                        : c == '^' ? "(?:\\A|(?<=\\n)(?!\\z))"
                                   : "(?:(?=\\n)|(?<!\\n)\\z)");
    d->at += peek(d, 0) == '\\' ? 2 : 1;
    d->atom = SIZE_MAX;
    d->folded = 0;
    return 0;
}

static int escape(struct dialect *d)
{
    uint32_t point = 0;
    size_t atom = d->out->size;
    int rc;

    if (peek(d, 1) == 'A' || peek(d, 1) == 'z')
        return anchor(d);
    d->at++;
    d->atom = atom;
    rc = escaped_character(d, &point);
    if (rc < 0)
        return -1;
    if (rc)
        return literal(d, point, 0);
    d->folded = 0;
    return escaped_class(d);
}

static int one(struct dialect *d)
{
    unsigned low, high;
    uint32_t point = 0;
    int open, c = peek(d, 0);

    switch (c) {
    case '\\':
        return escape(d);
    case '[':
        return character_class(d);
    case '(':
        return open_group(d);
    case ')':
        return close_group(d);
    case '^':
    case '$':
        return anchor(d);
    case '*':
    case '+':
    case '?':
        return repeat(d);
    case '|':
    case '.':
        begin_atom(d);
        if (c == '|')
            d->atom = SIZE_MAX;
        buffer_text(d->out, c == '|' ? "|" : "[^\\n]");
        d->at++;
        return 0;
    default:
        if (c == '{' && interval(d, &low, &high, &open))
            return repeat(d);
        d->atom = d->out->size;
        d->at += (size_t)utf8_get(d->text + d->at, &point);
        return literal(d, point, 0);
    }
}

int pattern_translate(const char *text, size_t size, struct buffer *out, int *classes,
                      struct error *err)
{
    struct dialect d = {.text = text, .size = size, .out = out, .atom = SIZE_MAX, .err = err};
    size_t bad;

    if (utf8_check(text, size, &bad))
        return error_param(err, 400, "pattern", "pattern: not UTF-8 at byte %zu", bad);
    buffer_append(out, "", 0);
    while (d.at < size)
        if (one(&d))
            return -1;
    if (d.depth)
        return refuse(&d, "an unclosed '('");
    if (d.classes && d.wide)
        return refuse(&d, "a class beside literals newer than Unicode 14");
    *classes = d.classes;
    return 0;
}
