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

/* The node of a string, made when it is not there; UINT32_MAX without memory. */
static uint32_t node_of(struct trie *t, const char *text, size_t size)
{
    uint32_t node, child;
    size_t i;

    if (start(t))
        return UINT32_MAX;
    node = (unsigned char)text[0];
    for (i = 1; i < size; i++, node = child) {
        child = child_of(t, node, (unsigned char)text[i]);
        if (child)
            continue;
        if (new_node(t, (unsigned char)text[i], &child))
            return UINT32_MAX;
        t->nodes[child].sibling = t->nodes[node].child;
        t->nodes[node].child = child;
    }
    return node;
}

int trie_add(struct trie *t, const char *text, size_t size, int32_t value)
{
    uint32_t node = node_of(t, text, size);

    if (node == UINT32_MAX)
        return -1;
    if (t->nodes[node].value >= 0)
        return 1;
    t->nodes[node].value = value;
    return 0;
}

int trie_set(struct trie *t, const char *text, size_t size, int32_t value)
{
    uint32_t node = node_of(t, text, size);

    if (node == UINT32_MAX)
        return -1;
    t->nodes[node].value = value;
    return 0;
}

struct trie_walk trie_walk_begin(const struct trie *t, const char *text, size_t size)
{
    return (struct trie_walk){.trie = t, .text = text, .left = t->nodes ? size : 0};
}

int trie_walk_next(struct trie_walk *w)
{
    uint32_t node;

    while (w->left) {
        node = w->length ? child_of(w->trie, w->node, (unsigned char)*w->text)
                         : (unsigned char)*w->text;
        if (w->length && !node)
            break;
        w->node = node;
        w->length++;
        w->text++;
        w->left--;
        w->value = w->trie->nodes[node].value;
        if (w->value >= 0)
            return 1;
    }
    w->left = 0;
    return 0;
}

int32_t trie_longest(const struct trie *t, const char *text, size_t size, size_t *length)
{
    struct trie_walk walk = trie_walk_begin(t, text, size);
    int32_t value = -1;

    while (trie_walk_next(&walk)) {
        value = walk.value;
        *length = walk.length;
    }
    return value;
}

void trie_clear(struct trie *t)
{
    free(t->nodes);
    memset(t, 0, sizeof(*t));
}
