/* token_map.c - see token_map.h. */
#include "server/tokenizer/token_map.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash(const char *text, size_t size)
{
    uint64_t h = 0x9E3779B97F4A7C15u ^ size, word;

    while (size >= 8) {
        memcpy(&word, text, 8);
        h = (h ^ word) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
        text += 8;
        size -= 8;
    }
    word = 0;
    memcpy(&word, text, size);
    h = (h ^ word) * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return h ^ h >> 32;
}

/* Returns the slot that holds a text, or the empty slot where it would be put. */
static size_t slot_of(const struct token_map *m, const char *text, size_t size)
{
    size_t slot = (size_t)hash(text, size) & (m->slot_count - 1);
    const struct token_text *t;

    for (; m->slots[slot]; slot = (slot + 1) & (m->slot_count - 1)) {
        t = &m->by_id[m->slots[slot] - 1];
        if (t->size == size && !memcmp(m->texts.data + t->start - 1, text, size))
            break;
    }
    return slot;
}

int token_map_reserve(struct token_map *m, size_t count)
{
    size_t slot_count = 64, i;
    uint32_t *slots;

    while (slot_count < count * 2)
        slot_count *= 2;
    if (slot_count <= m->slot_count)
        return 0;
    slots = calloc(slot_count, sizeof(*slots));
    if (!slots)
        return -1;
    free(m->slots);
    m->slots = slots;
    m->slot_count = slot_count;
    for (i = 0; i < m->ids; i++)
        if (m->by_id[i].start)
            slots[slot_of(m, m->texts.data + m->by_id[i].start - 1, m->by_id[i].size)] =
                (uint32_t)i + 1;
    return 0;
}

static int reserve_id(struct token_map *m, uint32_t id)
{
    size_t capacity = m->ids_capacity ? m->ids_capacity : 256;
    struct token_text *by_id;

    if (id >= m->ids_capacity) {
        while (capacity <= id)
            capacity *= 2;
        by_id = realloc(m->by_id, capacity * sizeof(*by_id));
        if (!by_id)
            return -1;
        memset(by_id + m->ids_capacity, 0, (capacity - m->ids_capacity) * sizeof(*by_id));
        m->by_id = by_id;
        m->ids_capacity = capacity;
    }
    if (id >= m->ids)
        m->ids = (size_t)id + 1;
    return 0;
}

int token_map_add(struct token_map *m, const char *text, size_t size, uint32_t id)
{
    size_t slot;

    if (token_map_reserve(m, m->count + 1) || m->texts.size + size >= UINT32_MAX)
        return TOKEN_MAP_NO_MEMORY;
    slot = slot_of(m, text, size);
    if (m->slots[slot])
        return TOKEN_MAP_SAME_TEXT;
    if (id < m->ids && m->by_id[id].start)
        return TOKEN_MAP_SAME_ID;
    if (reserve_id(m, id))
        return TOKEN_MAP_NO_MEMORY;
    m->by_id[id].start = (uint32_t)m->texts.size + 1;
    m->by_id[id].size = (uint32_t)size;
    buffer_append(&m->texts, text, size);
    buffer_append(&m->texts, "", 1);
    if (m->texts.failed)
        return TOKEN_MAP_NO_MEMORY;
    m->slots[slot] = id + 1;
    m->count++;
    return TOKEN_MAP_ADDED;
}

int token_map_replace(struct token_map *m, const char *text, size_t size, uint32_t id)
{
    size_t slot = slot_of(m, text, size);

    if (reserve_id(m, id))
        return TOKEN_MAP_NO_MEMORY;
    m->by_id[id] = m->by_id[m->slots[slot] - 1];
    m->slots[slot] = id + 1;
    m->count++;
    return 0;
}

int64_t token_map_find(const struct token_map *m, const char *text, size_t size)
{
    if (!m->slot_count)
        return -1;
    return (int64_t)m->slots[slot_of(m, text, size)] - 1;
}

const char *token_map_text(const struct token_map *m, int64_t id, size_t *size)
{
    if (id < 0 || (uint64_t)id >= m->ids || !m->by_id[id].start)
        return NULL;
    if (size)
        *size = m->by_id[id].size;
    return m->texts.data + m->by_id[id].start - 1;
}

void token_map_clear(struct token_map *m)
{
    buffer_clear(&m->texts);
    free(m->by_id);
    free(m->slots);
    memset(m, 0, sizeof(*m));
}
