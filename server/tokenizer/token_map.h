/* token_map.h - tokens and their ids, both ways. */
#ifndef SAMEBIT_TOKEN_MAP_H
#define SAMEBIT_TOKEN_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/buffer.h"

/* Ids from here on are refused: tables are as long as the largest id, and no vocabulary comes near. */
enum { TOKEN_MAP_MOST = 1 << 22 };

/* Initialize with zeros.  Texts may hold any bytes; each is stored with a NUL behind it. */
struct token_map {
    struct buffer texts;
    struct token_text {
        uint32_t start,
            size; /* start is one more than the offset in texts; 0: the id has no token */
    } *by_id;
    size_t ids; /* one past the largest id */
    size_t ids_capacity;
    size_t count;    /* tokens */
    uint32_t *slots; /* open addressing: id + 1, or 0 */
    size_t slot_count;
};

enum { TOKEN_MAP_ADDED, TOKEN_MAP_SAME_TEXT, TOKEN_MAP_SAME_ID, TOKEN_MAP_NO_MEMORY };

/* id must be in 0 .. TOKEN_MAP_MOST - 1. */
int token_map_add(struct token_map *m, const char *text, size_t size, uint32_t id);
/* Gives a text that is there already to another, new id; the old id keeps the text for
 * token_map_text.  Returns 0, or TOKEN_MAP_NO_MEMORY. */
int token_map_replace(struct token_map *m, const char *text, size_t size, uint32_t id);
/* Makes room for so many tokens at once. */
int token_map_reserve(struct token_map *m, size_t count);
int64_t token_map_find(const struct token_map *m, const char *text, size_t size); /* or -1 */
/* NULL for an id that has no token.  size may be NULL. */
const char *token_map_text(const struct token_map *m, int64_t id, size_t *size);
void token_map_clear(struct token_map *m);

#endif
