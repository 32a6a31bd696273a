/* npy.c - see npy.h. */
#include "client/npy.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char magic[] = "\x93NUMPY";

enum { MAGIC = 6, ALIGNED = 64, HEADER_MOST = 1 << 20 };

int npy_is(const void *bytes, size_t size)
{
    return size >= MAGIC && memcmp(bytes, magic, MAGIC) == 0;
}

/* What follows 'key': in the header, a Python dictionary; NULL when it is not there. */
static const char *member(const char *header, const char *key)
{
    const char *at = strstr(header, key);

    at = at ? strchr(at, ':') : NULL;
    while (at && (*++at == ' '))
        ;
    return at;
}

/* "'<f4'": byte order, kind, size.  Of Python's objects ('|O') and of records ([('x', '<f4')]) there is
 * no size: they are no numbers. */
static int read_descr(const char *at, struct npy *out)
{
    char *end;

    if (!at || (*at != '\'' && *at != '"' && *at != '['))
        return -1;
    out->kind = *at;
    if (*at++ == '[')
        return 0;
    out->swapped = *at == '>';
    if (*at && strchr("<>|=", *at))
        at++;
    out->kind = *at;
    if (*at == 'O')
        return 0;
    out->size = (int)strtol(at + 1, &end, 10);
    return end > at + 1 && out->size > 0 && (*end == '\'' || *end == '"') ? 0 : -1;
}

static int read_shape(const char *at, struct npy *out)
{
    char *end;

    if (!at || *at != '(')
        return -1;
    for (at++; *at != ')'; at = end) {
        while (*at == ' ' || *at == ',')
            at++;
        if (*at == ')')
            break;
        if (!isdigit((unsigned char)*at) || out->rank == NPY_MAX_RANK)
            return -1;
        out->shape[out->rank++] = strtoll(at, &end, 10);
        if (*end == 'L') /* written by Python 2 */
            end++;
    }
    return 0;
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
    const char *order;
    char *header;
    int rc;

    *out = (struct npy){0};
    if (!npy_is(bytes, size) || size < MAGIC + 6)
        return error_set(err, 400, "%s: not a .npy file", label);
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
    order = member(header, "'fortran_order'");
    out->fortran = order && strncmp(order, "True", 4) == 0;
    rc = read_descr(member(header, "'descr'"), out) || read_shape(member(header, "'shape'"), out)
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
