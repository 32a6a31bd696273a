/* remote.c - see remote.h. */
#include "client/remote.h"

#include <string.h>

#include "client/cli.h"

int remote_is_url(const char *text)
{
    return client_is_url(text);
}

/* ---- what a file holds ---- */

/* Names and aliases that the daemon knows, as keys. */
static json_t *known_names(struct client *c, const char *attention, struct error *err)
{
    json_t *values = client_values(c, attention, NULL, -1, err),
           *names = values ? json_object() : NULL;
    json_t *value, *alias;
    size_t i, k;

    json_array_foreach (values, i, value) {
        const char *name = json_string_value(json_object_get(value, "name"));

        if (name)
            json_object_set_new(names, name, json_true());
        json_array_foreach (json_object_get(value, "aliases"), k, alias)
            if (json_is_string(alias))
                json_object_set_new(names, json_string_value(alias), json_true());
    }
    json_decref(values);
    return names;
}

/* Lists the names to ask the daemon for.  A value of the first call is asked for by its plain name,
 * which also means all later calls; one that only later calls have, with its "step_i/". */
static json_t *names_to_ask(const struct side *file, const json_t *known)
{
    json_t *asked = json_object(), *list = json_array();
    const char *name;
    json_t *unused;

    for (int i = 0; i < file->count; i++) {
        const char *path = file->values[i].canonical, *base = side_base_name(path);

        if (json_object_get(known, base) && side_step_of(path) == 0 && side_chunk_of(path) < 2)
            json_object_set_new(asked, base, json_true());
    }
    for (int i = 0; i < file->count; i++) {
        const char *path = file->values[i].canonical, *base = side_base_name(path);

        if (json_object_get(known, base) && !json_object_get(asked, base))
            json_object_set_new(asked, path, json_true());
    }
    json_object_foreach (asked, name, unused) {
        (void)unused;
        json_array_append_new(list, json_string(name));
    }
    json_decref(asked);
    return list;
}

static int steps_of(const struct side *file)
{
    int steps = 0;

    for (int i = 0; i < file->count; i++) {
        int step = side_step_of(file->values[i].name);

        steps = step > steps ? step : steps;
    }
    return steps;
}

/* Returns the prompt's ids: from the metadata, else the value `tokens` without what the steps were
 * fed. */
static json_t *ids_of(const struct side *file, struct error *err)
{
    json_t *ids = side_prompt_tokens(file);
    const struct side_value *v = side_find(file, "tokens");
    int64_t count;

    if (ids)
        return ids;
    if (!v || !v->entry || strcmp(v->dtype, "I64") != 0 || v->rank < 1) {
        error_set(err, 400,
                  "%s: does not say which ids it was made of (metadata prompt_tokens, or "
                  "a value `tokens` of I64); give --prompt or --tokens",
                  file->label);
        return NULL;
    }
    ids = json_array();
    count = tensor_count(&v->entry->tensor) - steps_of(file);
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(ids, json_integer(compare_stats_integer(&v->entry->tensor, i)));
    return ids;
}

int remote_has_ids(const struct side *file, struct error *err)
{
    json_t *ids = ids_of(file, err);

    json_decref(ids);
    return ids ? 0 : -1;
}

/* The prompt's ids, and how they were fed and which rows of them were kept. */
static int add_prompt(json_t *request, const struct side *file, struct error *err)
{
    static const char *const keys[] = {"positions", "padding", "position_ids", "batch", "chunks"};
    json_t *ids = ids_of(file, err), *value;

    if (!ids)
        return -1;
    json_object_set_new(request, "tokens", ids);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (!json_object_get(request, keys[i]) && (value = side_fact(file, keys[i])) != NULL)
            json_object_set_new(request, keys[i], value);
    return 0;
}

static int add_values(struct client *c, json_t *request, const struct side *file, struct error *err)
{
    const char *attention = json_string_value(json_object_get(request, "attention"));
    json_t *known, *names;

    if (json_object_get(request, "values"))
        return 0;
    known = known_names(c, attention, err);
    if (!known)
        return -1;
    names = names_to_ask(file, known);
    json_decref(known);
    json_object_set_new(request, "values", names);
    if (json_array_size(names) == 0)
        return error_set(err, 400, "%s: none of its names is one that %s knows%s%s", file->label,
                         client_url(c), attention ? " with attention " : "",
                         attention ? attention : "");
    return 0;
}

json_t *remote_request_like(struct client *c, const struct side *file, const json_t *asked,
                            struct error *err)
{
    const char *attention = side_text(file, "attention");
    json_t *request = json_object();

    json_object_update(request, (json_t *)asked);
    if (!json_object_get(request, "attention") && attention)
        json_object_set_new(request, "attention", json_string(attention));
    if (!json_object_get(request, "steps"))
        json_object_set_new(request, "steps", json_integer(steps_of(file)));
    if (!json_object_get(request, "prompt") && !json_object_get(request, "tokens") &&
        add_prompt(request, file, err))
        goto fail;
    if (add_values(c, request, file, err) == 0)
        return request;
fail:
    json_decref(request);
    return NULL;
}

/* ---- asking ---- */

struct side *remote_digests(struct client *c, const json_t *request, struct error *err)
{
    json_t *reply = client_digests(c, request, NULL, 0, err);
    struct side *s = reply ? side_from_digests(client_url(c), reply, err) : NULL;

    json_decref(reply);
    return s;
}

struct side *remote_fetch(struct client *c, const json_t *request, struct error *err)
{
    struct safetensors *file = NULL;

    if (cli_receive_trace(c, request, NULL, 0, NULL, &file, NULL, err))
        return NULL;
    return side_from_file_take(client_url(c), file, err);
}

int remote_complete(struct client *c, struct side *s, const struct compare *rows, int is_a,
                    const json_t *request, struct error *err)
{
    json_t *names = json_array(), *wanted;
    struct safetensors *file = NULL;
    int rc = 0;

    for (int i = 0; i < rows->count; i++) {
        const struct side_value *v = is_a ? rows->rows[i].a : rows->rows[i].b;

        if (rows->rows[i].verdict == COMPARE_OPEN && !v->entry)
            json_array_append_new(names, json_string(v->name));
    }
    if (json_array_size(names)) {
        wanted = json_copy((json_t *)request);
        json_object_set(wanted, "values", names);
        rc = cli_receive_trace(c, wanted, NULL, 0, NULL, &file, NULL, err) ||
             side_attach_take(s, file, err);
        json_decref(wanted);
    }
    json_decref(names);
    return rc ? -1 : 0;
}
