/* number.c - see number.h. */
#include "server/http/number.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    char text[15];
    unsigned char size;
};

static struct text table[65536];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static int special(float f, char out[NUMBER_TEXT])
{
    if (isnan(f))
        return sprintf(out, "\"NaN\"");
    if (isinf(f))
        return sprintf(out, f < 0 ? "\"-Infinity\"" : "\"Infinity\"");
    return sprintf(out, signbit(f) ? "-0.0" : "0.0");
}

int number_f32(float f, char out[NUMBER_TEXT])
{
    int n = 0;

    if (!isfinite(f) || f == 0)
        return special(f, out);
    for (int digits = 1; digits <= 9; digits++) {
        n = snprintf(out, NUMBER_TEXT, "%.*g", digits, (double)f);
        if ((float)strtod(out, NULL) == f)
            break;
    }
    if (!strpbrk(out, ".e")) {
        memcpy(out + n, ".0", 3);
        n += 2;
    }
    return n;
}

static void table_set(int i, const char *text, int size)
{
    memcpy(table[i].text, text, (size_t)size);
    table[i].size = (unsigned char)size;
}

static void table_build(void)
{
    char out[1 + NUMBER_TEXT] = "-";

    for (int i = 0; i < 32768; i++) {
        int n = number_f32(bf16_to_f32((bf16)i), out + 1);

        table_set(i, out + 1, n);
        if ((i & 0x7f80) != 0x7f80)
            table_set(i | 0x8000, out, n + 1);
        else
            table_set(i | 0x8000, out + 1, number_f32(bf16_to_f32((bf16)(i | 0x8000)), out + 1));
    }
}

const char *number_bf16(bf16 b, int *size)
{
    pthread_once(&table_once, table_build);
    *size = table[b].size;
    return table[b].text;
}

bf16 number_to_bf16(long double x)
{
    float f = (float)x;
    uint32_t bits = f32_bits(f);

    /* The f32 between is rounded to odd, so that the second rounding sees which side of a tie the
     * number was on. */
    if (x == x && (long double)f != x) {
        if (fabsl((long double)f) > fabsl(x))
            bits--;
        bits |= 1;
    }
    return bf16_from_f32(f32_from_bits(bits));
}
