/* npy.c - see npy.h. */
#include "client/npy.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char magic[] = "\x93NUMPY";

enum { MAGIC = 6, ALIGNED = 64, HEADER_MOST = 1 << 20, ELEMENT_MOST = 1 << 30 };

int npy_is(const void *bytes, size_t size)
{
    return size >= MAGIC && memcmp(bytes, magic, MAGIC) == 0;
}

/* Each reads one value of the header's dictionary and returns what follows it; NULL: it is none. */

/* A record's "[('x', '<f4')]". */
static const char *skip_list(const char *at)
{
    int depth = 0;

    do {
        depth += (*at == '[') - (*at == ']');
        at += *at != '\0';
    } while (depth && *at);
    return depth ? NULL : at;
}

/* "'<f4'": byte order, kind, size.  Of Python's objects ('|O') and of records ([('x', '<f4')]) there is
 * no size: they are no numbers. */
static const char *read_descr(const char *at, struct npy *out)
{
    const char quote = *at++;
    char *end;
    long size;

    out->kind = quote;
    if (quote == '[')
        return skip_list(at - 1);
    if (quote != '\'' && quote != '"')
        return NULL;
    out->swapped = *at == '>';
    if (*at && strchr("<>|=", *at))
        at++;
    out->kind = *at;
    if (*at == 'O')
        return at[1] == quote ? at + 2 : NULL;
    if (!*at || !isdigit((unsigned char)at[1]))
        return NULL;
    size = strtol(at + 1, &end, 10);
    out->size = (int)size;
    return size > 0 && size <= ELEMENT_MOST && *end == quote ? end + 1 : NULL;
}

static const char *read_order(const char *at, struct npy *out)
{
    out->fortran = strncmp(at, "True", 4) == 0;
    return out->fortran ? at + 4 : strncmp(at, "False", 5) == 0 ? at + 5 : NULL;
}

static const char *read_shape(const char *at, struct npy *out)
{
    char *end;

    if (*at++ != '(')
        return NULL;
    for (;; at += strspn(at, " ")) {
        at += strspn(at, " ");
        if (*at == ')')
            return at + 1;
        if (!isdigit((unsigned char)*at) || out->rank == NPY_MAX_RANK)
            return NULL;
        errno = 0;
        out->shape[out->rank++] = strtoll(at, &end, 10);
        if (errno)
            return NULL;
        at = end + (*end == 'L'); /* written by Python 2 */
        at += strspn(at, " ");
        if (*at == ',')
            at++;
        else if (*at != ')')
            return NULL;
    }
}

/* "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }": these three, in any order. */
static int read_dictionary(const char *at, struct npy *out)
{
    static const struct {
        const char *key;
        const char *(*read)(const char *at, struct npy *out);
    } keys[] = {{"'descr'", read_descr}, {"'fortran_order'", read_order}, {"'shape'", read_shape}};
    int seen = 0;

    if (*at++ != '{')
        return -1;
    while (at += strspn(at, " "), *at != '}') {
        int k = 0;

        while (k < 3 && strncmp(at, keys[k].key, strlen(keys[k].key)) != 0)
            k++;
        if (k == 3 || seen & 1 << k)
            return -1;
        seen |= 1 << k;
        at += strlen(keys[k].key);
        at += strspn(at, " ");
        if (*at++ != ':')
            return -1;
        at = keys[k].read(at + strspn(at, " "), out);
        if (!at)
            return -1;
        at += strspn(at, " ");
        if (*at == ',')
            at++;
        else if (*at != '}')
            return -1;
    }
    at++;
    return seen == 7 && !at[strspn(at, " \n")] ? 0 : -1;
}

static int check_size(const char *label, const struct npy *a, size_t left, struct error *err)
{
    uint64_t bytes = (uint64_t)a->size;

    for (int i = 0; i < a->rank; i++)
        if (__builtin_mul_overflow(bytes, (uint64_t)a->shape[i], &bytes))
            return error_set(err, 400, "%s: the shape has more than 2^64 bytes", label);
    if (bytes > left)
        return error_set(err, 400, "%s: cut off: %zu bytes of data where the shape needs %llu",
                         label, left, (unsigned long long)bytes);
    return 0;
}

int npy_read(const char *label, const void *bytes, size_t size, struct npy *out, struct error *err)
{
    const unsigned char *p = bytes;
    size_t length, begin;
    char *header;
    int rc;

    *out = (struct npy){0};
    if (!npy_is(bytes, size) || size < MAGIC + 6)
        return error_set(err, 400, "%s: not a .npy file", label);
    if (p[MAGIC] < 1 || p[MAGIC] > 3 || p[MAGIC + 1])
        return error_set(err, 400, "%s: version %d.%d of the format is not known", label, p[MAGIC],
                         p[MAGIC + 1]);
    begin = p[MAGIC] == 1 ? MAGIC + 4 : MAGIC + 6;
    length = p[MAGIC + 2] | (size_t)p[MAGIC + 3] << 8;
    if (p[MAGIC] != 1)
        length |= (size_t)p[MAGIC + 4] << 16 | (size_t)p[MAGIC + 5] << 24;
    if (length > HEADER_MOST || length > size - begin)
        return error_set(err, 400, "%s: cut off inside its header", label);
    header = malloc(length + 1);
    if (!header)
        return error_set(err, 500, "out of memory");
    memcpy(header, (const char *)bytes + begin, length);
    header[length] = '\0';
    rc = read_dictionary(header, out) || strlen(header) != length
             ? error_set(err, 400, "%s: its header is not one that numpy writes: %.120s", label,
                         header)
             : 0;
    free(header);
    out->data = p + begin + length;
    return rc ? rc : check_size(label, out, size - begin - length, err);
}

void npy_header(struct buffer *out, const struct tensor *t)
{
    static const char *const descr[] = {[DTYPE_BF16] = "|V2",
                                        [DTYPE_F16] = "<f2",
                                        [DTYPE_F32] = "<f4",
                                        [DTYPE_I64] = "<i8",
                                        [DTYPE_F64] = "<f8"};
    struct buffer text = {0};
    size_t length;

    buffer_format(&text, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr[t->dtype]);
    for (int i = 0; i < t->rank; i++)
        buffer_format(&text, "%lld, ", (long long)t->shape[i]);
    buffer_text(&text, "), }");
    while ((MAGIC + 4 + text.size + 1) % ALIGNED)
        buffer_text(&text, " ");
    buffer_text(&text, "\n");
    length = text.size;
    buffer_append(out, magic, MAGIC);
    buffer_append(out, (const char[]){1, 0, (char)(length & 255), (char)(length >> 8)}, 4);
    buffer_append(out, text.data, length);
    out->failed |= text.failed;
    buffer_clear(&text);
}
