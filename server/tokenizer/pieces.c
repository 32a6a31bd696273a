/* pieces.c - see pieces.h. */
#include "server/tokenizer/pieces.h"

#include <stdlib.h>
#include <string.h>

void pieces_add(struct pieces *p, size_t start, size_t size, int64_t id)
{
    size_t capacity = p->capacity ? p->capacity * 2 : 64;
    struct piece *list;

    if (p->count == p->capacity) {
        list = realloc(p->list, capacity * sizeof(*list));
        if (!list) {
            p->failed = 1;
            return;
        }
        p->list = list;
        p->capacity = capacity;
    }
    p->list[p->count++] = (struct piece){start, size, id, 0};
}

void pieces_drop_empty(struct pieces *p, size_t first)
{
    size_t i, kept = first;

    for (i = first; i < p->count; i++)
        if (p->list[i].size || p->list[i].id >= 0)
            p->list[kept++] = p->list[i];
    p->count = kept;
}

void pieces_align(struct pieces *p, size_t first, size_t start, size_t zero)
{
    struct piece *piece;
    size_t i, offset;

    for (i = first; i < p->count; i++) {
        piece = &p->list[i];
        offset = piece->start - start;
        piece->zero = zero > offset ? zero - offset : 0;
        if (piece->zero > piece->size)
            piece->zero = piece->size;
    }
}

void pieces_append(struct pieces *p, const char *text, size_t size, int64_t id)
{
    size_t start = p->text.size;

    buffer_append(&p->text, text, size);
    p->failed |= p->text.failed;
    pieces_add(p, start, size, id);
}

void pieces_clear(struct pieces *p)
{
    buffer_clear(&p->text);
    free(p->list);
    memset(p, 0, sizeof(*p));
}

void pieces_move(struct pieces *to, struct pieces *from)
{
    pieces_clear(to);
    *to = *from;
    memset(from, 0, sizeof(*from));
}

const char *pieces_text(const struct pieces *p, size_t index)
{
    return p->text.data ? p->text.data + p->list[index].start : "";
}
