/* understood.c - how the values of a dump were understood, as a map and in words.  See understand.h. */
#include <string.h>

#include "client/understand.h"

json_t *understood_map(const struct understood *u)
{
    json_t *map = json_object(), *row;
    size_t i;

    json_array_foreach (u->rows, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *value = json_string_value(json_object_get(row, "value"));
        const char *before = json_string_value(json_object_get(map, name));
        const json_t *pattern = json_object_get(row, "pattern");
        json_t *text = before && value ? json_sprintf("%s+%s", before, value) : NULL;

        if (pattern) {
            json_object_set(map, name, (json_t *)pattern);
            json_decref(text);
            continue;
        }
        if (value)
            json_object_set_new(map, name, text ? text : json_string(value));
    }
    return map;
}

/* "0.012"; "no number in common" where nothing is comparable.  Returns out. */
static const char *distance_text(const json_t *row, char *out, size_t size)
{
    const json_t *d = json_object_get(row, "distance");

    if (!json_is_number(d))
        return "no number in common";
    snprintf(out, size, "%.2g", json_number_value(d));
    return out;
}

static void print_nearest(const json_t *row, FILE *stream)
{
    json_t *near;
    char text[32];
    size_t k;

    json_array_foreach (json_object_get(row, "nearest"), k, near)
        fprintf(stream, "%s%s (%s)", k ? ", " : "; nearest ",
                json_string_value(json_object_get(near, "value")),
                distance_text(near, text, sizeof(text)));
    fputc('\n', stream);
}

/* One line for all layers of an array. */
static void print_stacked(const struct understood *u, const json_t *row, size_t i, FILE *stream)
{
    const char *layout = json_string_value(json_object_get(row, "layout"));
    const json_t *name = json_object_get(row, "name");

    if (i && json_equal(json_object_get(json_array_get(u->rows, i - 1), "name"), name))
        return;
    fprintf(stream, "note: %s is %s, * being its leading axis%s%s\n", json_string_value(name),
            json_string_value(json_object_get(row, "pattern")), *layout ? ": " : "", layout);
}

void understood_print(const struct understood *u, FILE *stream)
{
    json_t *row;
    size_t i;

    json_array_foreach (u->rows, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *value = json_string_value(json_object_get(row, "value"));
        const char *layout = json_string_value(json_object_get(row, "layout"));
        const char *how = json_string_value(json_object_get(row, "how"));
        const char *misfit = json_string_value(json_object_get(row, "misfit"));

        if (misfit) {
            fprintf(stream, "note: %s: %s\n", name, misfit);
            continue;
        }
        if (!value) {
            fprintf(stream, "note: %s is none of the model's values", name);
            print_nearest(row, stream);
            continue;
        }
        if (json_object_get(row, "pattern")) {
            print_stacked(u, row, i, stream);
            continue;
        }
        if ((strcmp(name, value) == 0 && !*layout) || strcmp(how, "again") == 0)
            continue;
        fprintf(stream, "note: %s", name);
        if (strcmp(name, value) != 0)
            fprintf(stream, " is %s", value);
        if (strcmp(how, "numbers") == 0)
            fprintf(stream, ", by its numbers (distance %.2g)",
                    json_number_value(json_object_get(row, "distance")));
        fprintf(stream, *layout ? ": %s\n" : "%s\n", layout);
    }
}
