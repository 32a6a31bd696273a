/* inflate.c - see inflate.h. */
#include "server/http/inflate.h"

#include <inttypes.h>
#include <strings.h>
#include <zlib.h>

enum { PIECE = 64 * 1024 };

/* A gzip file may have several members, one after the other.  0: at the end. */
static int next_member(z_stream *z)
{
    return z->avail_in && inflateReset(z) == Z_OK;
}

static int inflate_all(z_stream *z, struct buffer *out, int64_t most, struct error *err)
{
    int state = Z_OK;

    do {
        char *room = buffer_room(out, PIECE);

        if (!room)
            return error_set(err, 503, "no memory for the body");
        z->next_out = (Bytef *)room;
        z->avail_out = PIECE;
        state = inflate(z, Z_NO_FLUSH);
        out->size += PIECE - z->avail_out;
        if (out->size > (uint64_t)most)
            return error_param(err, 413, "body",
                               "the body is larger than %" PRId64
                               " bytes when it is decoded (\"body_bytes\")",
                               most);
        if (state != Z_OK && state != Z_STREAM_END)
            return error_param(err, 400, "body", "the body is not what its Content-Encoding says%s",
                               state == Z_BUF_ERROR ? ": it breaks off" : "");
    } while (state == Z_OK || next_member(z));
    return 0;
}

int inflate_body(struct buffer *body, const char *encoding, int64_t most, struct error *err)
{
    const int gzip = !strcasecmp(encoding, "gzip") || !strcasecmp(encoding, "x-gzip");
    struct buffer out = {0};
    z_stream z = {0};
    int rc;

    if (!*encoding || !strcasecmp(encoding, "identity"))
        return 0;
    if (!gzip && strcasecmp(encoding, "deflate") != 0)
        return error_param(err, 415, "Content-Encoding",
                           "Content-Encoding is '%.40s'; gzip and deflate are taken", encoding);
    if (inflateInit2(&z, gzip ? 16 + MAX_WBITS : MAX_WBITS) != Z_OK)
        return error_set(err, 503, "no memory for the body");
    z.next_in = (Bytef *)body->data;
    z.avail_in = (uInt)body->size;
    rc = body->size > UINT32_MAX ? error_param(err, 413, "body", "too large to be decoded")
                                 : inflate_all(&z, &out, most, err);
    inflateEnd(&z);
    buffer_clear(rc ? &out : body);
    if (!rc)
        *body = out;
    return rc;
}
