/* glob.c - see glob.h.
 *
 * On a mismatch only the last `*` is tried with one more byte.  Earlier ones keep the shortest text that
 * worked: longer ones would leave less text for the rest of the pattern, so they cannot help. */
#include "kernels/base/glob.h"

#include <stddef.h>
#include <string.h>

/* Reads one byte of a set; moves *p behind it. */
static unsigned char set_byte(const char **p)
{
    if (**p == '\\' && (*p)[1])
        ++*p;
    return (unsigned char)*(*p)++;
}

/* Reads a set whose `[` is just before p: *fits is whether c is in it.  Returns where the set ends, or
 * NULL when it has no `]`. */
static const char *set_read(const char *p, unsigned char c, int *fits)
{
    const int inverted = *p == '!' || *p == '^';
    int found = 0;

    p += inverted;
    for (int first = 1; *p && (first || *p != ']'); first = 0) {
        unsigned char low = set_byte(&p), high = low;

        if (*p == '-' && p[1] && p[1] != ']') {
            p++;
            high = set_byte(&p);
        }
        found |= low <= c && c <= high;
    }
    *fits = found != inverted;
    return *p ? p + 1 : NULL;
}

/* Returns the rest of the pattern if c matches its first element, else NULL. */
static const char *element(const char *p, unsigned char c)
{
    if (*p == '?')
        return p + 1;
    if (*p == '[') {
        int fits;
        const char *after = set_read(p + 1, c, &fits);

        if (after)
            return fits ? after : NULL;
    }
    if (*p == '\\' && p[1])
        p++;
    return (unsigned char)*p == c ? p + 1 : NULL;
}

int glob_matches(const char *pattern, const char *text)
{
    const char *star = NULL, *again = NULL; /* behind the last `*`, and where its text ends */

    while (*text) {
        const char *after =
            *pattern && *pattern != '*' ? element(pattern, (unsigned char)*text) : NULL;

        if (*pattern == '*') {
            star = ++pattern;
            again = text;
        } else if (after) {
            pattern = after;
            text++;
        } else if (star) {
            pattern = star;
            text = ++again;
        } else {
            return 0;
        }
    }
    return !pattern[strspn(pattern, "*")];
}

int glob_is_pattern(const char *text)
{
    return text[strcspn(text, "*?[\\")] != '\0';
}
