/* unigram.c - see unigram.h.
 *
 * Viterbi's best path, left to right, in doubles and in the order of the `tokenizers` package: among
 * equal sums the one found first stays. */
#include "server/tokenizer/unigram.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/tokenizer/trie.h"
#include "kernels/base/utf8.h"

static const double unknown_penalty =
    10; /* what an unknown character costs beside the worst piece */

struct unigram {
    struct token_map vocabulary;
    struct trie trie; /* values are ids */
    double *scores;   /* by id */
    double unknown_score;
    int64_t unknown; /* id, or -1 */
    int byte_fallback;
    int64_t bytes[256]; /* ids of <0x00> to <0xFF>, or -1 */
};

/* The best way to the byte here. */
struct unigram_node {
    double score;
    size_t start; /* of the last piece of the way; SIZE_MAX: there is none yet */
    int64_t id;
};

/* The double nearest to 10^n, n from 0 to 340. */
static double power_of_ten(int n)
{
    char text[16];

    snprintf(text, sizeof(text), "1e%d", n);
    return strtod(text, NULL);
}

/* A score as the `tokenizers` package reads it from the file: its JSON parser takes the digits for a
 * whole number, rounds that to a double and then divides by a power of ten, which for 16 and 17
 * digits is now and then a neighbour of the nearest double.  Ties between cuts depend on it. */
static double read_score(double value)
{
    char text[40], digits[24];
    double whole, size = fabs(value);
    int precision, exponent, n = 0, i;

    for (precision = 14; precision < 17; precision++) {
        snprintf(text, sizeof(text), "%.*e", precision, size);
        if (!(strtod(text, NULL) < size) && !(strtod(text, NULL) > size))
            break;
    }
    if (!(size > 0) || isinf(size))
        return value;
    for (i = 0; text[i] && text[i] != 'e'; i++)
        if (text[i] != '.')
            digits[n++] = text[i];
    exponent = atoi(text + i + 1) - (n - 1);
    for (; n > 1 && digits[n - 1] == '0'; n--)
        exponent++;
    digits[n] = '\0';
    whole = (double)strtoull(digits, NULL, 10);
    whole = exponent < 0 ? whole / power_of_ten(-exponent) : whole * power_of_ten(exponent);
    return value < 0 ? -whole : whole;
}

static int read_piece(struct unigram *u, const json_t *item, size_t i, double *least,
                      struct error *err)
{
    const json_t *text = json_array_get(item, 0), *score = json_array_get(item, 1);
    int rc;

    if (json_array_size(item) != 2 || !json_is_string(text) || !json_is_number(score))
        return error_param(err, 400, "vocab", "model: \"vocab\"[%zu] is no [piece, score]", i);
    u->scores[i] = read_score(json_number_value(score));
    if (u->scores[i] < *least)
        *least = u->scores[i];
    rc = token_map_add(&u->vocabulary, json_string_value(text), json_string_length(text),
                       (uint32_t)i);
    if (rc == TOKEN_MAP_SAME_TEXT)
        rc = token_map_replace(&u->vocabulary, json_string_value(text), json_string_length(text),
                               (uint32_t)i);
    if (!rc && json_string_length(text))
        rc = trie_set(&u->trie, json_string_value(text), json_string_length(text), (int32_t)i);
    return rc ? error_set(err, 500, "model: out of memory") : 0;
}

static int read_vocabulary(struct unigram *u, const json_t *vocab, struct error *err)
{
    const json_t *item;
    double least = INFINITY;
    size_t i;

    if (!json_is_array(vocab))
        return error_param(err, 400, "vocab", "model: \"vocab\" is not a list of [piece, score]");
    if (json_array_size(vocab) >= TOKEN_MAP_MOST)
        return error_param(err, 400, "vocab", "model: \"vocab\" has %zu pieces, the limit is %d",
                           json_array_size(vocab), TOKEN_MAP_MOST - 1);
    u->scores = calloc(json_array_size(vocab) + 1, sizeof(*u->scores));
    if (!u->scores || token_map_reserve(&u->vocabulary, json_array_size(vocab)))
        return error_set(err, 500, "model: out of memory");
    json_array_foreach (vocab, i, item)
        if (read_piece(u, item, i, &least, err))
            return -1;
    u->unknown_score = least - unknown_penalty;
    return 0;
}

static int read_options(struct unigram *u, const json_t *json, struct error *err)
{
    const json_t *unknown = json_object_get(json, "unk_id");
    char name[8];
    int i;

    u->unknown = -1;
    if (unknown && !json_is_null(unknown)) {
        u->unknown = json_integer_value(unknown);
        if (!json_is_integer(unknown) || !token_map_text(&u->vocabulary, u->unknown, NULL))
            return error_param(err, 400, "unk_id", "model: \"unk_id\" is no piece's");
    }
    u->byte_fallback = json_is_true(json_object_get(json, "byte_fallback"));
    for (i = 0; i < 256; i++) {
        snprintf(name, sizeof(name), "<0x%02X>", (unsigned)i);
        u->bytes[i] = token_map_find(&u->vocabulary, name, 6);
    }
    return 0;
}

