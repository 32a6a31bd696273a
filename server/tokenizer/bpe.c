/* bpe.c - see bpe.h.  Merging only; bpe_json.c reads the file. */
#include "server/tokenizer/bpe_parts.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/utf8.h"

struct bpe_symbol {
    uint32_t id;
    int32_t previous, next; /* -1: none */
    int gone;               /* merged into the one before it */
};

/* A merge of the symbol at `place` with the next one, waiting in the heap.  The lowest rank is done
 * first; of equal ranks the leftmost. */
struct bpe_merge {
    uint32_t rank, place, id;
};

static size_t pair_slot(const struct bpe *b, uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;

    return (size_t)(h ^ h >> 32) & (b->pair_slots - 1);
}

static const struct bpe_pair *find_pair(const struct bpe *b, uint32_t left, uint32_t right)
{
    size_t slot;

    if (!b->pair_slots)
        return NULL;
    for (slot = pair_slot(b, left, right); b->pairs[slot].used;
         slot = (slot + 1) & (b->pair_slots - 1))
        if (b->pairs[slot].left == left && b->pairs[slot].right == right)
            return &b->pairs[slot];
    return NULL;
}

void bpe_put_pair(struct bpe *b, const struct bpe_pair *pair)
{
    size_t slot = pair_slot(b, pair->left, pair->right);

    while (b->pairs[slot].used &&
           (b->pairs[slot].left != pair->left || b->pairs[slot].right != pair->right))
        slot = (slot + 1) & (b->pair_slots - 1);
    b->pairs[slot] = *pair;
    b->pairs[slot].used = 1;
}

/* Room for one more element; -1 without memory. */
static int room(void *array, size_t *capacity, size_t count, size_t element)
{
    size_t more = *capacity ? *capacity * 2 : 256;
    void *old, *grown;

    if (count < *capacity)
        return 0;
    memcpy(&old, array, sizeof(old));
    grown = realloc(old, more * element);
    if (!grown)
        return -1;
    memcpy(array, &grown, sizeof(grown));
    *capacity = more;
    return 0;
}

void bpe_work_close(struct bpe_work *w)
{
    free(w->symbols);
    free(w->heap);
    buffer_clear(&w->dressed);
    memset(w, 0, sizeof(*w));
}

