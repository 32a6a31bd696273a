/* understand_names.c - what the names of a dump say by themselves: given by a map, known to the daemon, or
 * another program's words.  See understand.h and understand_job.h. */
#include <regex.h>
#include <stdio.h>
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

const char *understand_meaning(const struct understand_options *o, const char *name, char *out,
                               size_t size)
{
    if (given_path(o->map, name, out, size))
        return "given";
    if (strcmp(name, "tokens") == 0)
        return snprintf(out, size, "tokens") > 0 ? "exact" : NULL;
    if (known_path(o->known, name, out, size))
        return "exact";
    return names_guess(name, o->layers, out, size) ? "name" : NULL;
}

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

json_t *understand_names(const struct safetensors *dump, const struct understand_options *o,
                         json_t *unknown)
{
    json_t *names = json_array(), *seen = json_object(), *left_out = side_left_out(dump->metadata);
    json_t *unused;
    const char *name;

    for (int i = 0; i < dump->count; i++)
        if (!add_names(o, dump->entries[i].name, names, seen))
            json_array_append_new(unknown, json_string(dump->entries[i].name));
    json_object_foreach (left_out, name, unused) {
        (void)unused;
        add_names(o, name, names, seen);
    }
    json_decref(left_out);
    json_decref(seen);
    return names;
}
