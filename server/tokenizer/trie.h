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

/* Finds the longest string that text begins with: returns its value and sets *length, or -1. */
int32_t trie_longest(const struct trie *t, const char *text, size_t size, size_t *length);
void trie_clear(struct trie *t);

#endif
