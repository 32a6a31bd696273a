/* understand_names.c - what the names of a dump say by themselves: given by a map, known to the daemon, or
 * another program's words.  See understand.h and understand_job.h. */
#include <limits.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/names.h"
#include "client/side.h"
#include "client/understand_job.h"

/* The path of a name or an alias, with the call it stands before. */
static int known_path(const json_t *known, const char *name, char *out, size_t size)
{
    const char *base = side_base_name(name);
    const char *path = json_string_value(json_object_get(known, base));

    if (path)
        snprintf(out, size, "%.*s%s", (int)(base - name), name, path);
    return path ? 1 : 0;
}

/* pattern matched, "\1" in path replaced. */
static int expand(const char *pattern, const char *path, const char *name, char *out, size_t size)
{
    regmatch_t at[10];
    regex_t regex;
    size_t n = 0;
    int fits;

    if (strcmp(pattern, name) == 0)
        return snprintf(out, size, "%s", path) >= 0;
    if (regcomp(&regex, pattern, REG_EXTENDED))
        return 0;
    fits = regexec(&regex, name, 10, at, 0) == 0 && at[0].rm_so == 0 && !name[at[0].rm_eo];
    for (; fits && *path && n + 1 < size; path++)
        if (*path == '\\' && path[1] >= '1' && path[1] <= '9') {
            const regmatch_t *m = &at[*++path - '0'];

            if (m->rm_so >= 0)
                n += (size_t)snprintf(out + n, size - n, "%.*s", (int)(m->rm_eo - m->rm_so),
                                      name + m->rm_so);
        } else {
            out[n++] = *path;
        }
    if (fits && n < size)
        out[n] = '\0';
    regfree(&regex);
    return fits;
}

int understand_map_check(const json_t *map, const struct safetensors *dump, const char *file,
                         struct error *err)
{
    const char *pattern;
    json_t *path;

    json_object_foreach ((json_t *)map, pattern, path) {
        regex_t regex;
        char why[160];
        const int code = dump && safetensors_find(dump, pattern)
                             ? 0
                             : regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB);

        if (code) {
            regerror(code, &regex, why, sizeof(why));
            return error_set(err, 400, "%s: \"%s\" is no regular expression: %s", file, pattern,
                             why);
        }
        if (!dump || !safetensors_find(dump, pattern))
            regfree(&regex);
    }
    return 0;
}

json_t *understand_map_unused(const json_t *map, const struct safetensors *dump)
{
    json_t *unused = json_array(), *path, *what, *left_out = side_left_out(dump->metadata);
    const char *pattern, *name;
    char out[2 * NAMES_SIZE];

    json_object_foreach ((json_t *)map, pattern, path) {
        int used = 0;

        for (int i = 0; !used && i < dump->count; i++)
            used = expand(pattern, "", dump->entries[i].name, out, sizeof(out));
        json_object_foreach (left_out, name, what) {
            (void)what;
            used |= expand(pattern, "", name, out, sizeof(out));
        }
        if (!used)
            json_array_append_new(unused, json_string(pattern));
    }
    json_decref(left_out);
    return unused;
}

static int given_path(const json_t *map, const char *name, char *out, size_t size)
{
    const char *pattern;
    json_t *path;

    json_object_foreach ((json_t *)map, pattern, path)
        if (json_is_string(path) && expand(pattern, json_string_value(path), name, out, size))
            return 1;
    return 0;
}

static int is_hidden_states(const char *name)
{
    const char *at = strstr(name, "hidden_states");

    return at != NULL;
}

/* Takes one from the number of each layer. */
static void count_from_zero(char *paths, size_t size)
{
    static const char mark[] = "model.layers.";
    char from[2 * NAMES_SIZE];
    const char *at = from, *next;
    size_t n = 0;

    snprintf(from, sizeof(from), "%s", paths);
    for (; (next = strstr(at, mark)) != NULL && n < size; at = next) {
        char *end;
        const long layer = strtol(next + sizeof(mark) - 1, &end, 10);

        n += (size_t)snprintf(paths + n, size - n, "%.*s%s%ld", (int)(next - at), at, mark,
                              layer - 1);
        next = end;
    }
    if (n < size)
        snprintf(paths + n, size - n, "%s", at);
}

const char *understand_meaning(const struct understand_options *o, const char *name, char *out,
                               size_t size)
{
    if (given_path(o->map, name, out, size))
        return "given";
    if (strcmp(name, "tokens") == 0)
        return snprintf(out, size, "tokens") > 0 ? "exact" : NULL;
    if (known_path(o->known, name, out, size))
        return "exact";
    if (!names_guess(name, o->layers, out, size))
        return NULL;
    if (o->from_one && !is_hidden_states(name))
        count_from_zero(out, size);
    return "name";
}

