/* head.c - see head.h. */
#include "server/http/head.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

static int is_token_byte(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static int is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!is_token_byte((unsigned char)s[i]))
            return 0;
    return n > 0;
}

static int is_named(const char *name, size_t n, const char *wanted)
{
    return n == strlen(wanted) && strncasecmp(name, wanted, n) == 0;
}

static int keep(char *out, size_t most, const char *value, size_t n, const char *name,
                struct error *err)
{
    if (n >= most)
        return error_param(err, 431, name, "%s is longer than %zu bytes", name, most - 1);
    memcpy(out, value, n);
    out[n] = '\0';
    return 0;
}

/* ---- fields ---- */

static int read_length(struct head *h, const char *value, size_t n, struct error *err)
{
    int64_t length = 0;

    for (size_t i = 0; i < n || !n; i++) {
        if (!n || value[i] < '0' || value[i] > '9')
            return error_param(err, 400, "Content-Length",
                               "Content-Length '%.*s' is no whole number", (int)(n > 40 ? 40 : n),
                               value);
        if (length > (INT64_MAX - 9) / 10)
            return error_param(err, 413, "Content-Length", "Content-Length %.*s is too large",
                               (int)(n > 40 ? 40 : n), value);
        length = 10 * length + (value[i] - '0');
    }
    if (h->length >= 0 && h->length != length)
        return error_param(err, 400, "Content-Length",
                           "Content-Length is given twice: %" PRId64 " and %" PRId64, h->length,
                           length);
    h->length = length;
    return 0;
}

static int read_coding(struct head *h, const char *value, size_t n, struct error *err)
{
    if (!is_named(value, n, "chunked"))
        return error_param(err, 501, "Transfer-Encoding",
                           "Transfer-Encoding '%.*s'; chunked alone is taken",
                           (int)(n > 40 ? 40 : n), value);
    if (h->chunked)
        return error_param(err, 400, "Transfer-Encoding", "Transfer-Encoding is given twice");
    h->chunked = 1;
    return 0;
}

void head_begin(struct head *h)
{
    memset(h, 0, sizeof(*h));
    h->length = -1;
    h->minor = 1;
}

int head_field(struct head *h, const char *name, size_t name_size, const char *value,
               size_t value_size, struct error *err)
{
    if (++h->fields > HEAD_FIELDS)
        return error_param(err, 431, "head", "more than %d header lines", HEAD_FIELDS);
    if (is_named(name, name_size, "Content-Length"))
        return read_length(h, value, value_size, err);
    if (is_named(name, name_size, "Transfer-Encoding"))
        return read_coding(h, value, value_size, err);
    if (is_named(name, name_size, "Host")) {
        h->hosts++;
        return keep(h->host, sizeof(h->host), value, value_size, "Host", err);
    }
    if (is_named(name, name_size, "Origin"))
        return keep(h->origin, sizeof(h->origin), value, value_size, "Origin", err);
    if (is_named(name, name_size, "Content-Encoding"))
        return keep(h->encoding, sizeof(h->encoding), value, value_size, "Content-Encoding", err);
    h->expects |= is_named(name, name_size, "Expect");
    return 0;
}

int head_check(const struct head *h, struct error *err)
{
    if (h->chunked && h->length >= 0)
        return error_param(err, 400, "Content-Length",
                           "Content-Length beside Transfer-Encoding: one of them is needed");
    if (h->chunked && !h->minor)
        return error_param(err, 400, "Transfer-Encoding", "HTTP/1.0 has no Transfer-Encoding");
    if (h->hosts > 1)
        return error_param(err, 400, "Host", "Host is given %d times", h->hosts);
    if (!h->hosts && h->minor)
        return error_param(err, 400, "Host", "HTTP/1.1 needs a Host");
    return 0;
}

/* ---- lines ---- */

/* The line at s without its end; *next: behind it.  0: its end is not there yet. */
static int next_line(const char *s, size_t size, size_t *line, size_t *next)
{
    const char *end = memchr(s, '\n', size);

    if (!end)
        return 0;
    *next = (size_t)(end - s) + 1;
    *line = *next - 1 - (*next > 1 && end[-1] == '\r');
    return 1;
}

static int is_clean(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)s[i] < ' ' && s[i] != '\t') || s[i] == 127)
            return 0;
    return 1;
}

static int wrong(struct error *err, const char *what)
{
    return error_param(err, 400, "head", "this is no HTTP/1.1: %s", what);
}

static int read_version(struct head *h, const char *s, size_t n, struct error *err)
{
    if (n != 8 || memcmp(s, "HTTP/", 5) != 0 || s[6] != '.')
        return wrong(err, "the first line is not METHOD TARGET HTTP/1.1");
    if (s[5] != '1' || s[7] < '0' || s[7] > '9')
        return error_param(err, 505, "head", "%.8s is not spoken here; HTTP/1.1 is", s);
    h->minor = s[7] != '0';
    return 0;
}

