/* family_attention.c - see family_attention.h. */
#include "server/model/family_attention.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[ATTENTION_COUNT] = {"eager", "sdpa"};

const char *attention_name(enum attention attention)
{
    return names[attention];
}

int attention_find(const char *name)
{
    for (int i = 0; i < ATTENTION_COUNT; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

int attention_read(const char *name, enum attention *out, struct error *err)
{
    const int found = attention_find(name);
    char known[80] = "";

    for (int i = 0; i < ATTENTION_COUNT; i++) {
        strcat(known, i ? ", " : "");
        strcat(known, names[i]);
    }
    if (found < 0)
        return error_param(err, 400, "attention", "attention '%.100s' is not known; known are: %s",
                           name, known);
    *out = (enum attention)found;
    return 0;
}

int family_elsewhere(const struct family *f, const char *row)
{
    for (int i = 0; i < f->elsewhere_count; i++)
        if (strcmp(f->elsewhere[i], row) == 0)
            return (int)f->elsewhere_of[i];
    return -1;
}

static int has_row(const json_t *rows, const char *name)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *other = json_string_value(json_array_get(json_array_get(rows, i), 0));

        if (other && strcmp(other, name) == 0)
            return 1;
    }
    return 0;
}

static int note_elsewhere(struct family *f, const json_t *chosen, const json_t *rows,
                          enum attention attention, struct error *err)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *name = json_string_value(json_array_get(json_array_get(rows, i), 0));

        if (!name || has_row(chosen, name) || family_elsewhere(f, name) >= 0)
            continue;
        f->elsewhere[f->elsewhere_count] = strdup(name);
        if (!f->elsewhere[f->elsewhere_count])
            return error_set(err, 500, "%s: no memory", f->path);
        f->elsewhere_of[f->elsewhere_count++] = attention;
    }
    return 0;
}

static int note_others(struct family *f, json_t *root, const json_t *chosen, struct error *err)
{
    json_t *variants = json_object_get(root, "attention"), *rows;
    const char *name;
    size_t all = 1;

    json_object_foreach (variants, name, rows)
        all += json_array_size(rows);
    f->elsewhere = calloc(all, sizeof(*f->elsewhere));
    f->elsewhere_of = calloc(all, sizeof(*f->elsewhere_of));
    if (!f->elsewhere || !f->elsewhere_of)
        return error_set(err, 500, "%s: no memory", f->path);
    json_object_foreach (variants, name, rows) {
        const int attention = attention_find(name);

        if (attention < 0)
            return error_set(err, 400, "%s: attention: unknown '%.60s' (known: eager, sdpa)",
                             f->path, name);
        if (json_array_size(rows) == 0)
            return error_set(err, 400, "%s: attention.%s: not a list of rows", f->path, name);
        if (rows != chosen && note_elsewhere(f, chosen, rows, (enum attention)attention, err))
            return -1;
    }
    return 0;
}

/* Returns the index of the word "attention" in the layer's list of rows, or -1. */
static int64_t place_of(const json_t *layer)
{
    for (size_t i = 0; i < json_array_size(layer); i++) {
        const char *word = json_string_value(json_array_get(layer, i));

        if (word && strcmp(word, "attention") == 0)
            return (int64_t)i;
    }
    return -1;
}

int family_choose(struct family *f, json_t *root, struct error *err)
{
    json_t *layer = json_object_get(root, "layer");
    const json_t *variants = json_object_get(root, "attention");
    json_t *chosen = json_object_get(variants, names[f->attention]);
    const int64_t place = place_of(layer);

    if (!variants && place < 0)
        return 0;
    if (!json_is_object(variants) || place < 0)
        return error_set(err, 400, "%s: attention: %s", f->path,
                         place < 0 ? "the word \"attention\" is not in \"layer\""
                                   : "missing or not an object of rows");
    if (!chosen)
        return error_set(err, 400, "%s: attention: no rows for '%s'", f->path, names[f->attention]);
    if (note_others(f, root, chosen, err))
        return -1;
    json_array_remove(layer, (size_t)place);
    for (size_t i = 0; i < json_array_size(chosen); i++)
        if (json_array_insert(layer, (size_t)place + i, json_array_get(chosen, i)))
            return error_set(err, 500, "%s: no memory", f->path);
    return 0;
}
