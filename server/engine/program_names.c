/* program_names.c - the names that a user may ask for: full paths, aliases, near misses. */
#include "server/engine/program.h"

#include <ctype.h>
#include <stdarg.h>
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

/* Calls `name` with each alias of a row, until it returns something other than 0. */
static int each_alias(const struct family_alias *aliases, int count, const char *row,
                      int (*name)(void *walk, const char *alias), void *walk)
{
    int rc = 0;

    for (int i = 0; i < count && !rc; i++)
        if (strcmp(aliases[i].row, row) == 0)
            rc = name(walk, aliases[i].alias);
    return rc;
}

struct alias_walk {
    const struct program *program;
    const struct step *step;
    alias_fn *visit;
    void *user;
};

static int visit_format(const struct alias_walk *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int visit_format(const struct alias_walk *w, const char *format, ...)
{
    char *name = NULL;
    va_list args;
    int rc;

    va_start(args, format);
    rc = vasprintf(&name, format, args);
    va_end(args);
    if (rc < 0)
        return -1;
    rc = w->visit(w->user, name);
    free(name);
    return rc;
}

static int name_plain(void *user, const char *alias)
{
    return visit_format(user, "%s", alias);
}

static int name_in_layer(void *user, const char *alias)
{
    const struct alias_walk *w = user;
    const int is_output = strcmp(w->step->row->name, "x") == 0;
    int rc = visit_format(w, "layer_%d%s%s", w->step->layer, is_output ? "_" : ".", alias);

    return rc || w->step->layer || is_output ? rc : visit_format(w, "%s", alias);
}

static int name_module(void *user, const char *alias)
{
    const struct alias_walk *w = user;

    return visit_format(w, "%s.%d.%s", w->program->family->layers, w->step->layer, alias);
}

int program_aliases(const struct program *p, int step, alias_fn *visit, void *user)
{
    const struct family *f = p->family;
    const struct step *s = &p->steps[step];
    struct alias_walk walk = {p, s, visit, user};
    int rc;

    if (s->layer < 0)
        return each_alias(f->aliases, f->alias_count, s->row->name, name_plain, &walk);
    rc = each_alias(f->layer_aliases, f->layer_alias_count, s->row->name, name_in_layer, &walk);
    return rc ? rc : each_alias(f->modules, f->module_count, s->row->name, name_module, &walk);
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

struct near_walk {
    struct near best[NEAREST];
    const char *wanted;
};

static int offer_alias(void *user, const char *alias)
{
    struct near_walk *walk = user;

    offer(walk->best, walk->wanted, alias);
    return 0;
}

void program_nearest(const struct program *p, const char *name, char *out, size_t size)
{
    struct near_walk walk = {{{"", 1 << 20}, {"", 1 << 20}, {"", 1 << 20}}, name};
    size_t at = 0;

    for (int i = 0; i < p->count; i++) {
        offer(walk.best, name, p->steps[i].name);
        program_aliases(p, i, offer_alias, &walk);
    }
    out[0] = '\0';
    for (int i = 0; i < NEAREST && walk.best[i].name[0] && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", walk.best[i].name);
}
