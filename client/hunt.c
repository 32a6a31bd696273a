/* hunt.c - see hunt.h. */
#include "client/hunt.h"

#include <string.h>

#include "client/compare_stats.h"
#include "client/remote.h"
#include "kernels/base/json_file.h"

/* Returns {name or alias: path} for the daemon's values. */
static json_t *names_known(const json_t *values)
{
    json_t *known = json_object(), *value, *alias;
    size_t i, k;

    json_array_foreach (values, i, value) {
        json_t *name = json_object_get(value, "name");

        json_object_set(known, json_string_value(name), name);
        json_array_foreach (json_object_get(value, "aliases"), k, alias)
            if (json_is_string(alias))
                json_object_set(known, json_string_value(alias), name);
    }
    return known;
}

static int64_t config_count(const json_t *config, const char *key)
{
    return json_integer_value(json_object_get(config, key));
}

static int read_model(struct client *c, struct understand_options *o, struct error *err)
{
    json_t *model = client_model(c, err), *config = json_object_get(model, "config");
    struct align_model *m = &o->model;

    m->heads = config_count(config, "num_attention_heads");
    m->kv_heads = config_count(config, "num_key_value_heads");
    m->width = config_count(config, "head_dim");
    o->layers = (int)config_count(config, "num_hidden_layers");
    if (!m->kv_heads)
        m->kv_heads = m->heads;
    if (!m->width && m->heads)
        m->width = config_count(config, "hidden_size") / m->heads;
    json_decref(model);
    return model ? 0 : -1;
}

/* The daemon's values under an attention (NULL: its default), and what they tell of the dump's names. */
struct offer {
    json_t *values, *known;
    json_t *names, *unknown; /* to ask for; names of the dump that tell nothing */
};

static int offer_fetch(struct offer *f, struct client *c, const char *attention,
                       const struct side *dump, struct understand_options *o, struct error *err)
{
    *f = (struct offer){.values = client_values(c, attention, NULL, -1, err)};
    if (!f->values)
        return -1;
    f->known = names_known(f->values);
    f->unknown = json_array();
    o->known = f->known;
    o->from_one = understand_counts_from_one(dump->file, o);
    f->names = understand_names(dump->file, o, f->unknown);
    return 0;
}

static void offer_clear(struct offer *f)
{
    json_decref(f->values);
    json_decref(f->known);
    json_decref(f->names);
    json_decref(f->unknown);
    *f = (struct offer){0};
}

/* Returns the first name that is in one list and not in the other, or NULL. */
static json_t *first_missing(const json_t *names, const json_t *others)
{
    json_t *name, *other;
    size_t i, k;

    json_array_foreach ((json_t *)names, i, name) {
        json_array_foreach ((json_t *)others, k, other)
            if (json_equal(name, other))
                break;
        if (k == json_array_size(others))
            return name;
    }
    return NULL;
}

/* Chooses the attention: the one that is asked for or that the dump names, else the daemon's default;
 * or eager if it knows names of the dump that the default does not: h->only_eager is the first. */
static int choose_offer(struct hunt *h, struct client *c, json_t *asked,
                        struct understand_options *o, struct offer *f, struct error *err)
{
    const char *attention = json_string_value(json_object_get(asked, "attention"));
    struct offer eager;

    if (!attention)
        attention = side_text(h->theirs, "attention");
    if (offer_fetch(f, c, attention, h->theirs, o, err))
        return -1;
    if (attention || json_array_size(f->unknown) == 0)
        return 0;
    if (offer_fetch(&eager, c, "eager", h->theirs, o, err))
        return -1;
    if (json_array_size(eager.unknown) < json_array_size(f->unknown)) {
        h->only_eager = json_incref(first_missing(f->unknown, eager.unknown));
        json_object_set_new(asked, "attention", json_string("eager"));
        offer_clear(f);
        *f = eager;
    } else {
        offer_clear(&eager);
    }
    o->known = f->known;
    return 0;
}

/* What has a name that tells nothing is looked for among all values, by its numbers. */
static void ask_values(json_t *asked, const struct offer *f)
{
    if (json_object_get(asked, "values"))
        return;
    if (json_array_size(f->unknown))
        json_object_set_new(asked, "values", json_pack("[s]", "*"));
    else
        json_object_set(asked, "values", f->names);
}

