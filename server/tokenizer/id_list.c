/* id_list.c - see id_list.h. */
#include "server/tokenizer/id_list.h"

#include <stdlib.h>
#include <string.h>

void id_list_append(struct id_list *l, int64_t id)
{
    size_t capacity = l->capacity ? l->capacity * 2 : 256;
    int64_t *ids;

    if (l->count == l->capacity) {
        ids = realloc(l->ids, capacity * sizeof(*ids));
        if (!ids) {
            l->failed = 1;
            return;
        }
        l->ids = ids;
        l->capacity = capacity;
    }
    l->ids[l->count++] = id;
}

void id_list_clear(struct id_list *l)
{
    free(l->ids);
    memset(l, 0, sizeof(*l));
}
