/* trie.h - a map from byte strings to values that finds the longest string a text begins with. */
#ifndef SAMEBIT_TRIE_H
#define SAMEBIT_TRIE_H

#include <stddef.h>
#include <stdint.h>

/* Initialize with zeros. */
struct trie {
    struct trie_node {
        uint32_t child, sibling; /* 0: none */
        int32_t value;           /* -1: no string ends here */
        unsigned char byte;
    } *nodes;
    uint32_t count, capacity;
};

/* Returns 0; 1 when the string is there already; -1 without memory.  The string is not empty. */
int trie_add(struct trie *t, const char *text, size_t size, int32_t value);

/* The same, but the value takes the place of one that is there. */
int trie_set(struct trie *t, const char *text, size_t size, int32_t value);

/* Every string of the set that text begins with, from the shortest on: trie_walk_next returns
 * whether there is another, and then `length` and `value` are its. */
struct trie_walk {
    size_t length;
    int32_t value;
    const struct trie *trie; /* the rest is the walk's own */
    const char *text;
    size_t left;
    uint32_t node;
};
struct trie_walk trie_walk_begin(const struct trie *t, const char *text, size_t size);
int trie_walk_next(struct trie_walk *w);

/* Finds the longest string that text begins with: returns its value and sets *length, or -1. */
int32_t trie_longest(const struct trie *t, const char *text, size_t size, size_t *length);
void trie_clear(struct trie *t);

#endif
