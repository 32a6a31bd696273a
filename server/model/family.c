/* family.c - see family.h.  Reading and checking a family file; attributes live in family_attr.c.
 */
#include "server/model/family.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/buffer.h"
#include "kernels/base/nearest.h"
#include "server/model/family_attention.h"
#include "server/model/family_attr.h"
#include "server/model/family_labels.h"
#include "kernels/base/json_file.h"

static const char *const section_names[FAMILY_SECTIONS] = {"before", "layer", "after"};

/* ---- names ---- */

static const char *const outside_inputs[] = {"tokens", "positions"};

static int is_outside_input(const char *name)
{
    return strcmp(name, outside_inputs[0]) == 0 || strcmp(name, outside_inputs[1]) == 0;
}

const char *family_input_of(const char *input, const char *layer_type, char *room, size_t size)
{
    static const char mark[] = "{layer_type}";
    const char *at = strstr(input, mark);
    int n;

    if (!at)
        return input;
    n = snprintf(room, size, "%.*s%s%s", (int)(at - input), input, layer_type,
                 at + sizeof(mark) - 1);
    return n >= 0 && (size_t)n < size ? room : NULL;
}

/* Returns whether a row may read `name`.  If not, *near is the most similar name that it may read. */
static int is_defined(const struct family *f, const struct family_row *row, const char *name,
                      const char **near)
{
    const char *candidates[3] = {outside_inputs[0], outside_inputs[1],
                                 row->section == FAMILY_BEFORE ? outside_inputs[0] : "x"};
    int before = row->section == FAMILY_BEFORE ? row->index : f->count[FAMILY_BEFORE];
    int best = 1000;

    if (is_outside_input(name) || (row->section != FAMILY_BEFORE && strcmp(name, "x") == 0) ||
        family_find_row(f, FAMILY_BEFORE, before, name) ||
        family_find_row(f, row->section, row->index, name))
        return 1;
    for (int i = 0; i < 3 + before + row->index; i++) {
        const char *candidate = i < 3            ? candidates[i]
                                : i < 3 + before ? f->rows[FAMILY_BEFORE][i - 3].name
                                                 : f->rows[row->section][i - 3 - before].name;

        if (name_distance(name, candidate) < best) {
            best = name_distance(name, candidate);
            *near = candidate;
        }
    }
    if (*near && !name_is_near(name, *near))
        *near = NULL;
    return 0;
}

/* ---- one row ---- */

/* Puts "FILE: layer row 9 (self_attn.scores): " before an error. */
static int row_prefix(const struct family *f, const struct family_row *row, struct error *err)
{
    return error_prefix(err, "%s: %s row %d%s%.80s%s: ", f->path, section_names[row->section],
                        row->index + 1, row->name ? " (" : "", row->name ? row->name : "",
                        row->name ? ")" : "");
}

static int read_op(struct family_row *row, const char *name, struct error *err)
{
    int op = op_find(name), best = 1000;
    const char *near = "";

    if (op >= 0) {
        row->op = (enum op)op;
        return 0;
    }
    for (int i = 0; i < OP_COUNT; i++)
        if (name_distance(name, op_name((enum op)i)) < best) {
            near = op_name((enum op)i);
            best = name_distance(name, near);
        }
    if (name_is_near(name, near))
        return error_set(err, 400, "unknown op '%.60s' (did you mean '%s'?)", name, near);
    return error_set(err, 400, "unknown op '%.60s'", name);
}

static int add_input(const struct family *f, struct family_row *row, const char *name, size_t size,
                     struct error *err)
{
    const char *near = NULL;
    char *input;

    if (row->inputs == OP_INPUTS)
        return error_set(err, 400, "more than %d inputs", OP_INPUTS);
    input = strndup(name, size);
    if (!input)
        return error_set(err, 500, "no memory");
    row->input[row->inputs++] = input;
    for (int i = 0; i < 2; i++) {
        char room[160];
        const char *of =
            family_input_of(input, i ? "full_attention" : "sliding_attention", room, sizeof(room));

        if (!of || !is_defined(f, row, of, &near))
            break;
        if (i)
            return 0;
    }
    if (near)
        return error_set(err, 400, "undefined input '%.80s' (did you mean '%.80s'?)", input, near);
    return error_set(err, 400, "undefined input '%.80s'", input);
}

static int read_inputs(const struct family *f, struct family_row *row, const char *text,
                       struct error *err)
{
    int least = op_inputs_least(row->op), most = op_inputs_most(row->op);

    while (*(text += strspn(text, " "))) {
        size_t size = strcspn(text, " ");

        if (add_input(f, row, text, size, err))
            return -1;
        text += size;
    }
    if (row->inputs >= least && row->inputs <= most)
        return 0;
    if (least == most)
        return error_set(err, 400, "%s takes %d input%s, not %d", op_name(row->op), least,
                         least == 1 ? "" : "s", row->inputs);
    return error_set(err, 400, "%s takes %d to %d inputs, not %d", op_name(row->op), least, most,
                     row->inputs);
}