static int64_t prompt_length(const struct side *ours)
{
    json_t *ids = side_prompt_tokens(ours);
    const int64_t n = (int64_t)json_array_size(ids);

    json_decref(ids);
    return n;
}

/* Replaces the sides by the files that understand() has written. */
static int settle(struct hunt *h, struct error *err)
{
    struct understood *u = &h->found;
    struct side *side;
    char label[4096];

    h->understanding = json_incref(u->rows);
    snprintf(label, sizeof(label), "%s", h->theirs->label);
    side = side_from_file_take(label, u->file, err);
    u->file = NULL;
    side_free(h->theirs);
    h->theirs = side;
    if (side && u->reference) {
        snprintf(label, sizeof(label), "%s", h->ours->label);
        side = side_from_file_take(label, u->reference, err);
        u->reference = NULL;
        side_free(h->ours);
        h->ours = side;
    }
    return side ? 0 : -1;
}

/* Returns how many first tokens the dump's attention_mask, [T] or [1, T] of 0 and 1, leaves out. */
static int64_t padding_of(const struct safetensors *dump)
{
    const struct safetensors_entry *e = safetensors_find(dump, "attention_mask");
    const int64_t n =
        e && e->supported && e->tensor.dtype == DTYPE_I64 ? tensor_count(&e->tensor) : 0;
    int64_t zeros = 0;

    if (n == 0 || e->tensor.rank == 0 || e->tensor.shape[e->tensor.rank - 1] != n)
        return 0;
    while (zeros < n && compare_stats_integer(&e->tensor, zeros) == 0)
        zeros++;
    for (int64_t i = zeros; i < n; i++)
        if (compare_stats_integer(&e->tensor, i) != 1)
            return 0;
    return zeros < n ? zeros : 0;
}

int hunt_open(struct hunt *h, struct client *c, const char *label, struct safetensors *dump,
              const json_t *asked, const json_t *map, struct error *err)
{
    struct understand_options o = {.map = map};
    json_t *request = json_deep_copy(asked);
    struct offer offer = {0};
    int rc = -1;

    *h = (struct hunt){.theirs = side_from_file_take(label, dump, err)};
    if (!h->theirs)
        goto out;
    h->unused = understand_map_unused(map, h->theirs->file);
    if (!h->theirs->ordered && !json_object_get(request, "padding") &&
        (h->padding = padding_of(h->theirs->file)) > 0)
        json_object_set_new(request, "padding", json_integer(h->padding));
    if (!h->theirs->ordered) { /* samebit's own files need no understanding */
        if (!json_object_get(request, "prompt") && !json_object_get(request, "tokens") &&
            remote_has_ids(h->theirs, err))
            goto out;
        if (read_model(c, &o, err))
            goto out;
        if (choose_offer(h, c, request, &o, &offer, err))
            goto out;
        h->catalogue = json_incref(offer.values);
        ask_values(request, &offer);
    }
    h->request = remote_request_like(c, h->theirs, request, err);
    h->ours = h->request ? remote_fetch(c, h->request, err) : NULL;
    if (!h->ours)
        goto out;
    o.model.tokens = prompt_length(h->ours);
    h->model = o.model;
    h->from_one = o.from_one;
    if (h->theirs->ordered)
        rc = 0;
    else
        rc = understand(h->theirs->file, h->ours->file, &o, &h->found, err) || settle(h, err) ? -1
                                                                                              : 0;
out:
    offer_clear(&offer);
    json_decref(request);
    return rc;
}

/* Sets the number and width of heads from the shapes of q_rope and k_rope. */
static void shape_of_model(const struct side *side, struct align_model *m)
{
    for (int i = 0; i < side->count; i++) {
        const struct side_value *v = &side->values[i];
        const char *end = strrchr(v->canonical, '.');

        if (v->rank != 3 || !end)
            continue;
        if (strcmp(end, ".q_rope") == 0) {
            m->heads = v->shape[0];
            m->width = v->shape[2];
        }
        if (strcmp(end, ".k_rope") == 0 || strcmp(end, ".keys") == 0)
            m->kv_heads = v->shape[0];
    }
    m->tokens = prompt_length(side);
}

int hunt_files(struct hunt *h, const char *label_a, struct safetensors *a, const char *label_b,
               struct safetensors *b, const json_t *map, struct error *err)
{
    struct understand_options o = {.map = map};
    json_t *known = json_object();
    int layer = -1, rc = -1;

