/* write_digest.c - digests of the values' bytes, computed beside the run. */
#include "server/http/write.h"

#include <stdlib.h>
#include <unistd.h>

#include "server/http/hashes.h"

enum { THREADS = 8 }; /* at most */

struct state {
    const char *only;
    int64_t entry;   /* being brought; -1 before the first */
    int64_t written; /* entries */
    struct hashes *hashes;
};

static void put_digest(struct work *w, const unsigned char digest[HASHES_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    struct state *s = w->state;
    char text[2 * HASHES_BYTES];

    for (int i = 0; i < HASHES_BYTES; i++) {
        text[2 * i] = hex[digest[i] >> 4];
        text[2 * i + 1] = hex[digest[i] & 15];
    }
    write_entry(w, s->written++, s->only);
    buffer_text(&w->out, ",\"sha256\":\"");
    buffer_append(&w->out, text, sizeof(text));
    buffer_text(&w->out, "\"}");
}

/* Writes what is ready of the values brought, and waits until at most `left` are not written. */
static int put_digests(struct work *w, int64_t brought, int64_t left, struct error *err)
{
    struct state *s = w->state;
    unsigned char digest[HASHES_BYTES];
    int rc;

    while ((rc = hashes_take(s->hashes, brought - s->written > left, digest, err)) > 0)
        put_digest(w, digest);
    return rc ? -1 : work_send(w, WORK_PIECE, err);
}

/* Ends the values before entry. */
static int advance(struct work *w, int64_t entry, struct error *err)
{
    struct state *s = w->state;

    for (; s->entry < entry; s->entry++)
        if (s->entry >= 0 &&
            (hashes_end(s->hashes, err) || put_digests(w, s->entry + 1, HASHES_VALUES - 1, err)))
            return -1;
    return 0;
}

static int on_value(struct work *w, int64_t entry, const void *data, size_t bytes,
                    struct error *err)
{
    struct state *s = w->state;

    return advance(w, entry, err) ? -1 : hashes_add(s->hashes, data, bytes, err);
}

static int on_close(struct work *w, struct error *err)
{
    struct state *s = w->state;

    if (advance(w, w->run->entry_count, err) || put_digests(w, w->run->entry_count, 0, err))
        return -1;
    write_tail(w, s->only);
    return 0;
}

static void on_free(void *user)
{
    struct state *s = user;

    hashes_free(s->hashes);
    free(s);
}

/* As many as the processor's products have, or all where a GPU computes them. */
static int threads_for(const struct backend *b)
{
    const long all = b->threads ? b->threads : sysconf(_SC_NPROCESSORS_ONLN);

    return all < 1 ? 1 : all > THREADS ? THREADS : (int)all;
}

/* Of the copies that wait to be hashed. */
static uint64_t copy_bytes(const struct run *run, int threads)
{
    const uint64_t most = (uint64_t)threads * HASHES_PIECES * HASHES_PIECE;
    const uint64_t call = run_call_bytes(run);

    return call < most / (uint64_t)run->calls ? call * (uint64_t)run->calls : most;
}

int write_digest(struct work *w, const struct write_spec *spec, struct error *err)
{
    static const struct writer writer = {.value = on_value, .close = on_close, .free = on_free};
    struct state *s = calloc(1, sizeof(*s));
    const int threads = threads_for(w->engine->backend);

    if (!s)
        return error_set(err, 500, "no memory for the reply");
    w->writer = &writer;
    w->state = s;
    w->writer_bytes = copy_bytes(w->run, threads);
    s->only = spec->only;
    s->entry = -1;
    s->hashes = hashes_create(threads, err);
    if (!s->hashes)
        return -1;
    write_open(w, spec);
    return 0;
}
