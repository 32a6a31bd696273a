/* byte_level.c - see byte_level.h.
 *
 * As in GPT-2, a byte that is a printable Latin-1 character stands for itself; the 68 others are, in
 * ascending order, U+0100 and up. */
#include "server/tokenizer/byte_level.h"

#include "kernels/base/utf8.h"

static int printable(uint32_t byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

/* Bytes 00-20 become U+0100-0120, 7F-A0 become U+0121-0142, AD becomes U+0143. */
static uint32_t character(unsigned char byte)
{
    if (printable(byte))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int byte_level_byte(uint32_t point)
{
    if (point <= 0xFF)
        return printable(point) ? (int)point : -1;
    if (point <= 0x120)
        return (int)(point - 0x100);
    if (point <= 0x142)
        return (int)(point - 0x121 + 0x7F);
    return point == 0x143 ? 0xAD : -1;
}

void byte_level_encode(const char *bytes, size_t size, struct buffer *out)
{
    char pair[4];
    size_t i;

    for (i = 0; i < size; i++)
        buffer_append(out, pair, (size_t)utf8_put(character((unsigned char)bytes[i]), pair));
}

void byte_level_decode(const char *token, size_t size, struct buffer *out)
{
    size_t start = out->size, at = 0;
    uint32_t point;
    int byte;
    char c;

    while (at < size) {
        at += (size_t)utf8_get(token + at, &point);
        byte = byte_level_byte(point);
        if (byte < 0) {
            out->size = start;
            buffer_append(out, token, size);
            return;
        }
        c = (char)byte;
        buffer_append(out, &c, 1);
    }
}
