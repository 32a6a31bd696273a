/* cli_trace.c - `samebit trace`: values of a run into a file, or their digests. */
#include "client/cli.h"
#include "client/dump.h"

#include <stdlib.h>
#include <string.h>

struct options {
    struct cli_ask ask;
    const char *url, *output;
    struct cli_list replace; /* name=file[:tensor] */
    int digest, json;
};

/* The values that replace computed ones, and the files that they are in. */
struct replacements {
    struct client_replace *at;
    struct safetensors **files;
    char **names;
    int count;
};

static void replacements_clear(struct replacements *r)
{
    for (int i = 0; i < r->count; i++) {
        safetensors_close(r->files[i]);
        free(r->names[i]);
    }
    free(r->at);
    free(r->files);
    free(r->names);
}

/* Returns the tensor of that name; if none is given, the only one in the file, or the one named like
 * the value. */
static const struct safetensors_entry *pick(const struct safetensors *f, const char *tensor,
                                            const char *name)
{
    const struct safetensors_entry *e = safetensors_find(f, tensor ? tensor : name);

    return e || tensor || f->count != 1 ? e : &f->entries[0];
}

/* text: "name=file" or "name=file:tensor".  A file whose name has the colon in it comes first. */
static int replacement_open(struct replacements *r, const char *text, struct error *err)
{
    const char *equals = strchr(text, '='), *tensor = NULL;
    const struct safetensors_entry *entry;
    char *path, *colon;
    struct error whole = {0};
    int i = r->count, rc = -1;

    if (!equals || equals == text || !equals[1])
        return error_param(err, 400, "replace", "--replace %s: not name=file.safetensors", text);
    r->names[i] = strndup(text, (size_t)(equals - text));
    path = strdup(equals + 1);
    r->count++;
    if (!r->names[i] || !path) {
        error_set(err, 500, "out of memory");
        goto out;
    }
    r->files[i] = safetensors_open(path, &whole);
    colon = strrchr(path, ':');
    if (!r->files[i] && colon && colon > path) {
        *colon = '\0';
        tensor = colon + 1;
        r->files[i] = safetensors_open(path, err);
    } else if (!r->files[i]) {
        error_set(err, 400, "%s", whole.text);
    }
    if (!r->files[i])
        goto out;
    entry = pick(r->files[i], tensor, r->names[i]);
    if (!entry || !entry->supported || entry->tensor.rank > TENSOR_MAX_RANK) {
        error_set(err, 400,
                  entry ? "%s: %s is of a dtype or rank that cannot be put in"
                        : "%s: has no tensor %s; say --replace NAME=FILE:TENSOR",
                  path,
                  entry    ? entry->name
                  : tensor ? tensor
                           : r->names[i]);
        goto out;
    }
    r->at[i] = (struct client_replace){r->names[i], entry->tensor};
    rc = 0;
out:
    free(path);
    return rc;
}

static int replacements_open(struct replacements *r, const struct cli_list *list, struct error *err)
{
    size_t n = (size_t)list->count + 1;

    r->at = calloc(n, sizeof(*r->at));
    r->files = calloc(n, sizeof(struct safetensors *));
    r->names = calloc(n, sizeof(char *));
    if (!r->at || !r->files || !r->names)
        return error_set(err, 500, "out of memory");
    for (int i = 0; i < list->count; i++)
        if (replacement_open(r, list->items[i], err))
            return -1;
    return 0;
}

/* ---- digests ---- */

static int print_digests(const json_t *reply, struct error *err)
{
    static const struct table_column columns[] = {
        {"value", 0, 0}, {"shape", 0, 0}, {"dtype", 0, 0}, {"sha256", 0, 0}};
    struct table *t = table_create(columns, 4);
    json_t *row;
    const char *name;
    char shape[128];

    json_object_foreach (json_object_get(reply, "values"), name, row) {
        const char *dtype = json_string_value(json_object_get(row, "dtype"));
        const char *digest = json_string_value(json_object_get(row, "sha256"));

        table_row(t, COLOR_NONE);
        table_cell(t, "%s", name);
        table_cell(t, "%s", cli_shape(json_object_get(row, "shape"), shape, sizeof(shape)));
        table_cell(t, "%s", dtype ? dtype : "?");
        table_cell(t, "%s", digest ? digest : "?");
    }
    return cli_print_table(t, err);
}

static int trace_digest(struct client *c, const struct options *o, const json_t *request,
                        const struct replacements *r, struct error *err)
{
    json_t *reply = client_digests(c, request, r->at, r->count, err);
    int rc = !reply ? -1 : o->json ? cli_print_json(reply, err) : print_digests(reply, err);

    json_decref(reply);
    return rc;
}

/* ---- files ---- */

static int report_file(const struct options *o, const struct safetensors *f, uint64_t bytes,
                       struct error *err)
{
    static const char *const facts[] = {"numerics", "attention"};
    char size[32], values[32];
    json_t *line;

    if (o->json) {
        line = json_pack("{s:s,s:i,s:I,s:O*}", "file", o->output, "values", f->count, "bytes",
                         (json_int_t)bytes, "metadata", f->metadata);
        cli_print_json(line, err);
        json_decref(line);
        return err->code ? -1 : 0;
    }
    printf("%s: %s values, %s", o->output, number_grouped(f->count, values, sizeof(values)),
           number_bytes(bytes, size, sizeof(size)));
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
        if (json_string_value(json_object_get(f->metadata, facts[i])))
            printf(", %s", json_string_value(json_object_get(f->metadata, facts[i])));
    putchar('\n');
    return cli_flush(err);
}

enum ending { ENDING_SAFETENSORS, ENDING_NPZ, ENDING_UNKNOWN };