    *h = (struct hunt){0};
    h->theirs = side_from_file_take(label_a, a, err);
    h->ours = side_from_file_take(label_b, b, err);
    if (!h->theirs || !h->ours)
        goto out;
    h->unused = understand_map_unused(map, a);
    if (h->theirs->ordered || !h->ours->ordered || understand_needless(a, b)) {
        rc = 0;
        goto out;
    }
    for (int i = 0; i < h->ours->count; i++) {
        const char *path = side_base_name(h->ours->values[i].canonical);

        json_object_set_new(known, path, json_string(path));
        sscanf(path, "model.layers.%d", &layer);
        o.layers = layer + 1 > o.layers ? layer + 1 : o.layers;
    }
    o.known = known;
    o.from_one = h->from_one = understand_counts_from_one(a, &o);
    shape_of_model(h->ours, &o.model);
    h->model = o.model;
    rc = understand(a, b, &o, &h->found, err) || settle(h, err) ? -1 : 0;
out:
    json_decref(known);
    return rc;
}

void hunt_close(struct hunt *h)
{
    side_free(h->theirs);
    side_free(h->ours);
    json_decref(h->request);
    json_decref(h->catalogue);
    json_decref(h->understanding);
    json_decref(h->only_eager);
    json_decref(h->unused);
    understood_clear(&h->found);
    *h = (struct hunt){0};
}

void hunt_print(const struct hunt *h, const struct side *theirs, FILE *stream)
{
    json_t *left_out = theirs ? side_left_out(theirs->metadata) : NULL, *what;
    const char *name;
    size_t i;

    json_array_foreach (h->unused, i, what)
        fprintf(stream, "note: \"%s\" of the map fits no name of the dump\n",
                json_string_value(what));
    if (h->padding)
        fprintf(stream, "note: the first %lld tokens are left padding, as attention_mask says\n",
                (long long)h->padding);
    if (h->from_one)
        fputs("note: the dump counts layers from 1\n", stream);
    if (h->only_eager)
        fprintf(stream, "note: attention eager is asked for: only it has %s\n",
                json_string_value(h->only_eager));
    if (h->found.rows)
        understood_print(&h->found, stream);
    json_object_foreach (left_out, name, what)
        fprintf(stream, "note: %s is not read: it is %s\n", name, json_string_value(what));
    json_decref(left_out);
}

void hunt_explain(const struct hunt *h, const struct side *theirs, struct error *err)
{
    json_t *left_out = theirs ? side_left_out(theirs->metadata) : NULL, *row;
    struct buffer text = {0};
    const char *name;
    size_t i;
    int count = 0;

    buffer_text(&text, err->text);
    json_array_foreach (h->understanding, i, row) {
        const json_t *nearest = json_array_get(json_object_get(row, "nearest"), 0);
        const char *near = json_string_value(json_object_get(nearest, "value"));

        if (!json_is_null(json_object_get(row, "value")) || ++count > 3)
            continue;
        buffer_format(&text, "; %s is none of the model's values%s%s",
                      json_string_value(json_object_get(row, "name")), near ? ", nearest " : "",
                      near ? near : "");
    }
    json_object_foreach (left_out, name, row)
        if (++count <= 3)
            buffer_format(&text, "; %s is not read: it is %s", name, json_string_value(row));
    if (count > 3)
        buffer_format(&text, "; and %d more", count - 3);
    if (!text.failed) {
        *err = (struct error){0};
        error_set(err, 400, "%s", text.data);
    }
    buffer_clear(&text);
    json_decref(left_out);
}

json_t *hunt_read_map(const char *path, const struct safetensors *dump, struct error *err)
{
    json_t *map = json_file_read(NULL, path, JSON_FILE_NO_DUPLICATES, err), *value;
    const char *name;

    json_object_foreach (map, name, value)
        if (!json_is_string(value))
            error_set(err, 400, "%s: %s: the name of a value is expected", path, name);
    if (map && !err->code)
        understand_map_check(map, dump, path, err);
    if (map && err->code) {
        json_decref(map);
        map = NULL;
    }
    return map;
}

int hunt_save_map(const struct hunt *h, const char *path, struct error *err)
{
    json_t *map = understood_map(&h->found);
    int rc = json_dump_file(map, path, JSON_INDENT(2));

    json_decref(map);
    return rc ? error_set(err, 500, "cannot write %s", path) : 0;
}