static int read_attrs(struct family_row *row, const json_t *attrs, struct error *err)
{
    const struct attr_spec *specs;
    const char *key;
    json_t *value;
    int count;

    if (attrs && !json_is_object(attrs))
        return error_set(err, 400, "attributes are not an object");
    row->attrs = calloc(json_object_size(attrs) + 1, sizeof(*row->attrs));
    if (!row->attrs)
        return error_set(err, 500, "no memory");
    json_object_foreach ((json_t *)(uintptr_t)attrs, key, value)
        if (family_attr_read(&row->attrs[row->attr_count++], row->op, key, value, err))
            return -1;
    specs = attr_specs(&count);
    for (int i = 0; i < count; i++)
        if (specs[i].op == row->op && specs[i].required && !json_object_get(attrs, specs[i].key))
            return error_set(err, 400, "%s needs the attribute '%s'", op_name(row->op),
                             specs[i].key);
    return 0;
}

static int check_row_name(const struct family *f, const struct family_row *row, struct error *err)
{
    if (!*row->name || strpbrk(row->name, " *?[],/"))
        return error_set(err, 400, "'%.60s' cannot be a name", row->name);
    if (is_outside_input(row->name) || (row->section != FAMILY_LAYER && !strcmp(row->name, "x")))
        return error_set(err, 400, "the name '%s' is taken", row->name);
    if (family_find_row(f, row->section, row->index, row->name) ||
        (row->section != FAMILY_BEFORE &&
         family_find_row(f, FAMILY_BEFORE, f->count[FAMILY_BEFORE], row->name)))
        return error_set(err, 400, "second row of that name");
    return 0;
}

static int read_row(const struct family *f, struct family_row *row, const json_t *json,
                    struct error *err)
{
    const char *name = json_string_value(json_array_get(json, 0));
    const char *op = json_string_value(json_array_get(json, 1));
    const char *inputs = json_string_value(json_array_get(json, 2));

    if (!name || !op || !inputs || json_array_size(json) > 4)
        return error_set(err, 400, "not [name, op, \"inputs\", {attributes}?]");
    row->name = strdup(name);
    if (!row->name)
        return error_set(err, 500, "no memory");
    if (check_row_name(f, row, err) || read_op(row, op, err) || read_inputs(f, row, inputs, err))
        return -1;
    return read_attrs(row, json_array_get(json, 3), err);
}

static int read_section(struct family *f, enum family_section section, const json_t *root,
                        struct error *err)
{
    const json_t *list = json_object_get(root, section_names[section]);
    size_t count = json_array_size(list);

    if (count == 0 || count > 1000)
        return error_set(err, 400, "%s: %s: not a list of 1 to 1000 rows", f->path,
                         section_names[section]);
    f->rows[section] = calloc(count, sizeof(*f->rows[section]));
    if (!f->rows[section])
        return error_set(err, 500, "%s: no memory", f->path);
    for (size_t i = 0; i < count; i++) {
        struct family_row *row = &f->rows[section][i];

        row->section = section;
        row->index = (int)i;
        f->count[section]++;
        if (read_row(f, row, json_array_get(list, i), err))
            return row_prefix(f, row, err);
    }
    return 0;
}

/* ---- the rest of the file ---- */

static int read_architectures(struct family *f, const json_t *root, struct error *err)
{
    const json_t *list = json_object_get(root, "architectures");
    size_t count = json_array_size(list);

    f->architectures = calloc(count + 1, sizeof(*f->architectures));
    if (!f->architectures)
        return error_set(err, 500, "%s: no memory", f->path);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));

        f->architectures[i] = text ? strdup(text) : NULL;
        if (!f->architectures[i])
            return error_set(err, 400, "%s: architectures: not a list of strings", f->path);
        f->architecture_count++;
    }
    return count ? 0 : error_set(err, 400, "%s: architectures: not a list of strings", f->path);
}

static int check_ends(const struct family *f, struct error *err)
{
    int last = f->count[FAMILY_LAYER] - 1;

    if (strcmp(f->rows[FAMILY_LAYER][last].name, "x") != 0)
        return error_set(err, 400, "%s: layer row %d (%s): the last row of a layer must be 'x'",
                         f->path, last + 1, f->rows[FAMILY_LAYER][last].name);
    if (!family_find_row(f, FAMILY_BEFORE, f->count[FAMILY_BEFORE], f->input))
        return error_set(err, 400, "%s: input: '%.80s' is no row of \"before\"", f->path, f->input);
    return 0;
}

/* ---- the file ---- */

static int check_keys(const struct family *f, json_t *root, struct error *err)
{
    static const char *const known[] = {"architectures", "mirror",        "before",  "input",
                                        "layers",        "attention",     "layer",   "after",
                                        "aliases",       "layer_aliases", "modules", "comment"};
    const char *key;
    json_t *value;

    json_object_foreach (root, key, value) {
        const char *near = NULL;
        int found = 0;

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            found |= strcmp(known[i], key) == 0;
            if (name_is_near(key, known[i]))
                near = known[i];
        }
        if (!found)
            return error_set(err, 400, "%s: unknown key '%.60s'%s%s%s", f->path, key,
                             near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
    }
    return 0;
}