/* A name without an ending is a safetensors file too. */
static enum ending ending_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');

    if (strcmp(path, "-") == 0 || strncmp(path, "/dev/", 5) == 0 || !dot ||
        strcmp(dot, ".safetensors") == 0)
        return ENDING_SAFETENSORS;
    return strcmp(dot, ".npz") == 0 ? ENDING_NPZ : ENDING_UNKNOWN;
}

static int trace_npz(struct client *c, const struct options *o, const json_t *request,
                     const struct replacements *r, struct error *err)
{
    struct safetensors *file = NULL;
    uint64_t bytes = 0;
    int rc = cli_receive_trace(c, request, r->at, r->count, NULL, &file, &bytes, err);

    if (rc == 0)
        rc = dump_write_npz(file, o->output, err);
    if (rc == 0)
        rc = report_file(o, file, bytes, err);
    safetensors_close(file);
    return rc;
}

static int trace_file(struct client *c, const struct options *o, const json_t *request,
                      const struct replacements *r, struct error *err)
{
    struct safetensors *file;
    uint64_t bytes = 0;
    int rc;

    if (ending_of(o->output) == ENDING_NPZ)
        return trace_npz(c, o, request, r, err);
    if (cli_receive_trace(c, request, r->at, r->count, o->output, NULL, &bytes, err))
        return -1;
    if (strcmp(o->output, "-") == 0 || strncmp(o->output, "/dev/", 5) == 0)
        return 0;
    file = safetensors_open(o->output, err);
    rc = file ? report_file(o, file, bytes, err) : -1;
    safetensors_close(file);
    return rc;
}

static int trace(const struct options *o, struct error *err)
{
    struct replacements r = {0};
    struct client *c = NULL;
    json_t *request = NULL;
    int rc = -1;

    if (!o->output && !o->digest) {
        error_param(err, 400, "output", "say where to: -o run.safetensors, -o -, or --digest");
        goto out;
    }
    if (o->output && ending_of(o->output) == ENDING_UNKNOWN) {
        error_param(err, 400, "output", "-o %s: written are .safetensors and .npz", o->output);
        goto out;
    }
    request = cli_request(&o->ask, err);
    if (!request || replacements_open(&r, &o->replace, err))
        goto out;
    if (!json_object_get(request, "values"))
        json_object_set_new(request, "values", json_pack("[s]", "*"));
    c = cli_client(o->url, err);
    if (c)
        rc = o->digest ? trace_digest(c, o, request, &r, err) : trace_file(c, o, request, &r, err);
out:
    client_close(c);
    json_decref(request);
    replacements_clear(&r);
    return rc;
}

static int trace_run(int argc, char **argv, struct error *err)
{
    struct options o = {.ask.steps = -1};
    const struct cli_option options[] = {
        {"url", 0, CLI_TEXT, &o.url},
        {"tokens", 0, CLI_TEXT, &o.ask.tokens},
        {"steps", 0, CLI_NUMBER, &o.ask.steps},
        {"values", 0, CLI_LIST, &o.ask.values},
        {"value", 'v', CLI_LIST, &o.ask.value},
        {"positions", 0, CLI_TEXT, &o.ask.positions},
        {"attention", 0, CLI_TEXT, &o.ask.attention},
        {"padding", 0, CLI_NUMBER, &o.ask.padding},
        {"batch", 0, CLI_NUMBER, &o.ask.batch},
        {"torch-threads", 0, CLI_NUMBER, &o.ask.torch_threads},
        {"chunks", 0, CLI_TEXT, &o.ask.chunks},
        {"replace", 0, CLI_LIST, &o.replace},
        {"output", 'o', CLI_TEXT, &o.output},
        {"digest", 0, CLI_FLAG, &o.digest},
        {"json", 0, CLI_FLAG, &o.json},
        {NULL, 0, CLI_FLAG, NULL},
    };
    int count, rc;

    rc = cli_parse(options, argc, argv, &count, err);
    if (rc == 0 && count > 1)
        rc = error_set(err, 400, "one prompt is taken; quote it");
    o.ask.prompt = count ? argv[0] : NULL;
    if (rc == 0)
        rc = trace(&o, err);
    cli_list_free(&o.replace);
    cli_ask_clear(&o.ask);
    return rc ? CLI_TROUBLE : CLI_OK;
}

const struct cli_command cli_trace = {
    "trace",
    "PROMPT -o FILE",
    "writes the values of a run to a .safetensors or .npz file",
    "  PROMPT              the text; - reads standard input\n"
    "  --tokens 1,2,3      ids in place of a text\n"
    "  --steps N           decode steps after the prompt\n"
    "  --values A,B        names, aliases or globs (`samebit values` lists them); else all\n"
    "  -v, --value NAME    one of them (may be given often)\n"
    "  --positions WHICH   all, last, or 0,5: rows of the prompt\n"
    "  --attention NAME    eager or sdpa; else the daemon's default\n"
    "  --padding N         so many first tokens are left padding\n"
    "  --batch N           it is one of so many rows of PyTorch's call\n"
    "  --torch-threads N   torch.get_num_threads() of the PyTorch whose bits are wanted (of "
    "numerics\n"
    "                      whose bits depend on it)\n"
    "  --chunks 3,5        feeds the prompt in calls of these lengths\n"
    "  --replace NAME=FILE[:TENSOR]  puts a tensor in place of a computed value\n"
    "  -o, --output FILE   where to, .safetensors or .npz; - is standard output\n"
    "  --digest            prints a SHA-256 of each value, and fetches no data\n"
    "  --json              what is printed, for machines\n",
    trace_run,
    0};
