/* id_list.h - a list of token ids that grows. */
#ifndef SAMEBIT_ID_LIST_H
#define SAMEBIT_ID_LIST_H

#include <stddef.h>
#include <stdint.h>

/* All zero is an empty list.  As with buffers, a failed allocation is remembered in `failed`. */
struct id_list {
    int64_t *ids;
    size_t count, capacity;
    int failed;
};

void id_list_append(struct id_list *l, int64_t id);
void id_list_clear(struct id_list *l); /* frees; the list is empty afterwards */

#endif
