/* scratch.h - a folder of its own for a test's files, and a seeded random source. */
#ifndef SAMEBIT_TESTS_SCRATCH_H
#define SAMEBIT_TESTS_SCRATCH_H

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch[64]; /* the folder */

static inline int scratch_make(void **state)
{
    (void)state;
    strcpy(scratch, "/tmp/samebit-test-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_remove_one(const char *path, const struct stat *st, int flag,
                                     struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static inline int scratch_remove(void **state)
{
    (void)state;
    return nftw(scratch, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The path of a file in the folder; good until the next call but three. */
static inline const char *scratch_path(const char *name)
{
    static char paths[4][256];
    static int at;
    char *path = paths[at++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", scratch, name);
    return path;
}

static inline void scratch_write(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(scratch_path(name), "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline void scratch_text(const char *name, const char *text)
{
    scratch_write(name, text, strlen(text));
}

/* The bytes of a file, NUL-terminated; the caller frees them. */
static inline char *file_read(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    char *bytes = NULL;
    long end;

    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    end = ftell(file);
    rewind(file);
    bytes = malloc((size_t)end + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)end, file), end);
    fclose(file);
    bytes[end] = '\0';
    if (size)
        *size = (size_t)end;
    return bytes;
}

static inline void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' does not contain '%s'", text, part);
}

/* splitmix64: the same numbers everywhere. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Changes, drops, doubles or inserts a few bytes.  bytes has room for size + 64. */
static inline size_t mutate(char *bytes, size_t size, uint64_t *state)
{
    static const char *const pieces[] = {"{",
                                         "}",
                                         "[",
                                         "]",
                                         "\"",
                                         ",",
                                         ":",
                                         "-1",
                                         "0",
                                         "1e9",
                                         "1.5",
                                         "null",
                                         "true",
                                         "\\u0000",
                                         "\xff",
                                         "{}",
                                         "[[[[",
                                         "x",
                                         "18446744073709551616"};
    int times = 1 + (int)(next_random(state) % 3);

    for (int i = 0; i < times && size > 4; i++) {
        size_t at = next_random(state) % size;
        size_t run = 1 + next_random(state) % 4;
        const char *piece = pieces[next_random(state) % (sizeof(pieces) / sizeof(pieces[0]))];

        switch (next_random(state) % 4) {
        case 0:
            bytes[at] = (char)(bytes[at] ^ (1 << next_random(state) % 8));
            break;
        case 1:
            run = run > size - at ? size - at : run;
            memmove(bytes + at, bytes + at + run, size - at - run);
            size -= run;
            break;
        case 2:
            memmove(bytes + at + 1, bytes + at, size - at);
            size++;
            break;
        case 3:
            memmove(bytes + at + strlen(piece), bytes + at, size - at);
            memcpy(bytes + at, piece, strlen(piece));
            size += strlen(piece);
            break;
        }
    }
    return size;
}

#endif
