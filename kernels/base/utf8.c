/* utf8.c - see utf8.h. */
#include "kernels/base/utf8.h"

/* Returns the size of the character that a first byte opens, 0 for none; low and high are the range
 * of its second byte (Unicode, table 3-7). */
static int second_byte(unsigned char first, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (first >= 0xC2 && first <= 0xDF)
        return 2;
    if (first >= 0xE0 && first <= 0xEF) {
        if (first == 0xE0)
            *low = 0xA0;
        if (first == 0xED)
            *high = 0x9F;
        return 3;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        if (first == 0xF0)
            *low = 0x90;
        if (first == 0xF4)
            *high = 0x8F;
        return 4;
    }
    return 0;
}

int utf8_next(const char *text, size_t size, uint32_t *point, int *bad, int *open)
{
    const unsigned char *b = (const unsigned char *)text;
    unsigned char low, high;
    uint32_t value;
    int need, i;

    if (b[0] < 0x80) {
        *point = b[0];
        return 1;
    }
    need = second_byte(b[0], &low, &high);
    value = need == 2 ? b[0] & 0x1Fu : need == 3 ? b[0] & 0x0Fu : b[0] & 0x07u;
    for (i = 1; i < need && (size_t)i < size; i++) {
        if (b[i] < low || b[i] > high)
            break;
        value = value << 6 | (b[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    if (need && i == need) {
        *point = value;
        return need;
    }
    if (bad)
        *bad = i;
    if (open)
        *open = need != 0 && (size_t)i == size;
    return 0;
}

int utf8_get(const char *text, uint32_t *point)
{
    return utf8_next(text, 4, point, NULL, NULL);
}

int utf8_put(uint32_t point, char out[4])
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xC0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xE0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (point & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (point & 0x3F));
    return 4;
}

int utf8_check(const char *text, size_t size, size_t *offset)
{
    uint32_t point;
    size_t at = 0;
    int n;

    while (at < size) {
        n = utf8_next(text + at, size - at, &point, NULL, NULL);
        if (!n) {
            *offset = at;
            return -1;
        }
        at += (size_t)n;
    }
    return 0;
}

int utf8_lossy(const char *text, size_t size, int more, struct buffer *out)
{
    uint32_t point;
    size_t at = 0, good = 0;
    int n, bad = 0, open = 0;

    while (at < size) {
        n = utf8_next(text + at, size - at, &point, &bad, &open);
        if (n) {
            at += (size_t)n;
            continue;
        }
        buffer_append(out, text + good, at - good);
        if (more && open)
            return (int)(size - at);
        buffer_text(out, "\xEF\xBF\xBD");
        at += (size_t)bad;
        good = at;
    }
    buffer_append(out, text + good, size - good);
    return 0;
}
