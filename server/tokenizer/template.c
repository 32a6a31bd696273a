/* template.c - see template.h. */
#include "server/tokenizer/template.h"

#include <stdlib.h>
#include <string.h>

#include "server/tokenizer/token_map.h"

enum { TEXT = -1 };

struct template
{
    int used;       /* the file has a TemplateProcessing */
    int64_t *items; /* special tokens' ids, and TEXT where the ids of the text go */
    size_t count, texts;
};

static int add(struct template *t, int64_t item, struct error *err)
{
    int64_t *items = realloc(t->items, (t->count + 1) * sizeof(*items));

    if (!items)
        return error_set(err, 500, "post_processor: out of memory");
    t->items = items;
    items[t->count++] = item;
    t->texts += item == TEXT;
    return 0;
}

static int add_special(struct template *t, const json_t *tokens, const char *name,
                       struct error *err)
{
    const json_t *ids = json_object_get(json_object_get(tokens, name), "ids"), *id;
    size_t i;

    if (!json_is_array(ids))
        return error_param(err, 400, "special_tokens",
                           "post_processor: \"special_tokens\" has no \"ids\" for \"%.60s\"", name);
    json_array_foreach (ids, i, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= TOKEN_MAP_MOST)
            return error_param(err, 400, "special_tokens",
                               "post_processor: \"special_tokens\": an id of \"%.60s\" is not an "
                               "integer from 0 to %d",
                               name, TOKEN_MAP_MOST - 1);
        if (add(t, json_integer_value(id), err))
            return -1;
    }
    return 0;
}

static int read_piece(struct template *t, const json_t *piece, const json_t *tokens, size_t i,
                      struct error *err)
{
    const json_t *text = json_object_get(piece, "Sequence");
    const json_t *special = json_object_get(piece, "SpecialToken");
    const char *id = json_string_value(json_object_get(text ? text : special, "id"));

    if (text && id && !strcmp(id, "A"))
        return add(t, TEXT, err);
    if (!text && id)
        return add_special(t, tokens, id, err);
    return error_param(err, 400, "single",
                       "post_processor: \"single\"[%zu] is neither the sequence A nor a special "
                       "token",
                       i);
}

static int read_template(struct template *t, const json_t *json, struct error *err)
{
    const json_t *single = json_object_get(json, "single"), *piece;
    size_t i;

    if (t->used)
        return error_param(err, 400, "post_processor",
                           "post_processor: more than one TemplateProcessing");
    if (!json_is_array(single))
        return error_param(err, 400, "single", "post_processor: \"single\" is not a list");
    t->used = 1;
    json_array_foreach (single, i, piece) {
        if (read_piece(t, piece, json_object_get(json, "special_tokens"), i, err))
            return -1;
    }
    return 0;
}

/* "cls" and "sep" of RobertaProcessing and BertProcessing: a token and its id. */
static int add_pair(struct template *t, const json_t *json, const char *key, struct error *err)
{
    const json_t *id = json_array_get(json_object_get(json, key), 1);

    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= TOKEN_MAP_MOST)
        return error_param(err, 400, key, "post_processor: \"%s\" is no [token, id]", key);
    return add(t, json_integer_value(id), err);
}

static int read_pairs(struct template *t, const json_t *json, struct error *err)
{
    if (t->used)
        return error_param(err, 400, "post_processor",
                           "post_processor: more than one that adds tokens");
    t->used = 1;
    return add_pair(t, json, "cls", err) || add(t, TEXT, err) || add_pair(t, json, "sep", err) ? -1
                                                                                               : 0;
}

static int read(struct template *t, const json_t *json, int depth, struct error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    const json_t *list, *item;
    size_t i;

    if (!type || depth > 8)
        return error_param(err, 400, "post_processor",
                           "post_processor: no \"type\", or nested too deep");
    if (!strcmp(type, "ByteLevel"))
        return 0;
    if (!strcmp(type, "TemplateProcessing"))
        return read_template(t, json, err);
    if (!strcmp(type, "RobertaProcessing") || !strcmp(type, "BertProcessing"))
        return read_pairs(t, json, err);
    if (strcmp(type, "Sequence"))
        return error_param(err, 400, "post_processor", "post_processor: \"%.40s\" is not supported",
                           type);
    list = json_object_get(json, "processors");
    if (!json_is_array(list))
        return error_param(err, 400, "processors", "post_processor: \"processors\" is not a list");
    json_array_foreach (list, i, item) {
        if (read(t, item, depth + 1, err))
            return -1;
    }
    return 0;
}

struct template *template_open(const json_t *json, struct error *err)
{
    struct template *t = calloc(1, sizeof(*t));

    if (!t) {
        error_set(err, 500, "post_processor: out of memory");
        return NULL;
    }
    if (json && !json_is_null(json) && read(t, json, 0, err)) {
        template_close(t);
        return NULL;
    }
    return t;
}

void template_close(struct template *t)
{
    if (!t)
        return;
    free(t->items);
    free(t);
}

int template_apply(const struct template *t, const int64_t *ids, size_t count, int special,
                   int64_t **all, size_t *all_count, struct error *err)
{
    size_t i, most = count, n = 0;
    int64_t *out;

    if (t->used)
        most = t->texts * count + t->count;
    out = malloc((most + 1) * sizeof(*out));
    if (!out)
        return error_set(err, 500, "post_processor: out of memory");
    if (!t->used && count) {
        memcpy(out, ids, count * sizeof(*out));
        n = count;
    }
    for (i = 0; i < t->count; i++) {
        if (t->items[i] != TEXT && special)
            out[n++] = t->items[i];
        if (t->items[i] == TEXT && count) {
            memcpy(out + n, ids, count * sizeof(*out));
            n += count;
        }
    }
    *all = out;
    *all_count = n;
    return 0;
}

int64_t template_largest(const struct template *t)
{
    int64_t largest = 0;
    size_t i;

    for (i = 0; i < t->count; i++)
        if (t->items[i] >= largest)
            largest = t->items[i] + 1;
    return largest;
}