struct unigram *unigram_open(const json_t *json, struct error *err)
{
    struct unigram *u = calloc(1, sizeof(*u));

    if (!u) {
        error_set(err, 500, "model: out of memory");
        return NULL;
    }
    if (read_vocabulary(u, json_object_get(json, "vocab"), err) || read_options(u, json, err)) {
        unigram_close(u);
        return NULL;
    }
    return u;
}

void unigram_close(struct unigram *u)
{
    if (!u)
        return;
    token_map_clear(&u->vocabulary);
    trie_clear(&u->trie);
    free(u->scores);
    free(u);
}

const struct token_map *unigram_vocabulary(const struct unigram *u)
{
    return &u->vocabulary;
}

void unigram_work_close(struct unigram_work *w)
{
    free(w->nodes);
    free(w->cuts);
    memset(w, 0, sizeof(*w));
}

static int prepare(struct unigram_work *w, size_t size)
{
    struct unigram_node *nodes;
    size_t i;

    if (size + 1 > w->node_capacity) {
        nodes = realloc(w->nodes, (size + 1) * sizeof(*nodes));
        if (!nodes)
            return -1;
        w->nodes = nodes;
        w->node_capacity = size + 1;
    }
    for (i = 0; i <= size; i++)
        w->nodes[i] = (struct unigram_node){0, SIZE_MAX, 0};
    w->cut_count = 0;
    return 0;
}

static void offer(struct unigram_node *node, double score, size_t start, int64_t id)
{
    if (node->start == SIZE_MAX || score > node->score)
        *node = (struct unigram_node){score, start, id};
}

/* Every piece that begins at `at`, and the unknown token where no piece is that one character. */
static int offer_from(const struct unigram *u, struct unigram_work *w, const char *word,
                      size_t size, size_t at, size_t width, struct error *err)
{
    const double here = w->nodes[at].score;
    struct trie_walk walk = trie_walk_begin(&u->trie, word + at, size - at);
    int single = 0;

    while (trie_walk_next(&walk)) {
        offer(&w->nodes[at + walk.length], u->scores[walk.value] + here, at, walk.value);
        single |= walk.length == width;
    }
    if (single)
        return 0;
    if (u->unknown < 0)
        return error_set(err, 400, "tokenizer: a character has no piece and \"unk_id\" is not set");
    offer(&w->nodes[at + width], u->unknown_score + here, at, u->unknown);
    return 0;
}

static int add_cut(struct unigram_work *w, size_t start, size_t size)
{
    size_t more = w->cut_capacity ? w->cut_capacity * 2 : 256;
    struct unigram_cut *cuts;

    if (w->cut_count == w->cut_capacity) {
        cuts = realloc(w->cuts, more * sizeof(*cuts));
        if (!cuts)
            return -1;
        w->cuts = cuts;
        w->cut_capacity = more;
    }
    w->cuts[w->cut_count++] = (struct unigram_cut){start, size};
    return 0;
}

/* Follows the best way back.  Unknown pieces in a row are one. */
static int cut_back(const struct unigram *u, struct unigram_work *w, size_t size)
{
    const struct unigram_node *node;
    size_t end;
    int unknown, before = 0;

    for (end = size; end > 0; end = node->start) {
        node = &w->nodes[end];
        unknown = u->unknown >= 0 && node->id == u->unknown;
        if (unknown && before) {
            w->cuts[w->cut_count - 1].start = node->start;
            w->cuts[w->cut_count - 1].size += end - node->start;
        } else if (add_cut(w, node->start, end - node->start)) {
            return -1;
        }
        before = unknown;
    }
    return 0;
}

static int append_bytes(const struct unigram *u, const char *text, size_t size, struct id_list *ids)
{
    size_t i;

    for (i = 0; i < size; i++)
        if (u->bytes[(unsigned char)text[i]] < 0)
            return -1;
    for (i = 0; i < size; i++)
        id_list_append(ids, u->bytes[(unsigned char)text[i]]);
    return 0;
}

static int append_piece(const struct unigram *u, const char *text, size_t size, struct id_list *ids,
                        struct error *err)
{
    int64_t id = token_map_find(&u->vocabulary, text, size);

    if (id < 0 && u->byte_fallback && !append_bytes(u, text, size, ids))
        return 0;
    if (id < 0)
        id = u->unknown;
    if (id < 0)
        return error_set(err, 400, "tokenizer: a character has no piece and \"unk_id\" is not set");
    id_list_append(ids, id);
    return 0;
}

int unigram_encode(const struct unigram *u, struct unigram_work *w, const char *word, size_t size,
                   struct id_list *ids, struct error *err)
{
    size_t at = 0, width, i;
    uint32_t point;

    if (prepare(w, size))
        return error_set(err, 500, "tokenizer: out of memory");
    for (; at < size; at += width) {
        width = (size_t)utf8_get(word + at, &point);
        if (offer_from(u, w, word, size, at, width, err))
            return -1;
    }
    if (cut_back(u, w, size))
        return error_set(err, 500, "tokenizer: out of memory");
    for (i = w->cut_count; i-- > 0;)
        if (append_piece(u, word + w->cuts[i].start, w->cuts[i].size, ids, err))
            return -1;
    return 0;
}
