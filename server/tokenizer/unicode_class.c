/* unicode_class.c - see unicode_class.h.  The tables are generated. */
#include "server/tokenizer/unicode_class.h"

#include <stddef.h>
#include <utf8proc.h>

#include "kernels/base/utf8.h"
#include "server/tokenizer/unicode_tables.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* Returns the index of the row that holds a code point, or -1.  Rows are sorted, `stride` bytes
 * apart, and begin with the first and last code point of a range. */
static ptrdiff_t find(const void *table, size_t count, size_t stride, uint32_t point)
{
    size_t low = 0, high = count, middle;
    const uint32_t *row;

    while (low < high) {
        middle = low + (high - low) / 2;
        row = (const uint32_t *)((const char *)table + middle * stride);
        if (point < row[0])
            high = middle;
        else if (point > row[1])
            low = middle + 1;
        else
            return (ptrdiff_t)middle;
    }
    return -1;
}

uint32_t unicode_stand_in(uint32_t point)
{
    ptrdiff_t row;

    if (point < 0x378)
        return point;
    /* PCRE2 counts the Mongolian vowel separator as a space; it is a format character. */
    if (point == 0x180E)
        return 0x2060;
    row = find(unicode_newer, COUNT(unicode_newer), sizeof(unicode_newer[0]), point);
    return row < 0 ? point : unicode_newer[row].stand_in;
}

int unicode_has_stand_in(uint32_t first, uint32_t last)
{
    const struct unicode_stand_in *row;
    size_t i;

    if ((first <= 0x180E && last >= 0x180E) || (first <= 0x2060 && last >= 0x2060))
        return 1;
    for (i = 0; i < COUNT(unicode_newer); i++) {
        row = &unicode_newer[i];
        if ((first <= row->last && last >= row->first) ||
            (first <= row->stand_in && last >= row->stand_in))
            return 1;
    }
    return 0;
}

int unicode_is_space(uint32_t point)
{
    return (point >= 9 && point <= 13) || point == ' ' || point == 0x85 || point == 0xA0 ||
           point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 ||
           point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000;
}

int unicode_is_numeric(uint32_t point)
{
    return find(unicode_numeric, COUNT(unicode_numeric), sizeof(unicode_numeric[0]), point) >= 0;
}

int unicode_is_word(uint32_t point)
{
    return find(unicode_word, COUNT(unicode_word), sizeof(unicode_word[0]), point) >= 0;
}

int unicode_is_punctuation(uint32_t point)
{
    return find(unicode_punctuation, COUNT(unicode_punctuation), sizeof(unicode_punctuation[0]),
                point) >= 0;
}

int unicode_is_mark(uint32_t point)
{
    return find(unicode_mark, COUNT(unicode_mark), sizeof(unicode_mark[0]), point) >= 0;
}

/* The code point to ask utf8proc about, which may have other data on what joins a cluster. */
static utf8proc_int32_t cluster_point(uint32_t point)
{
    const int ours =
        find(unicode_extending, COUNT(unicode_extending), sizeof(unicode_extending[0]), point) >= 0;
    const unsigned bound = utf8proc_get_property((utf8proc_int32_t)point)->boundclass;
    const int theirs = bound == UTF8PROC_BOUNDCLASS_EXTEND || bound == UTF8PROC_BOUNDCLASS_ZWJ ||
                       bound == UTF8PROC_BOUNDCLASS_SPACINGMARK;

    if (ours != theirs)
        return ours ? 0x301 : 'a';
    return (utf8proc_int32_t)point;
}

size_t unicode_cluster(const char *text, size_t size)
{
    utf8proc_int32_t state = 0, before, after;
    uint32_t point;
    size_t at, n;

    at = (size_t)utf8_get(text, &point);
    for (before = cluster_point(point); at < size; at += n, before = after) {
        n = (size_t)utf8_get(text + at, &point);
        after = cluster_point(point);
        if (utf8proc_grapheme_break_stateful(before, after, &state))
            break;
    }
    return at;
}

int unicode_is_plain(uint32_t point)
{
    return find(unicode_plain, COUNT(unicode_plain), sizeof(unicode_plain[0]), point) >= 0 ||
           find(unicode_newer, COUNT(unicode_newer), sizeof(unicode_newer[0]), point) >= 0;
}

int unicode_lower_of(uint32_t point, uint32_t out[2])
{
    ptrdiff_t row;

    if (point == 0x130) { /* the one code point that lower case makes two of */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    row = find(unicode_lower, COUNT(unicode_lower), sizeof(unicode_lower[0]), point);
    if (row >= 0)
        out[0] = (uint32_t)((int32_t)point + unicode_lower[row].delta);
    else
        out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)point);
    return 1;
}
