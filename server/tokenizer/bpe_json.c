/* bpe_json.c - reads the "model" of tokenizer.json. */
#include "server/tokenizer/bpe_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/utf8.h"

static int read_vocabulary(struct bpe *b, const json_t *vocab, struct error *err)
{
    const char *text;
    json_t *value;
    json_int_t id;
    void *it;
    size_t size;

    if (!json_is_object(vocab))
        return error_param(err, 400, "vocab", "model: \"vocab\" is not an object");
    if (token_map_reserve(&b->vocabulary, json_object_size(vocab)))
        return error_set(err, 500, "model: out of memory");
    for (it = json_object_iter((json_t *)vocab); it;
         it = json_object_iter_next((json_t *)vocab, it)) {
        text = json_object_iter_key(it);
        size = json_object_iter_key_len(it);
        value = json_object_iter_value(it);
        id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= TOKEN_MAP_MOST)
            return error_param(err, 400, "vocab",
                               "model: \"vocab\": the id of \"%.60s\" is not an integer from 0 to "
                               "%d",
                               text, TOKEN_MAP_MOST - 1);
        switch (token_map_add(&b->vocabulary, text, size, (uint32_t)id)) {
        case TOKEN_MAP_ADDED:
            break;
        case TOKEN_MAP_SAME_ID:
            return error_param(err, 400, "vocab",
                               "model: \"vocab\": id %lld of \"%.60s\" is also the id of \"%.60s\"",
                               (long long)id, text, token_map_text(&b->vocabulary, id, NULL));
        case TOKEN_MAP_SAME_TEXT:
            return error_param(err, 400, "vocab", "model: \"vocab\": \"%.60s\" comes twice", text);
        default:
            return error_set(err, 500, "model: out of memory");
        }
    }
    return 0;
}

/* Sets text[] and size[] to the two halves of merge number i, which the file spells as a pair of
 * strings or as one string with a space between them. */
static int halves(const json_t *item, size_t i, const char *text[2], size_t size[2],
                  struct error *err)
{
    const json_t *string;
    const char *space;
    int k;

    if (json_is_array(item) && json_array_size(item) == 2) {
        for (k = 0; k < 2; k++) {
            string = json_array_get(item, (size_t)k);
            if (!json_is_string(string))
                return error_param(err, 400, "merges", "model: \"merges\"[%zu] is no pair", i);
            text[k] = json_string_value(string);
            size[k] = json_string_length(string);
        }
        return 0;
    }
    if (!json_is_string(item))
        return error_param(err, 400, "merges", "model: \"merges\"[%zu] is no pair", i);
    text[0] = json_string_value(item);
    size[1] = json_string_length(item);
    space = memchr(text[0], ' ', size[1]);
    if (space) {
        text[1] = space + 1;
        size[0] = (size_t)(space - text[0]);
        size[1] -= size[0] + 1;
    }
    if (!space || memchr(text[1], ' ', size[1]))
        return error_param(err, 400, "merges", "model: \"merges\"[%zu] is not two tokens", i);
    return 0;
}

static int read_merge(struct bpe *b, const json_t *item, size_t i, uint32_t rank,
                      struct buffer *joined, struct error *err)
{
    const char *text[3];
    size_t size[3];
    uint32_t ids[3];
    int64_t id;
    int k;

    if (halves(item, i, text, size, err))
        return -1;
    joined->size = 0;
    buffer_append(joined, text[0], size[0]);
    if (size[1] > b->prefix_size)
        buffer_append(joined, text[1] + b->prefix_size, size[1] - b->prefix_size);
    if (joined->failed)
        return error_set(err, 500, "model: out of memory");
    text[2] = joined->data;
    size[2] = joined->size;
    for (k = 0; k < 3; k++) {
        id = token_map_find(&b->vocabulary, text[k], size[k]);
        if (id < 0)
            return error_param(err, 400, "merges",
                               "model: \"merges\"[%zu]: \"%.*s\" is not in the vocabulary", i,
                               (int)(size[k] < 60 ? size[k] : 60), text[k]);
        ids[k] = (uint32_t)id;
    }
    bpe_put_pair(b, &(struct bpe_pair){ids[0], ids[1], rank, ids[2], 1});
    return 0;
}

