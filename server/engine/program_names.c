/* program_names.c - the names that a user may ask for: full paths, aliases, near misses. */
#include "server/engine/program.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/nearest.h"

/* BEGINS: more than any distance.  What a name begins with is nearer than what it resembles. */
enum { NAME_SIZE = 160, NEAREST = 3, BEGINS = 1000 };

static int find_path(const struct program *p, const char *path)
{
    for (int i = 0; i < p->count; i++)
        if (strcmp(p->steps[i].name, path) == 0)
            return i;
    return -1;
}

static const char *alias_row(const struct family_alias *aliases, int count, const char *alias)
{
    for (int i = 0; i < count; i++)
        if (strcmp(aliases[i].alias, alias) == 0)
            return aliases[i].row;
    return NULL;
}

static int find_in_layer(const struct program *p, long layer, const char *row)
{
    for (int i = 0; i < p->count; i++)
        if (p->steps[i].layer == layer && strcmp(p->steps[i].row->name, row) == 0)
            return i;
    return -1;
}

/* "12.rest" or "12_rest": the number, and where the rest begins; -1 when it is neither. */
static long layer_number(const char *text, const char *separators, const char **rest)
{
    char *end;
    long layer;

    if (!isdigit((unsigned char)*text))
        return -1;
    layer = strtol(text, &end, 10);
    if (!*end || !strchr(separators, *end))
        return -1;
    *rest = end + 1;
    return layer;
}

/* layer_3.attn_output, layer_3_attn_output, attn_output: the row, and the layer */
static const char *layer_alias(const struct program *p, const char *name, long *layer)
{
    const char *key = name;

    *layer = 0;
    if (strncmp(name, "layer_", 6) == 0)
        *layer = layer_number(name + 6, "._", &key);
    return *layer < 0 ? NULL
                      : alias_row(p->family->layer_aliases, p->family->layer_alias_count, key);
}

static int find_module(const struct program *p, const char *name)
{
    const size_t n = strlen(p->family->layers);
    const char *key, *row;
    long layer;

    if (strncmp(name, p->family->layers, n) != 0 || name[n] != '.')
        return -1;
    layer = layer_number(name + n + 1, ".", &key);
    row = layer < 0 ? NULL : alias_row(p->family->modules, p->family->module_count, key);
    return row ? find_in_layer(p, layer, row) : -1;
}

int program_find(const struct program *p, const char *name)
{
    const char *row = alias_row(p->family->aliases, p->family->alias_count, name);
    int step = row ? find_in_layer(p, -1, row) : find_path(p, name);
    long layer;

    row = step < 0 ? layer_alias(p, name, &layer) : NULL;
    if (row)
        step = find_in_layer(p, layer, row);
    return step < 0 ? find_module(p, name) : step;
}

static void add(struct buffer *out, const char *format, int layer, const char *a, const char *b)
{
    if (out->size)
        buffer_text(out, ", ");
    if (strcmp(format, "layer") == 0)
        buffer_format(out, "layer_%d%s%s", layer, a, b);
    else
        buffer_format(out, "%s%s", a, b);
}

void program_aliases(const struct program *p, int step, struct buffer *out)
{
    const struct family *f = p->family;
    const struct step *s = &p->steps[step];
    const char *row = s->row->name;

    for (int i = 0; s->layer < 0 && i < f->alias_count; i++)
        if (strcmp(f->aliases[i].row, row) == 0)
            add(out, "plain", 0, f->aliases[i].alias, "");
    for (int i = 0; s->layer >= 0 && i < f->layer_alias_count; i++)
        if (strcmp(f->layer_aliases[i].row, row) == 0) {
            add(out, "layer", s->layer, strcmp(row, "x") ? "." : "_", f->layer_aliases[i].alias);
            if (s->layer == 0 && strcmp(row, "x"))
                add(out, "plain", 0, f->layer_aliases[i].alias, "");
        }
    for (int i = 0; s->layer >= 0 && i < f->module_count; i++)
        if (strcmp(f->modules[i].row, row) == 0) {
            if (out->size)
                buffer_text(out, ", ");
            buffer_format(out, "%s.%d.%s", f->layers, s->layer, f->modules[i].alias);
        }
}

/* ---- near misses ---- */

struct near {
    char name[NAME_SIZE];
    int distance;
};

static void offer(struct near *best, const char *wanted, const char *name)
{
    struct near n = {.distance = name_distance(wanted, name)};

    if (strncmp(name, wanted, strlen(wanted)) == 0)
        n.distance -= BEGINS;

    snprintf(n.name, sizeof(n.name), "%s", name);
    for (int i = 0; i < NEAREST; i++) {
        if (strcmp(best[i].name, n.name) == 0)
            return;
        if (n.distance < best[i].distance) {
            struct near t = best[i];

            best[i] = n;
            n = t;
        }
    }
}

void program_nearest(const struct program *p, const char *name, char *out, size_t size)
{
    struct near best[NEAREST] = {{"", 1 << 20}, {"", 1 << 20}, {"", 1 << 20}};
    struct buffer aliases = {0};
    char *save = NULL;
    size_t at = 0;

    for (int i = 0; i < p->count; i++) {
        offer(best, name, p->steps[i].name);
        program_aliases(p, i, &aliases);
        for (char *a = aliases.data ? strtok_r(aliases.data, ", ", &save) : NULL; a;
             a = strtok_r(NULL, ", ", &save))
            offer(best, name, a);
        buffer_clear(&aliases);
    }
    out[0] = '\0';
    for (int i = 0; i < NEAREST && best[i].name[0] && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", best[i].name);
}