static int before(const struct bpe_merge *a, const struct bpe_merge *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static int push(struct bpe_work *w, const struct bpe_merge *merge)
{
    size_t i, parent;

    if (room(&w->heap, &w->heap_capacity, w->heap_count, sizeof(*w->heap)))
        return -1;
    for (i = w->heap_count++; i > 0; i = parent) {
        parent = (i - 1) / 2;
        if (!before(merge, &w->heap[parent]))
            break;
        w->heap[i] = w->heap[parent];
    }
    w->heap[i] = *merge;
    return 0;
}

static struct bpe_merge pop(struct bpe_work *w)
{
    struct bpe_merge top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < w->heap_count) {
        if (child + 1 < w->heap_count && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

/* Puts the merge of two neighbouring symbols into the heap, if the model has one for them. */
static int consider(const struct bpe *b, struct bpe_work *w, int32_t left, int32_t right)
{
    const struct bpe_pair *pair;
    struct bpe_merge merge;

    if (left < 0 || right < 0)
        return 0;
    pair = find_pair(b, w->symbols[left].id, w->symbols[right].id);
    if (!pair)
        return 0;
    merge = (struct bpe_merge){pair->rank, (uint32_t)left, pair->id};
    return push(w, &merge);
}

static int merge_at(const struct bpe *b, struct bpe_work *w, const struct bpe_merge *merge)
{
    struct bpe_symbol *symbol = &w->symbols[merge->place], *right;
    const struct bpe_pair *pair;

    if (symbol->gone || symbol->next < 0)
        return 0;
    right = &w->symbols[symbol->next];
    pair = find_pair(b, symbol->id, right->id);
    if (!pair || pair->id != merge->id) /* the neighbours changed since it was put in the heap */
        return 0;
    symbol->id = merge->id;
    symbol->next = right->next;
    right->gone = 1;
    if (right->next >= 0)
        w->symbols[right->next].previous = (int32_t)merge->place;
    if (consider(b, w, symbol->previous, (int32_t)merge->place))
        return -1;
    return consider(b, w, (int32_t)merge->place, symbol->next);
}

static int add_symbol(struct bpe_work *w, uint32_t id)
{
    struct bpe_symbol *s;

    if (room(&w->symbols, &w->symbol_capacity, w->symbol_count, sizeof(*w->symbols)))
        return -1;
    s = &w->symbols[w->symbol_count];
    s->id = id;
    s->previous = (int32_t)w->symbol_count - 1;
    s->next = -1;
    s->gone = 0;
    if (w->symbol_count)
        s[-1].next = (int32_t)w->symbol_count;
    w->symbol_count++;
    return 0;
}

/* Id of a character, dressed (w->dressed) with the prefix of those inside a word and the suffix of its
 * last; or -1. */
static int64_t dressed_id(const struct bpe *b, struct bpe_work *w, const char *text, size_t size,
                          int first, int last)
{
    w->dressed.size = 0;
    if (!first && b->prefix)
        buffer_text(&w->dressed, b->prefix);
    buffer_append(&w->dressed, text, size);
    if (last && b->suffix)
        buffer_text(&w->dressed, b->suffix);
    if (w->dressed.failed)
        return -1;
    return token_map_find(&b->vocabulary, w->dressed.data, w->dressed.size);
}

static int64_t character_id(const struct bpe *b, const char *text, size_t size, uint32_t point)
{
    if (point < BPE_DIRECT)
        return b->direct[point];
    return token_map_find(&b->vocabulary, text, size);
}

/* Symbols for each byte; 0 when one of them has no token, and nothing is added. */
static int spell_bytes(const struct bpe *b, struct bpe_work *w, const char *text, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++)
        if (b->bytes[(unsigned char)text[i]] < 0)
            return 0;
    for (i = 0; i < size; i++)
        if (add_symbol(w, (uint32_t)b->bytes[(unsigned char)text[i]]))
            return -1;
    return 1;
}

/* An unknown character: *pending tells of one before it whose symbol is still to be added. */
static int spell_unknown(const struct bpe *b, struct bpe_work *w, int *pending)
{
    if (b->unknown < 0)
        return 0;
    if (*pending && !b->fuse_unknown && add_symbol(w, (uint32_t)b->unknown))
        return -1;
    *pending = 1;
    return 0;
}

/* The symbol of a character at word[at..at+n).  The package adds an unknown one only when a known
 * character or the end follows, so bytes of a fallback overtake it; they do here too. */
static int spell_character(const struct bpe *b, struct bpe_work *w, const char *word, size_t at,
                           size_t n, size_t size, int *pending, struct error *err)
{
    const char *text = word + at;
    uint32_t point;
    int64_t id;
    int rc;

    utf8_get(text, &point);
    if (b->prefix || b->suffix) {
        id = dressed_id(b, w, text, n, at == 0, at + n == size);
        text = w->dressed.data;
        n = w->dressed.size;
    } else {
        id = character_id(b, text, n, point);
    }
    if (id >= 0) {
        rc = *pending && add_symbol(w, (uint32_t)b->unknown) ? -1 : add_symbol(w, (uint32_t)id);
        *pending = 0;
        return rc;
    }
    if (b->byte_fallback && (rc = spell_bytes(b, w, text, n)))
        return rc < 0 ? -1 : 0;
    if (b->unknown_missing)
        return error_set(err, 400, "tokenizer: U+%04X has no token and the vocabulary no unk_token",
                         (unsigned)point);
    return spell_unknown(b, w, pending);
}

static int spell(const struct bpe *b, struct bpe_work *w, const char *word, size_t size,
                 struct error *err)
{
    size_t at = 0, n;
    int pending = 0, rc = 0;
    uint32_t point;

    w->symbol_count = 0;
    for (; at < size && !rc; at += n) {
        n = (size_t)utf8_get(word + at, &point);
        rc = spell_character(b, w, word, at, n, size, &pending, err);
    }
    if (!rc && pending)
        rc = add_symbol(w, (uint32_t)b->unknown);
    return rc || w->dressed.failed ? error_set(err, 500, "tokenizer: out of memory") : 0;
}

static int merge_all(const struct bpe *b, struct bpe_work *w)
{
    struct bpe_merge merge;
    size_t i;

    w->heap_count = 0;
    for (i = 0; i + 1 < w->symbol_count; i++)
        if (consider(b, w, (int32_t)i, (int32_t)i + 1))
            return -1;
    while (w->heap_count) {
        merge = pop(w);
        if (merge_at(b, w, &merge))
            return -1;
    }
    return 0;
}

int bpe_encode(const struct bpe *b, struct bpe_work *w, const char *word, size_t size,
               struct id_list *ids, struct error *err)
{
    int64_t whole;
    int32_t i;

    if (b->ignore_merges && (whole = token_map_find(&b->vocabulary, word, size)) >= 0) {
        id_list_append(ids, whole);
        return 0;
    }
    if (spell(b, w, word, size, err))
        return -1;
    if (merge_all(b, w))
        return error_set(err, 500, "tokenizer: out of memory");
    for (i = w->symbol_count ? 0 : -1; i >= 0; i = w->symbols[i].next)
        id_list_append(ids, w->symbols[i].id);
    return 0;
}
