/* pieces.h - a text on its way to tokens: cut into pieces, some of which are tokens already. */
#ifndef SAMEBIT_PIECES_H
#define SAMEBIT_PIECES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/buffer.h"

struct piece {
    size_t start, size; /* bytes of text */
    int64_t id;         /* of the token that it is, or -1: still to be split and merged */
};

/* Initialize with zeros.  As in struct buffer, a failed allocation only sets `failed`. */
struct pieces {
    struct buffer text;
    struct piece *list;
    size_t count, capacity;
    int failed;
};

/* Adds a piece that is bytes start .. start+size-1 of `text`. */
void pieces_add(struct pieces *p, size_t start, size_t size, int64_t id);
/* Appends these bytes to `text` and adds them as a piece. */
void pieces_append(struct pieces *p, const char *text, size_t size, int64_t id);
/* Removes pieces that are empty and no tokens, from number `first` on. */
void pieces_drop_empty(struct pieces *p, size_t first);
void pieces_clear(struct pieces *p);
/* Moves *from to *to, whose old content is freed; *from is empty afterwards. */
void pieces_move(struct pieces *to, struct pieces *from);
const char *pieces_text(const struct pieces *p, size_t index); /* never NULL */

#endif
