/* added_tokens.c - see added_tokens.h. */
#include "server/tokenizer/added_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/tokenizer/trie.h"
#include "server/tokenizer/unicode_class.h"
#include "kernels/base/utf8.h"

struct token {
    uint32_t id;
    int single_word, lstrip, rstrip, normalized, special;
    size_t shown, shown_size; /* in added_tokens.shown */
};

struct added_tokens {
    struct token_map map; /* content to id */
    struct buffer shown;  /* texts as decoded, each with a NUL behind it */
    struct token *list;   /* in the order of the file */
    size_t count;
    int32_t *index;          /* of an id in list, or -1; map.ids long */
    struct trie raw, normal; /* values are indices of list */
    char moved[192];         /* the first token whose id is not the file's; "" when there is none */
};

static int flag(const json_t *item, const char *key, size_t i, int *value, struct error *err)
{
    const json_t *found = json_object_get(item, key);

    if (!json_is_boolean(found))
        return error_param(err, 400, key, "added_tokens[%zu]: \"%s\" is not true or false", i, key);
    *value = json_is_true(found);
    return 0;
}

/* The id that the `tokenizers` package gives a token: its id in the vocabulary, or the next free one.
 * What the file says is not asked. */
static int choose_id(struct added_tokens *a, const struct token_map *vocabulary, const json_t *item,
                     size_t i, uint32_t *next, uint32_t *id, struct error *err)
{
    const json_t *content = json_object_get(item, "content"), *number = json_object_get(item, "id");
    const char *text = json_string_value(content);
    int64_t known = token_map_find(&a->map, text, json_string_length(content));

    if (number && (!json_is_integer(number) || json_integer_value(number) < 0 ||
                   json_integer_value(number) >= TOKEN_MAP_MOST))
        return error_param(err, 400, "id",
                           "added_tokens[%zu]: \"id\" is not an integer from 0 to %d", i,
                           TOKEN_MAP_MOST - 1);
    if (known < 0)
        known = token_map_find(vocabulary, text, json_string_length(content));
    *id = known >= 0 ? (uint32_t)known : (*next)++;
    if (*id >= TOKEN_MAP_MOST)
        return error_param(err, 400, "id", "added_tokens[%zu]: too many tokens", i);
    if (number && json_integer_value(number) != *id && !a->moved[0])
        snprintf(a->moved, sizeof(a->moved),
                 "added token \"%.60s\" has id %lld in the file and %u here and in the "
                 "tokenizers package",
                 text, (long long)json_integer_value(number), *id);
    return 0;
}

/* Enters a token's content, as normalizing leaves it, into the trie that will find it. */
static int enter(struct added_tokens *a, size_t index, const struct normalizer *normalizer,
                 struct error *err)
{
    struct token *token = &a->list[index];
    const char *text = token_map_text(&a->map, token->id, NULL);
    size_t size = 0;
    struct buffer shown = {0};
    int rc;

    token_map_text(&a->map, token->id, &size);
    if (token->normalized && normalizer_run(normalizer, text, size, NULL, &shown, err))
        goto failed;
    if (!token->normalized)
        buffer_append(&shown, text, size);
    if (!shown.size) {
        error_param(err, 400, "content", "added_tokens: nothing is left of \"%.60s\"", text);
        goto failed;
    }
    rc = trie_add(token->normalized ? &a->normal : &a->raw, shown.data, shown.size, (int32_t)index);
    if (rc > 0)
        error_param(err, 400, "content",
                    "added_tokens: \"%.60s\" is equal to another after normalizing", text);
    if (rc)
        goto failed;
    token->shown = a->shown.size;
    token->shown_size = shown.size;
    buffer_append(&a->shown, shown.data, shown.size + 1);
    if (a->shown.failed)
        goto failed;
    buffer_clear(&shown);
    return 0;
failed:
    buffer_clear(&shown);
    return error_set(err, 500, "added_tokens: out of memory");
}

/* Adds a token, or when its content came before, only its flags. */
static int add(struct added_tokens *a, const json_t *content, const struct token *token, size_t i,
               struct error *err)
{
    const char *text = json_string_value(content);
    size_t k;

    switch (token_map_add(&a->map, text, json_string_length(content), token->id)) {
    case TOKEN_MAP_ADDED:
        a->list[a->count++] = *token;
        return 0;
    case TOKEN_MAP_SAME_TEXT:
        for (k = 0; a->list[k].id != token->id; k++)
            ;
        a->list[k] = *token;
        return 0;
    case TOKEN_MAP_SAME_ID:
        return error_param(err, 400, "content", "added_tokens[%zu]: id %u of \"%.60s\" is taken", i,
                           token->id, text);
    default:
        return error_set(err, 500, "added_tokens: out of memory");
    }
}

static int read_token(struct added_tokens *a, const json_t *item, size_t i,
                      const struct token_map *vocabulary, uint32_t *next, struct error *err)
{
    const json_t *content = json_object_get(item, "content");
    struct token token = {0};

    if (!json_is_string(content))
        return error_param(err, 400, "content", "added_tokens[%zu]: \"content\" is not a string",
                           i);
    if (!json_string_length(content)) /* the package passes over it */
        return 0;
    if (flag(item, "single_word", i, &token.single_word, err) ||
        flag(item, "lstrip", i, &token.lstrip, err) ||
        flag(item, "rstrip", i, &token.rstrip, err) ||
        flag(item, "normalized", i, &token.normalized, err) ||
        flag(item, "special", i, &token.special, err) ||
        choose_id(a, vocabulary, item, i, next, &token.id, err))
        return -1;
    return add(a, content, &token, i, err);
}

