/* subword.c - see subword.h. */
#include "server/tokenizer/subword.h"

#include <stdlib.h>
#include <string.h>

struct subword { /* one of them is not NULL */
    struct bpe *bpe;
    struct unigram *unigram;
};

/* Without a "type", as old files have it, the keys tell. */
static const char *type_of(const json_t *json)
{
    const char *type = json_string_value(json_object_get(json, "type"));

    if (type)
        return type;
    if (json_is_array(json_object_get(json, "vocab")))
        return "Unigram";
    return json_object_get(json, "max_input_chars_per_word") ? "WordPiece" : "BPE";
}

struct subword *subword_open(const json_t *json, struct error *err)
{
    struct subword *s = calloc(1, sizeof(*s));
    const char *type;

    if (!s) {
        error_set(err, 500, "model: out of memory");
        return NULL;
    }
    if (!json_is_object(json)) {
        error_param(err, 400, "model", "\"model\" is missing or not an object");
        goto failed;
    }
    type = type_of(json);
    if (!strcmp(type, "BPE"))
        s->bpe = bpe_open(json, err);
    else if (!strcmp(type, "Unigram"))
        s->unigram = unigram_open(json, err);
    else
        error_param(err, 400, "type", "model: \"%.40s\" is not supported, only BPE and Unigram",
                    type);
    if (s->bpe || s->unigram)
        return s;
failed:
    free(s);
    return NULL;
}

void subword_close(struct subword *s)
{
    if (!s)
        return;
    bpe_close(s->bpe);
    unigram_close(s->unigram);
    free(s);
}

const struct token_map *subword_vocabulary(const struct subword *s)
{
    return s->bpe ? bpe_vocabulary(s->bpe) : unigram_vocabulary(s->unigram);
}

void subword_work_close(struct subword_work *w)
{
    bpe_work_close(&w->bpe);
    unigram_work_close(&w->unigram);
}

int subword_encode(const struct subword *s, struct subword_work *w, const char *word, size_t size,
                   struct id_list *ids, struct error *err)
{
    return s->bpe ? bpe_encode(s->bpe, &w->bpe, word, size, ids, err)
                  : unigram_encode(s->unigram, &w->unigram, word, size, ids, err);
}
