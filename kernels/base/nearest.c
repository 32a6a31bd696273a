/* nearest.c - see nearest.h. */
#include "kernels/base/nearest.h"

#include <string.h>

enum { LONGEST = 95 };

static int least(int a, int b)
{
    return a < b ? a : b;
}

int name_distance(const char *a, const char *b)
{
    int row[LONGEST + 1];
    int wide = (int)strnlen(b, LONGEST), high = (int)strnlen(a, LONGEST);

    for (int j = 0; j <= wide; j++)
        row[j] = j;
    for (int i = 1; i <= high; i++) {
        int diagonal = row[0];

        row[0] = i;
        for (int j = 1; j <= wide; j++) {
            int exchanged = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = least(exchanged, least(row[j], row[j - 1]) + 1);
        }
    }
    return row[wide];
}

int name_is_near(const char *a, const char *b)
{
    int size = (int)strnlen(a, LONGEST);

    return name_distance(a, b) <= (size < 6 ? 1 : 2 + size / 12);
}