static int set_names(struct family *f, const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');

    f->path = strdup(path);
    f->name = dot ? strndup(base, (size_t)(dot - base)) : strdup(base);
    return f->path && f->name ? 0 : -1;
}

static int read_family(struct family *f, json_t *root, struct error *err)
{
    if (check_keys(f, root, err) || read_architectures(f, root, err) ||
        family_read_text(f, &f->layers, root, "layers", err) ||
        family_read_text(f, &f->input, root, "input", err) || family_choose(f, root, err))
        return -1;
    for (int s = 0; s < FAMILY_SECTIONS; s++)
        if (read_section(f, (enum family_section)s, root, err))
            return -1;
    return check_ends(f, err) || family_read_mirror(f, root, err) ||
           family_read_aliases(f, root, err);
}

struct family *family_open(const char *path, enum attention attention, struct error *err)
{
    struct family *f = calloc(1, sizeof(*f));
    struct error own = {0};
    json_t *root = NULL;
    int rc = -1;

    if (!err)
        err = &own;
    if (!f || set_names(f, path))
        error_set(err, 500, "%s: no memory", path);
    else if ((root = json_file_read(NULL, path, JSON_FILE_NO_DUPLICATES, err))) {
        f->attention = attention;
        rc = read_family(f, root, err);
    }
    json_decref(root);
    if (rc) {
        family_close(f);
        f = NULL;
    }
    return f;
}

static void free_aliases(struct family_alias *list, int count)
{
    for (int i = 0; i < count; i++) {
        free(list[i].alias);
        free(list[i].row);
    }
    free(list);
}

static void free_rows(struct family_row *rows, int count)
{
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < rows[i].inputs; k++)
            free(rows[i].input[k]);
        for (int k = 0; k < rows[i].attr_count; k++)
            family_attr_clear(&rows[i].attrs[k]);
        free(rows[i].attrs);
        free(rows[i].name);
    }
    free(rows);
}

void family_close(struct family *f)
{
    if (!f)
        return;
    for (int s = 0; s < FAMILY_SECTIONS; s++)
        free_rows(f->rows[s], f->count[s]);
    for (int i = 0; i < f->architecture_count; i++)
        free(f->architectures[i]);
    free(f->architectures);
    free_aliases(f->aliases, f->alias_count);
    free_aliases(f->layer_aliases, f->layer_alias_count);
    free_aliases(f->modules, f->module_count);
    for (int i = 0; i < f->elsewhere_count; i++)
        free(f->elsewhere[i]);
    free(f->elsewhere);
    free(f->elsewhere_of);
    free(f->mirror_version);
    free(f->mirror_file);
    free(f->layers);
    free(f->input);
    free(f->name);
    free(f->path);
    free(f);
}

int family_attrs(const struct family *f, const struct family_row *row,
                 const struct hf_config *config, int64_t layer, struct op_attrs *out,
                 struct error *err)
{
    memset(out, 0, sizeof(*out));
    for (int i = 0; i < row->attr_count; i++)
        if (family_attr_resolve(&row->attrs[i], config, layer, out, err))
            return row_prefix(f, row, err);
    return 0;
}

/* ---- the family of a config ---- */

static int is_json(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');

    return dot && dot != entry->d_name && strcmp(dot, ".json") == 0;
}

static int lists(const struct family *f, const char *architecture, struct buffer *known)
{
    for (int i = 0; i < f->architecture_count; i++) {
        if (strcmp(f->architectures[i], architecture) == 0)
            return 1;
        buffer_format(known, "%s%s", known->size ? ", " : "", f->architectures[i]);
    }
    return 0;
}

static struct family *open_in(const char *folder, const char *name, enum attention attention,
                              struct error *err)
{
    struct family *f = NULL;
    char *path = NULL;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        error_set(err, 500, "%s: no memory", folder);
    else {
        f = family_open(path, attention, err);
        free(path);
    }
    return f;
}

struct family *family_for(const char *folder, const struct hf_config *config,
                          enum attention attention, struct error *err)
{
    const char *architecture = hf_config_architecture(config);
    struct dirent **files = NULL;
    struct buffer known = {0};
    struct family *f = NULL;
    int count = scandir(folder, &files, is_json, alphasort), found = 0, broken = 0;

    for (int i = 0; i < count; i++) {
        if (!found && !broken) {
            f = open_in(folder, files[i]->d_name, attention, err);
            broken = !f;
            found = f && lists(f, architecture, &known);
            if (!found) {
                family_close(f);
                f = NULL;
            }
        }
        free(files[i]);
    }
    if (count < 0)
        error_set(err, 500, "%s: %s", folder, strerror(errno));
    else if (!found && !broken)
        error_param(err, 400, "config.json: architectures",
                    "%s/config.json: architectures: '%.80s' is not supported (known: %s)",
                    hf_config_folder(config), architecture, known.size ? known.data : "none");
    buffer_clear(&known);
    free(files);
    return f;
}