static int build_index(struct added_tokens *a, struct error *err)
{
    size_t i;

    a->index = malloc((a->map.ids + 1) * sizeof(*a->index));
    if (!a->index)
        return error_set(err, 500, "added_tokens: out of memory");
    for (i = 0; i < a->map.ids; i++)
        a->index[i] = -1;
    for (i = 0; i < a->count; i++)
        a->index[a->list[i].id] = (int32_t)i;
    return 0;
}

/* Returns whether "skip special tokens" leaves this token out.  As in the package, this depends on
 * the text that the token decodes to: it is left out if that text is a special token's content. */
static int skipped(const struct added_tokens *a, const struct token *token)
{
    int64_t id = token_map_find(&a->map, a->shown.data + token->shown, token->shown_size);

    return id >= 0 && a->list[a->index[id]].special;
}

struct added_tokens *added_tokens_open(const json_t *json, const struct token_map *vocabulary,
                                       const struct normalizer *normalizer, struct error *err)
{
    uint32_t next = (uint32_t)vocabulary->count;
    struct added_tokens *a = calloc(1, sizeof(*a));
    const json_t *item;
    size_t i;

    if (!a) {
        error_set(err, 500, "added_tokens: out of memory");
        return NULL;
    }
    if (json && !json_is_array(json)) {
        error_param(err, 400, "added_tokens", "\"added_tokens\" is not a list");
        goto failed;
    }
    a->list = calloc(json_array_size(json) + 1, sizeof(*a->list));
    if (!a->list) {
        error_set(err, 500, "added_tokens: out of memory");
        goto failed;
    }
    json_array_foreach (json, i, item) {
        if (read_token(a, item, i, vocabulary, &next, err))
            goto failed;
    }
    for (i = 0; i < a->count; i++)
        if (enter(a, i, normalizer, err))
            goto failed;
    if (build_index(a, err))
        goto failed;
    return a;
failed:
    added_tokens_close(a);
    return NULL;
}

void added_tokens_close(struct added_tokens *a)
{
    if (!a)
        return;
    token_map_clear(&a->map);
    buffer_clear(&a->shown);
    trie_clear(&a->raw);
    trie_clear(&a->normal);
    free(a->list);
    free(a->index);
    free(a);
}

/* Returns where the character that ends just before `at` begins; at is not 0. */
static size_t character_before(const char *text, size_t at)
{
    do
        at--;
    while (at && ((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

static int word_before(const char *text, size_t at)
{
    uint32_t point;

    if (!at)
        return 0;
    utf8_get(text + character_before(text, at), &point);
    return unicode_is_word(point);
}

static int word_after(const char *text, size_t size, size_t at)
{
    uint32_t point;

    if (at == size)
        return 0;
    utf8_get(text + at, &point);
    return unicode_is_word(point);
}

static size_t spaces_before(const char *text, size_t at, size_t lowest)
{
    uint32_t point;
    size_t start;

    while (at > lowest) {
        start = character_before(text, at);
        utf8_get(text + start, &point);
        if (!unicode_is_space(point))
            break;
        at = start;
    }
    return at;
}

static size_t spaces_after(const char *text, size_t size, size_t at)
{
    uint32_t point;
    int n;

    while (at < size) {
        n = utf8_get(text + at, &point);
        if (!unicode_is_space(point))
            break;
        at += (size_t)n;
    }
    return at;
}

void added_tokens_split(const struct added_tokens *a, int raw, const char *text, size_t size,
                        struct pieces *out)
{
    const struct trie *trie = raw ? &a->raw : &a->normal;
    size_t base = out->text.size, at = 0, done = 0, length = 0, start, end, first = out->count;
    const struct token *token;
    int32_t index;

    buffer_append(&out->text, text, size);
    out->failed |= out->text.failed;
    while (at < size) {
        index = trie_longest(trie, text + at, size - at, &length);
        if (index < 0) {
            at++;
            continue;
        }
        token = &a->list[index];
        start = at;
        end = at += length;
        if (token->single_word && (word_before(text, start) || word_after(text, size, end)))
            continue;
        if (token->lstrip)
            start = spaces_before(text, start, done);
        if (token->rstrip)
            end = spaces_after(text, size, end);
        if (done < start)
            pieces_add(out, base + done, start - done, -1);
        pieces_add(out, base + start, end - start, token->id);
        done = end;
    }
    if (done != size)
        pieces_add(out, base + done, size - done, -1);
    pieces_drop_empty(out, first);
}

const char *added_tokens_moved(const struct added_tokens *a)
{
    return a->moved;
}

const struct token_map *added_tokens_map(const struct added_tokens *a)
{
    return &a->map;
}

const char *added_tokens_text(const struct added_tokens *a, int64_t id, size_t *size, int *special)
{
    const struct token *token;

    if (id < 0 || (uint64_t)id >= a->map.ids || a->index[id] < 0)
        return NULL;
    token = &a->list[a->index[id]];
    *size = token->shown_size;
    *special = skipped(a, token);
    return a->shown.data + token->shown;
}
