/* number.c - see number.h. */
#include "server/http/number.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/shortest.h"

/* Each text with the comma that follows it in a list, so that one store writes both. */
static char table[65536][NUMBER_ROOM];
static unsigned char table_size[65536]; /* without the comma */
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static int special(float f, char out[NUMBER_TEXT])
{
    if (isnan(f))
        return sprintf(out, "\"NaN\"");
    if (isinf(f))
        return sprintf(out, f < 0 ? "\"-Infinity\"" : "\"Infinity\"");
    return sprintf(out, signbit(f) ? "-0.0" : "0.0");
}

/* As digits with a point among or before them: the first one counts 10^exponent. */
static char *put_plain(char *out, const char *digits, int count, int exponent)
{
    if (exponent < 0) {
        memcpy(out, "0.0000", (size_t)(1 - exponent));
        out += 1 - exponent;
        memcpy(out, digits, (size_t)count);
        return out + count;
    }
    memcpy(out, digits, (size_t)exponent + 1);
    out += exponent + 1;
    *out++ = '.';
    if (count == exponent + 1)
        *out++ = '0';
    memcpy(out, digits + exponent + 1, (size_t)(count - exponent - 1));
    return out + count - exponent - 1;
}

/* The one float (and its negative) whose fewest digits, 7.038531e-26, do not come back through a
 * double: that one lies halfway between two floats. */
static int rounded_twice(float f)
{
    return (f32_bits(f) & 0x7fffffff) == 0x15ae43fd;
}

/* Plain or with an exponent by the rule of "%.*g" for so many digits. */
int number_f32(float f, char out[NUMBER_TEXT])
{
    char digits[SHORTEST_TEXT], *first = out + (signbit(f) != 0), *e;
    int count = 0, exponent, n;

    if (!isfinite(f) || f == 0)
        return special(f, out);
    if (rounded_twice(f))
        return sprintf(out, "%.8g", (double)f);
    n = shortest_f32(f, out);
    for (e = first; *e != 'e'; e++)
        if (*e != '.')
            digits[count++] = *e;
    exponent = (e[2] - '0') * 10 + e[3] - '0';
    if (e[1] == '-')
        exponent = -exponent;
    if (exponent < -4 || exponent >= count)
        return n;
    return (int)(put_plain(first, digits, count, exponent) - out);
}

static void table_set(int i, const char *text, int size)
{
    memcpy(table[i], text, (size_t)size);
    table[i][size] = ',';
    table_size[i] = (unsigned char)size;
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
    *size = table_size[b];
    return table[b];
}

char *number_bf16_list(const bf16 *x, int64_t count, char *out)
{
    pthread_once(&table_once, table_build);
    for (int64_t i = 0; i < count; i++) {
        memcpy(out, table[x[i]], NUMBER_ROOM);
        out += table_size[x[i]] + 1;
    }
    return out;
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