static int read_merges(struct bpe *b, const json_t *merges, struct error *err)
{
    struct buffer joined = {0};
    const json_t *item;
    uint32_t rank = 0;
    size_t i;
    int rc = 0;

    if (!json_is_array(merges))
        return error_param(err, 400, "merges", "model: \"merges\" is not a list");
    for (b->pair_slots = 64; b->pair_slots < json_array_size(merges) * 3 / 2;)
        b->pair_slots *= 2;
    b->pairs = calloc(b->pair_slots, sizeof(*b->pairs));
    if (!b->pairs)
        return error_set(err, 500, "model: out of memory");
    json_array_foreach (merges, i, item) {
        /* the first line of an old merges.txt */
        if (json_is_string(item) && !strncmp(json_string_value(item), "#version", 8))
            continue;
        rc = read_merge(b, item, i, rank++, &joined, err);
        if (rc)
            break;
    }
    buffer_clear(&joined);
    return rc;
}

static int is_unset(const json_t *value)
{
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && !json_string_length(value)) ||
           (json_is_number(value) && !(json_number_value(value) != 0));
}

/* A string that is null, missing or empty: NULL. */
static int read_text(const json_t *json, const char *key, char **out, struct error *err)
{
    const json_t *value = json_object_get(json, key);

    if (!value || json_is_null(value) || (json_is_string(value) && !json_string_length(value)))
        return 0;
    if (!json_is_string(value))
        return error_param(err, 400, key, "model: \"%s\" is not a string", key);
    *out = strdup(json_string_value(value));
    return *out ? 0 : error_set(err, 500, "model: out of memory");
}

static int read_unknown(struct bpe *b, const json_t *unknown, struct error *err)
{
    b->unknown = -1;
    if (!unknown || json_is_null(unknown))
        return 0;
    if (!json_is_string(unknown))
        return error_param(err, 400, "unk_token", "model: \"unk_token\" is not a string");
    b->unknown =
        token_map_find(&b->vocabulary, json_string_value(unknown), json_string_length(unknown));
    /* A byte-level vocabulary never needs the unknown token, so that the vocabulary lacks it becomes
     * an error only when a text needs it. */
    b->unknown_missing = b->unknown < 0;
    return 0;
}

static void read_bytes(struct bpe *b)
{
    char name[8];
    int i;

    for (i = 0; i < 256; i++) {
        snprintf(name, sizeof(name), "<0x%02X>", (unsigned)i);
        b->bytes[i] = token_map_find(&b->vocabulary, name, 6);
    }
}

static int read_options(struct bpe *b, const json_t *json, struct error *err)
{
    const char *at;

    if (!is_unset(json_object_get(json, "dropout")))
        return error_param(err, 400, "dropout",
                           "model: \"dropout\" makes ids random, which is not supported");
    if (read_text(json, "continuing_subword_prefix", &b->prefix, err) ||
        read_text(json, "end_of_word_suffix", &b->suffix, err) ||
        read_unknown(b, json_object_get(json, "unk_token"), err))
        return -1;
    /* the package counts characters here and then cuts bytes */
    for (at = b->prefix; at && *at; at++)
        b->prefix_size += ((unsigned char)*at & 0xC0) != 0x80;
    b->fuse_unknown = json_is_true(json_object_get(json, "fuse_unk"));
    b->ignore_merges = json_is_true(json_object_get(json, "ignore_merges"));
    b->byte_fallback = json_is_true(json_object_get(json, "byte_fallback"));
    read_bytes(b);
    return 0;
}

static void fill_direct(struct bpe *b)
{
    char bytes[4];
    uint32_t i;

    for (i = 0; i < BPE_DIRECT; i++)
        b->direct[i] = (int32_t)token_map_find(&b->vocabulary, bytes, (size_t)utf8_put(i, bytes));
}

struct bpe *bpe_open(const json_t *json, struct error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    struct bpe *b = calloc(1, sizeof(*b));

    if (!b) {
        error_set(err, 500, "model: out of memory");
        return NULL;
    }
    if (!json_is_object(json)) {
        error_param(err, 400, "model", "\"model\" is missing or not an object");
        goto failed;
    }
    if (type && strcmp(type, "BPE")) {
        error_param(err, 400, "type", "model: \"%.40s\" is not BPE", type);
        goto failed;
    }
    if (read_vocabulary(b, json_object_get(json, "vocab"), err) || read_options(b, json, err) ||
        read_merges(b, json_object_get(json, "merges"), err))
        goto failed;
    fill_direct(b);
    return b;
failed:
    bpe_close(b);
    return NULL;
}

void bpe_close(struct bpe *b)
{
    if (!b)
        return;
    token_map_clear(&b->vocabulary);
    free(b->pairs);
    free(b->prefix);
    free(b->suffix);
    free(b);
}

const struct token_map *bpe_vocabulary(const struct bpe *b)
{
    return &b->vocabulary;
}
