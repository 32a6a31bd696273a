/* pieces.h - a text on its way to tokens: cut into pieces, some of which are tokens already. */
#ifndef SAMEBIT_PIECES_H
#define SAMEBIT_PIECES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/buffer.h"

struct piece {
    size_t start, size; /* bytes of text */
    int64_t id;         /* the token it is, or -1: still to be cut and looked up */
    size_t zero; /* leading bytes that stem from the very beginning of all text (aligned.h) */
};

/* All zero is empty.  As with buffers, a failed allocation is remembered in `failed`. */
struct pieces {
    struct buffer text;
    struct piece *list;
    size_t count, capacity;
    int failed;
};

/* Adds a piece of the text. */
void pieces_add(struct pieces *p, size_t start, size_t size, int64_t id);
/* The same with its text, which is appended. */
void pieces_append(struct pieces *p, const char *text, size_t size, int64_t id);
/* Sets `zero` of the pieces from `first` on, which lie in a stretch of text that begins at `start` and
 * has `zero` such bytes. */
void pieces_align(struct pieces *p, size_t first, size_t start, size_t zero);
/* Removes pieces from `first` on that are empty and no tokens. */
void pieces_drop_empty(struct pieces *p, size_t first);
void pieces_clear(struct pieces *p);
/* *to takes over *from, which is empty afterwards; what *to had is freed. */
void pieces_move(struct pieces *to, struct pieces *from);
const char *pieces_text(const struct pieces *p, size_t index); /* never NULL */

#endif