static int read_first(struct head *h, const char *s, size_t n, struct error *err)
{
    const char *space = memchr(s, ' ', n), *last = memrchr(s, ' ', n);

    if (!space || space == last || !is_clean(s, n) || !is_token(s, (size_t)(space - s)))
        return wrong(err, "the first line is not METHOD TARGET HTTP/1.1");
    if (keep(h->method, sizeof(h->method), s, (size_t)(space - s), "method", err))
        return -1;
    h->target = space + 1;
    h->target_size = (size_t)(last - h->target);
    if (h->target_size > HEAD_TARGET)
        return error_param(err, 414, "path", "a target of %zu bytes; the limit is %d",
                           h->target_size, HEAD_TARGET);
    if (!h->target_size || memchr(h->target, ' ', h->target_size))
        return wrong(err, "the first line is not METHOD TARGET HTTP/1.1");
    return read_version(h, last + 1, n - (size_t)(last + 1 - s), err);
}

/* What says where a request ends. */
static int is_length(const char *name, size_t n)
{
    return is_named(name, n, "Content-Length") || is_named(name, n, "Transfer-Encoding");
}

static int read_line(struct head *h, const char *s, size_t n, struct error *err)
{
    const char *colon = memchr(s, ':', n), *value;
    size_t size;

    if (*s == ' ' || *s == '\t')
        return wrong(err, "a header line that begins with a space");
    if (!colon || !is_token(s, (size_t)(colon - s)) || !is_clean(s, n))
        return wrong(err, "a header line that is not NAME: VALUE");
    value = colon + 1;
    size = n - (size_t)(value - s);
    while (size && (*value == ' ' || *value == '\t')) {
        value++;
        size--;
    }
    while (size && (value[size - 1] == ' ' || value[size - 1] == '\t'))
        size--;
    /* RFC 9112 allows it, libmicrohttpd does not read it. */
    if (value + size != s + n && is_length(s, (size_t)(colon - s)))
        return error_param(err, 400,
                           is_named(s, (size_t)(colon - s), "Content-Length") ? "Content-Length"
                                                                              : "Transfer-Encoding",
                           "%.*s with a space behind its value", (int)(colon - s), s);
    return head_field(h, s, (size_t)(colon - s), value, size, err);
}

enum head_state head_read(const char *bytes, size_t size, struct head *out, struct error *err)
{
    size_t at = 0, line, next;
    int first = 1;

    head_begin(out);
    while (next_line(bytes + at, size - at, &line, &next)) {
        const char *s = bytes + at;

        at += next;
        if (at > HEAD_MOST)
            break;
        if (!line && first && at <= 8)
            continue; /* empty lines before a request are skipped, as RFC 9112 2.2 asks */
        if (!line && !first) {
            out->bytes = at;
            return head_check(out, err) ? HEAD_WRONG : HEAD_WHOLE;
        }
        if (first ? read_first(out, s, line, err) : read_line(out, s, line, err))
            return HEAD_WRONG;
        first = 0;
    }
    if (size >= HEAD_MOST) {
        error_param(err, first ? 414 : 431, "head", "a head of more than %d bytes", HEAD_MOST);
        return HEAD_WRONG;
    }
    return HEAD_PARTIAL;
}

/* ---- bodies and targets ---- */

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The size that a chunk's line states, or -1. */
static int64_t chunk_size(const char *s, size_t n)
{
    size_t digits = 0;
    int64_t size = 0;

    while (digits < n && digit(s[digits]) >= 0 && digits < 15)
        size = size << 4 | digit(s[digits++]);
    while (digits < n && (s[digits] == ' ' || s[digits] == '\t'))
        digits++;
    return n && digit(*s) >= 0 && (digits == n || s[digits] == ';') ? size : -1;
}

/* Whether the bytes, fewer than a line, may become a chunk's line. */
static int may_be_size(const char *s, size_t n)
{
    return !n || (n < 4096 && digit(*s) >= 0);
}

static int wrong_chunk(struct error *err)
{
    return error_param(err, 400, "body", "a chunk of the body is malformed");
}

int head_chunks(const char *bytes, size_t size, struct error *err)
{
    size_t at = 0, line, next;

    while (next_line(bytes + at, size - at, &line, &next)) {
        int64_t chunk = chunk_size(bytes + at, line);

        if (chunk < 0)
            return wrong_chunk(err);
        at += next;
        if (!chunk)
            return 1; /* what may follow it changes nothing */
        if ((uint64_t)chunk >= size - at)
            return 0;
        at += (size_t)chunk;
        if (bytes[at] != '\n' && bytes[at] != '\r')
            return wrong_chunk(err);
        if (bytes[at] == '\r' && at + 1 < size && bytes[at + 1] != '\n')
            return wrong_chunk(err);
        at += bytes[at] == '\r' ? 2 : 1;
        if (at > size)
            return 0;
    }
    return may_be_size(bytes + at, size - at) ? 0 : wrong_chunk(err);
}

size_t head_path(const char *target, size_t size)
{
    size_t scheme = 0;
    const char *slash;

    if (size >= 7 && strncasecmp(target, "http://", 7) == 0)
        scheme = 7;
    else if (size >= 8 && strncasecmp(target, "https://", 8) == 0)
        scheme = 8;
    if (!scheme)
        return 0;
    slash = memchr(target + scheme, '/', size - scheme);
    return slash ? (size_t)(slash - target) : size;
}

int head_queries(const char *target, size_t size)
{
    const char *at = memchr(target, '?', size);
    int count = 0;

    while (at) {
        count++;
        at++;
        at = memchr(at, '&', size - (size_t)(at - target));
    }
    return count;
}