int understand_counts_from_one(const struct safetensors *dump, const struct understand_options *o)
{
    static const char mark[] = "model.layers.";
    int least = INT_MAX, most = -1;
    char path[2 * NAMES_SIZE];

    for (int i = 0; i < dump->count; i++) {
        const char *how = understand_meaning(o, dump->entries[i].name, path, sizeof(path));
        const char *at = how ? strstr(path, mark) : NULL;
        int layer;

        if (!at || is_hidden_states(dump->entries[i].name))
            continue;
        if (strcmp(how, "name") != 0)
            return 0;
        layer = atoi(at + sizeof(mark) - 1);
        least = layer < least ? layer : least;
        most = layer > most ? layer : most;
    }
    return o->layers > 0 && least >= 1 && most == o->layers;
}

/* ---- one array for all layers ---- */

int understand_stacked_path(const struct understand_options *o, const char *pattern, int i,
                            char *out, size_t size)
{
    const char *star = strchr(pattern, '*');
    char name[NAMES_SIZE];

    snprintf(name, sizeof(name), "%.*s%d%s", (int)(star - pattern), pattern, i, star + 1);
    return known_path(o->known, name, out, size) ||
           (is_hidden_states(name) && names_guess(name, o->layers, out, size) == 1);
}

/* Writes the path that a name has inside a layer, with * for the layer. */
static int pattern_of(const struct understand_options *o, const char *name, char *out, size_t size)
{
    static const char zero[] = "model.layers.0";
    char probe[2 * NAMES_SIZE], path[2 * NAMES_SIZE];

    snprintf(probe, sizeof(probe), "layers.0.%s", name);
    if (names_guess(probe, o->layers, path, sizeof(path)) != 1 ||
        strncmp(path, zero, sizeof(zero) - 1) != 0)
        return 0;
    snprintf(out, size, "model.layers.*%s", path + sizeof(zero) - 1);
    return 1;
}

int understand_stacked(const struct understand_options *o, const struct safetensors_entry *e,
                       char *pattern, size_t size)
{
    const int64_t n = e->tensor.rank > 1 ? e->tensor.shape[0] : 0;
    const size_t length = strlen(e->name), tail = strlen("hidden_states");
    char path[2 * NAMES_SIZE];

    if (!e->supported || o->layers <= 0 || (n != o->layers && n != o->layers + 1) ||
        side_base_name(e->name) != e->name)
        return 0;
    if (given_path(o->map, e->name, pattern, size))
        return strchr(pattern, '*') ? (int)n : 0;
    if (length >= tail && strcmp(e->name + length - tail, "hidden_states") == 0)
        snprintf(pattern, size, "hidden_states.*");
    else if (n != o->layers || understand_meaning(o, e->name, path, sizeof(path)) ||
             !pattern_of(o, e->name, pattern, size))
        return 0;
    for (int i = 0; i < n; i++)
        if (!understand_stacked_path(o, pattern, i, path, sizeof(path)))
            return 0;
    return (int)n;
}

/* ---- what to ask for ---- */

int understand_path_at(const char *paths, int n, char *out, size_t size)
{
    while (n-- && (paths = strchr(paths, '+')) != NULL)
        paths++;
    if (!paths)
        return 0;
    snprintf(out, size, "%.*s", (int)strcspn(paths, "+"), paths);
    return 1;
}

/* Adds the paths that a name means to `names`.  Returns whether the daemon knows them all. */
static int add_names(const struct understand_options *o, const char *name, json_t *names,
                     json_t *seen)
{
    char paths[2 * NAMES_SIZE], path[NAMES_SIZE];
    int known = understand_meaning(o, name, paths, sizeof(paths)) != NULL;

    for (int k = 0; known && understand_path_at(paths, k, path, sizeof(path)); k++) {
        const char *base = side_base_name(path);

        known = strcmp(path, "tokens") == 0 || json_object_get(o->known, base);
        if (known && strcmp(path, "tokens") != 0 && !json_object_get(seen, base)) {
            json_object_set_new(seen, base, json_true());
            json_array_append_new(names, json_string(base));
        }
    }
    return known;
}

/* The same of an array that holds all layers; returns whether it is one. */
static int add_stacked(const struct understand_options *o, const struct safetensors_entry *e,
                       json_t *names, json_t *seen)
{
    char pattern[2 * NAMES_SIZE], path[2 * NAMES_SIZE];
    const int count = understand_stacked(o, e, pattern, sizeof(pattern));

    for (int i = 0; i < count; i++)
        if (understand_stacked_path(o, pattern, i, path, sizeof(path)))
            add_names(o, path, names, seen);
    return count;
}

json_t *understand_names(const struct safetensors *dump, const struct understand_options *o,
                         json_t *unknown)
{
    json_t *names = json_array(), *seen = json_object(), *left_out = side_left_out(dump->metadata);
    json_t *unused;
    const char *name;

    for (int i = 0; i < dump->count; i++) {
        const struct safetensors_entry *e = &dump->entries[i];

        if (!add_stacked(o, e, names, seen) && !add_names(o, e->name, names, seen))
            json_array_append_new(unknown, json_string(e->name));
    }
    json_object_foreach (left_out, name, unused) {
        (void)unused;
        add_names(o, name, names, seen);
    }
    json_decref(left_out);
    json_decref(seen);
    return names;
}
