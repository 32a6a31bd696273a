/* charsmap.c - see charsmap.h.
 *
 * The table is the size of a double array, the array (32-bit units of a darts-clone trie), and the
 * texts that its values point into, each with a NUL behind it; all numbers little-endian.
 *
 * As in the `tokenizers` package, a grapheme cluster below 6 bytes that begins with an entry becomes
 * what the shortest such entry says, all of it; longer clusters go character by character. */
#include "server/tokenizer/charsmap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/utf8.h"
#include "server/tokenizer/unicode_class.h"

enum { WHOLE = 6 }; /* bytes from which a cluster is taken apart */

struct charsmap {
    struct buffer bytes;
    uint32_t *units;
    size_t unit_count;
    const char *texts;
    size_t texts_size;
};

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;

    return found ? (int)(found - digits) : -1;
}

static int base64_decode(const char *text, size_t size, struct buffer *out)
{
    uint32_t bits = 0;
    size_t i;
    int digit, have = 0;
    char byte;

    while (size && text[size - 1] == '=')
        size--;
    for (i = 0; i < size; i++) {
        digit = base64_digit(text[i]);
        if (digit < 0)
            return -1;
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            byte = (char)(bits >> have & 0xFF);
            buffer_append(out, &byte, 1);
        }
    }
    return 0;
}

static uint32_t little_endian(const char *at)
{
    const unsigned char *b = (const unsigned char *)at;

    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static int read_table(struct charsmap *c, struct error *err)
{
    size_t size, offset, i;

    size = c->bytes.size >= 4 ? little_endian(c->bytes.data) : 0;
    if (!size || size % 4 || size > c->bytes.size - 4)
        return error_param(err, 400, "precompiled_charsmap",
                           "\"precompiled_charsmap\": no table of SentencePiece");
    c->unit_count = size / 4;
    c->units = malloc(size);
    if (!c->units)
        return error_set(err, 500, "out of memory");
    for (i = 0; i < c->unit_count; i++)
        c->units[i] = little_endian(c->bytes.data + 4 + 4 * i);
    c->texts = c->bytes.data + 4 + size;
    c->texts_size = c->bytes.size - 4 - size;
    if (c->texts_size && utf8_check(c->texts, c->texts_size, &offset))
        return error_param(err, 400, "precompiled_charsmap",
                           "\"precompiled_charsmap\": its texts are not UTF-8");
    return 0;
}

struct charsmap *charsmap_open(const json_t *json, struct error *err)
{
    struct charsmap *c = calloc(1, sizeof(*c));

    if (!c) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    if (!json_is_string(json) ||
        base64_decode(json_string_value(json), json_string_length(json), &c->bytes)) {
        error_param(err, 400, "precompiled_charsmap", "\"precompiled_charsmap\" is not base64");
        goto failed;
    }
    if (c->bytes.failed) {
        error_set(err, 500, "out of memory");
        goto failed;
    }
    if (read_table(c, err))
        goto failed;
    return c;
failed:
    charsmap_close(c);
    return NULL;
}

void charsmap_close(struct charsmap *c)
{
    if (!c)
        return;
    buffer_clear(&c->bytes);
    free(c->units);
    free(c);
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* What the shortest entry that the text begins with says, or NULL. */
static const char *look_up(const struct charsmap *c, const char *text, size_t size)
{
    size_t at = offset_of(c->units[0]), i;
    uint32_t unit, value;

    for (i = 0; i < size && text[i]; i++) {
        at ^= (unsigned char)text[i];
        if (at >= c->unit_count)
            return NULL;
        unit = c->units[at];
        if ((unit & (1u << 31 | 0xFF)) != (unsigned char)text[i])
            return NULL;
        at ^= offset_of(unit);
        if (!(unit >> 8 & 1))
            continue;
        if (at >= c->unit_count)
            return NULL;
        value = c->units[at] & 0x7FFFFFFF;
        return value < c->texts_size && ((unsigned char)c->texts[value] & 0xC0) != 0x80
                   ? c->texts + value
                   : NULL;
    }
    return NULL;
}

static size_t characters(const char *text, size_t size)
{
    size_t n = 0, i;

    for (i = 0; i < size; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

/* Where the text that is read stands for what is written.  An entry that becomes nothing at the
 * beginning of the text is forgotten by the package's count, which then lags behind. */
struct place {
    size_t at; /* byte of the text read */
    int begun; /* something was written */
};

static size_t width(const char *text, size_t at)
{
    uint32_t point;

    return (size_t)utf8_get(text + at, &point);
}

/* `count` characters of the text became `to`. */
static void put(struct aligned *out, struct place *p, const char *text, size_t count,
                const char *to)
{
    size_t n, here = 0;
    uint32_t point;

    for (; *to; to += n) {
        n = (size_t)utf8_get(to, &point);
        here = count ? p->at : p->at ? p->at - 1 : 0;
        aligned_put(out, to, n, here);
        p->begun = 1;
        if (count) {
            p->at += width(text, p->at);
            count--;
        }
    }
    while (count-- && p->begun)
        p->at += width(text, p->at);
}

static void put_characters(const struct charsmap *c, const char *text, size_t start, size_t end,
                           struct aligned *out, struct place *p)
{
    const char *to;
    char same[5];
    size_t n;

    for (; start < end; start += n) {
        n = width(text, start);
        to = look_up(c, text + start, n);
        if (to) {
            put(out, p, text, 1, to);
            continue;
        }
        memcpy(same, text + start, n);
        aligned_put(out, same, n, p->at);
        p->begun = 1;
        p->at += width(text, p->at);
    }
}

void charsmap_run(const struct charsmap *c, const char *text, size_t size, struct aligned *out)
{
    struct place place = {0};
    size_t start = 0, end;
    const char *to;

    for (; start < size; start = end) {
        end = start + unicode_cluster(text + start, size - start);
        to = end - start < WHOLE ? look_up(c, text + start, end - start) : NULL;
        if (to)
            put(out, &place, text, characters(text + start, end - start), to);
        else
            put_characters(c, text, start, end, out, &place);
    }
}
