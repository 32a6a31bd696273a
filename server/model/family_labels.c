/* family_labels.c - see family_labels.h. */
#include "server/model/family_labels.h"

#include <stdlib.h>
#include <string.h>

struct family_row *family_find_row(const struct family *f, enum family_section section, int limit,
                                   const char *name)
{
    for (int i = 0; i < limit; i++)
        if (strcmp(f->rows[section][i].name, name) == 0)
            return &f->rows[section][i];
    return NULL;
}

int family_read_text(const struct family *f, char **out, const json_t *root, const char *key,
                     struct error *err)
{
    const char *text = json_string_value(json_object_get(root, key));

    if (!text || !*text)
        return error_set(err, 400, "%s: %s: missing or not a string", f->path, key);
    *out = strdup(text);
    return *out ? 0 : error_set(err, 500, "%s: no memory", f->path);
}

/* ---- source lines ---- */

static int set_line(struct family *f, const char *name, int line)
{
    int found = 0;

    for (int s = 0; s < FAMILY_SECTIONS; s++) {
        struct family_row *row = family_find_row(f, (enum family_section)s, f->count[s], name);

        if (row)
            row->line = line;
        found |= row != NULL;
    }
    return found || family_elsewhere(f, name) >= 0;
}

/* Reads a line number, or the one of f's attention from an object of lines by attention (0: none). */
static json_int_t line_of(const struct family *f, const json_t *value)
{
    const json_t *chosen = json_object_get(value, attention_name(f->attention));

    if (!json_is_object(value))
        return json_integer_value(value);
    return chosen ? json_integer_value(chosen) : 0;
}

int family_read_mirror(struct family *f, const json_t *root, struct error *err)
{
    json_t *mirror = json_object_get(root, "mirror"), *lines, *value;
    const char *name;

    if (!mirror)
        return 0;
    if (family_read_text(f, &f->mirror_version, mirror, "transformers", err) ||
        family_read_text(f, &f->mirror_file, mirror, "file", err))
        return -1;
    lines = json_object_get(mirror, "lines");
    if (lines && !json_is_object(lines))
        return error_set(err, 400, "%s: mirror.lines: not an object", f->path);
    json_object_foreach (lines, name, value) {
        json_int_t line = line_of(f, value);

        if (json_is_object(value) && line == 0)
            continue;
        if (line < 1 || line > 1000000)
            return error_set(err, 400, "%s: mirror.lines: %.80s: not a line number", f->path, name);
        if (!set_line(f, name, (int)line))
            return error_set(err, 400, "%s: mirror.lines: '%.80s' is no row", f->path, name);
    }
    return 0;
}

/* ---- aliases ---- */

struct alias_list {
    const char *key;
    struct family_alias **list;
    int *count;
    int in_layer; /* whether they name rows of a layer */
};

static int check_alias(const struct family *f, const struct alias_list *to, const char *alias,
                       const char *row, struct error *err)
{
    int found = to->in_layer ? family_find_row(f, FAMILY_LAYER, f->count[FAMILY_LAYER], row) ||
                                   family_elsewhere(f, row) >= 0
                             : family_find_row(f, FAMILY_BEFORE, f->count[FAMILY_BEFORE], row) ||
                                   family_find_row(f, FAMILY_AFTER, f->count[FAMILY_AFTER], row);

    if (!found)
        return error_set(err, 400, "%s: %s: '%.60s' stands for '%.80s', which is no row", f->path,
                         to->key, alias, row);
    if (!*alias || strpbrk(alias, " *?[],/"))
        return error_set(err, 400, "%s: %s: '%.60s' cannot be a name", f->path, to->key, alias);
    for (int s = 0; s < FAMILY_SECTIONS; s++)
        if (family_find_row(f, (enum family_section)s, f->count[s], alias))
            return error_set(err, 400, "%s: %s: '%.60s' is the name of a row", f->path, to->key,
                             alias);
    for (int i = 0; i < f->alias_count; i++)
        if (strcmp(f->aliases[i].alias, alias) == 0)
            return error_set(err, 400, "%s: %s: '%.60s' is an alias already", f->path, to->key,
                             alias);
    return 0;
}

static int read_aliases(struct family *f, const json_t *root, const struct alias_list *to,
                        struct error *err)
{
    json_t *object = json_object_get(root, to->key), *value;
    const char *alias;

    if (object && !json_is_object(object))
        return error_set(err, 400, "%s: %s: not an object", f->path, to->key);
    *to->list = calloc(json_object_size(object) + 1, sizeof(**to->list));
    if (!*to->list)
        return error_set(err, 500, "%s: no memory", f->path);
    json_object_foreach (object, alias, value) {
        const char *row = json_string_value(value);
        struct family_alias *a = &(*to->list)[*to->count];

        if (!row)
            return error_set(err, 400, "%s: %s: %.80s: not the name of a row", f->path, to->key,
                             alias);
        if (check_alias(f, to, alias, row, err))
            return -1;
        ++*to->count;
        a->alias = strdup(alias);
        a->row = strdup(row);
        if (!a->alias || !a->row)
            return error_set(err, 500, "%s: no memory", f->path);
    }
    return 0;
}

int family_read_aliases(struct family *f, const json_t *root, struct error *err)
{
    const struct alias_list lists[] = {
        {"aliases", &f->aliases, &f->alias_count, 0},
        {"layer_aliases", &f->layer_aliases, &f->layer_alias_count, 1},
        {"modules", &f->modules, &f->module_count, 1},
    };

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        if (read_aliases(f, root, &lists[i], err))
            return -1;
    return 0;
}
