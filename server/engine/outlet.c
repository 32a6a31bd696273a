/* outlet.c - see outlet.h. */
#include "server/engine/outlet.h"

#include <stdlib.h>
#include <string.h>

enum { SLOT_BYTES = 8 << 20, SLOT_ITEMS = 4096, ALIGN = 16, NO_ENTRY = -1 };

struct outlet_slot {
    struct item {
        int64_t entry; /* NO_ENTRY: for outlet_read */
        size_t offset, bytes;
    } item[SLOT_ITEMS];
    int items;
    int sent;
    size_t used;
};

static int failed(const struct outlet *o, struct error *err)
{
    const char *why = o->backend->trouble ? o->backend->trouble(o->backend) : NULL;

    return error_set(err, 500, "a value could not be read from %s%s%s", o->backend->device,
                     why ? ": " : "", why ? why : "");
}

int outlet_open(struct outlet *o, struct backend *b, const struct run_sink *sink, size_t row_bytes,
                struct error *err)
{
    *o = (struct outlet){.backend = b, .sink = sink};
    if (b->host_readable)
        return 0;
    o->bytes = row_bytes > SLOT_BYTES ? row_bytes : SLOT_BYTES;
    o->slot = calloc(READER_SLOTS, sizeof(*o->slot));
    if (!o->slot)
        return error_set(err, 500, "out of memory");
    o->reader = b->reader_open(b, o->bytes, err);
    if (o->reader)
        return 0;
    outlet_close(o);
    return -1;
}

void outlet_close(struct outlet *o)
{
    if (o->reader)
        o->backend->reader_close(o->backend, o->reader);
    free(o->slot);
    *o = (struct outlet){0};
}

/* ---- from where they lie ---- */

static int write_runs(const struct outlet *o, int64_t entry, const struct tensor *value,
                      struct error *err)
{
    const int64_t all = tensor_count(value), run = tensor_piece(value); /* contiguous elements */
    const size_t size = dtype_size(value->dtype);

    for (int64_t i = 0; i < all; i += run)
        if (o->sink->write(o->sink->user, entry,
                           (const char *)value->data + (size_t)tensor_offset(value, i) * size,
                           (size_t)run * size, err))
            return -1;
    return 0;
}

/* ---- through slots ---- */

static int send(struct outlet *o, struct error *err)
{
    struct outlet_slot *s = &o->slot[o->filling];

    if (o->backend->reader_send(o->reader, o->filling, s->used))
        return failed(o, err);
    s->sent = 1;
    return 0;
}

/* Gives the sink the values of a slot that was sent, which is empty then.  Returns its bytes, which
 * stay until it fills again, or NULL. */
static const char *hand_on(struct outlet *o, int slot, struct error *err)
{
    struct outlet_slot *s = &o->slot[slot];
    const char *bytes = o->backend->reader_wait(o->reader, slot);

    if (!bytes) {
        failed(o, err);
        return NULL;
    }
    for (int i = 0; i < s->items; i++)
        if (s->item[i].entry != NO_ENTRY &&
            o->sink->write(o->sink->user, s->item[i].entry, bytes + s->item[i].offset,
                           s->item[i].bytes, err))
            return NULL;
    s->items = s->sent = 0;
    s->used = 0;
    return bytes;
}

/* Sends the slot that was filling; the other one fills from now on. */
static int turn(struct outlet *o, struct error *err)
{
    const int next = (o->filling + 1) % READER_SLOTS;

    if (send(o, err) || (o->slot[next].sent && !hand_on(o, next, err)))
        return -1;
    o->filling = next;
    return 0;
}

/* Puts a value, which is not larger than a slot, into the one that fills. */
static int put(struct outlet *o, int64_t entry, const struct tensor *value, struct error *err)
{
    const size_t bytes = tensor_bytes(value);
    struct outlet_slot *s = &o->slot[o->filling];

    if (s->used + bytes > o->bytes || s->items == SLOT_ITEMS) {
        if (turn(o, err))
            return -1;
        s = &o->slot[o->filling];
    }
    if (o->backend->reader_put(o->reader, o->filling, s->used, value))
        return failed(o, err);
    s->item[s->items++] = (struct item){entry, s->used, bytes};
    s->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return 0;
}

/* Index i of the outermost axis, without that axis. */
static struct tensor inner_of(const struct tensor *t, int64_t i)
{
    struct tensor inner = tensor_slice(t, 0, i, 1);

    inner.rank--;
    memmove(inner.shape, inner.shape + 1, sizeof(int64_t) * (size_t)inner.rank);
    memmove(inner.stride, inner.stride + 1, sizeof(int64_t) * (size_t)inner.rank);
    return inner;
}

/* Cuts a value that is larger than a slot along its outermost axis, and the next one where one index
 * of that is still too large. */
static int put_in_slices(struct outlet *o, int64_t entry, const struct tensor *value,
                         struct error *err)
{
    const size_t all = tensor_bytes(value);
    int64_t rows; /* of a slice */

    if (all == 0)
        return 0;
    if (all <= o->bytes)
        return put(o, entry, value, err);
    rows = (int64_t)(o->bytes / (all / (size_t)value->shape[0]));
    for (int64_t i = 0; i < value->shape[0]; i += rows ? rows : 1) {
        const int64_t left = value->shape[0] - i;
        const struct tensor cut =
            rows ? tensor_slice(value, 0, i, left < rows ? left : rows) : inner_of(value, i);

        if (put_in_slices(o, entry, &cut, err))
            return -1;
    }
    return 0;
}

/* ---- what an execution calls ---- */

int outlet_write(struct outlet *o, int64_t entry, const struct tensor *value, struct error *err)
{
    return o->reader ? put_in_slices(o, entry, value, err) : write_runs(o, entry, value, err);
}

/* Empties both slots, the one that was sent earlier first; the one that fills is not empty.  Returns
 * its bytes. */
static const char *flush(struct outlet *o, struct error *err)
{
    const int older = (o->filling + 1) % READER_SLOTS;

    if (send(o, err) || (o->slot[older].sent && !hand_on(o, older, err)))
        return NULL;
    return hand_on(o, o->filling, err);
}

int outlet_flush(struct outlet *o, struct error *err)
{
    const int older = (o->filling + 1) % READER_SLOTS;

    if (!o->reader)
        return 0;
    if (o->slot[o->filling].items)
        return flush(o, err) ? 0 : -1;
    return o->slot[older].sent && !hand_on(o, older, err) ? -1 : 0;
}

const void *outlet_read(struct outlet *o, const struct tensor *value, struct error *err)
{
    const char *bytes;
    size_t offset;

    if (!o->reader)
        return value->data;
    if (put(o, NO_ENTRY, value, err))
        return NULL;
    offset = o->slot[o->filling].item[o->slot[o->filling].items - 1].offset;
    bytes = flush(o, err);
    return bytes ? bytes + offset : NULL;
}
