/* trie.c - see trie.h.  Nodes 0 to 255 are the first bytes; the children of a node are a linked
 * list. */
#include "server/tokenizer/trie.h"

#include <stdlib.h>
#include <string.h>

static int new_node(struct trie *t, unsigned char byte, uint32_t *index)
{
    uint32_t capacity = t->capacity ? t->capacity * 2 : 512;
    struct trie_node *nodes;

    if (t->count == t->capacity) {
        if (capacity < t->capacity)
            return -1;
        nodes = realloc(t->nodes, capacity * sizeof(*nodes));
        if (!nodes)
            return -1;
        t->nodes = nodes;
        t->capacity = capacity;
    }
    t->nodes[t->count] = (struct trie_node){.value = -1, .byte = byte};
    *index = t->count++;
    return 0;
}

static int start(struct trie *t)
{
    uint32_t index;

    while (t->count < 256)
        if (new_node(t, (unsigned char)t->count, &index))
            return -1;
    return 0;
}

static uint32_t child_of(const struct trie *t, uint32_t node, unsigned char byte)
{
    uint32_t child = t->nodes[node].child;

    while (child && t->nodes[child].byte != byte)
        child = t->nodes[child].sibling;
    return child;
}

int trie_add(struct trie *t, const char *text, size_t size, int32_t value)
{
    uint32_t node, child;
    size_t i;

    if (start(t))
        return -1;
    node = (unsigned char)text[0];
    for (i = 1; i < size; i++, node = child) {
        child = child_of(t, node, (unsigned char)text[i]);
        if (child)
            continue;
        if (new_node(t, (unsigned char)text[i], &child))
            return -1;
        t->nodes[child].sibling = t->nodes[node].child;
        t->nodes[node].child = child;
    }
    if (t->nodes[node].value >= 0)
        return 1;
    t->nodes[node].value = value;
    return 0;
}

int32_t trie_longest(const struct trie *t, const char *text, size_t size, size_t *length)
{
    int32_t value = -1;
    uint32_t node;
    size_t i = 1;

    if (!t->nodes || !size)
        return -1;
    node = (unsigned char)text[0];
    do {
        if (t->nodes[node].value >= 0) {
            value = t->nodes[node].value;
            *length = i;
        }
        node = i < size ? child_of(t, node, (unsigned char)text[i]) : 0;
        i++;
    } while (node);
    return value;
}

void trie_clear(struct trie *t)
{
    free(t->nodes);
    memset(t, 0, sizeof(*t));
}
