/* cli_sides.c - see cli_sides.h. */
#include "client/cli_sides.h"

#include "client/dump.h"
#include "client/remote.h"

/* Both are daemons: digests of both. */
static int open_daemons(struct cli_sides *s, const struct cli_sides_options *o, struct error *err)
{
    s->request = cli_request(o->ask, err);
    if (!s->request)
        return -1;
    if (!json_object_get(s->request, "values"))
        json_object_set_new(s->request, "values", json_pack("[s]", "*"));
    for (int i = 0; i < 2; i++) {
        s->side[i] = remote_digests(s->client[i], s->request, err);
        if (!s->side[i])
            return -1;
    }
    return 0;
}

/* Returns whether an option is given that needs a prompt. */
static int about_prompt(const struct cli_ask *ask)
{
    return ask->positions || ask->steps >= 0 || ask->padding || ask->batch || ask->chunks;
}

int cli_sides_dump(const struct cli_sides *s)
{
    if (s->file[0] && s->file[1])
        return json_object_get(s->file[0]->metadata, "numerics") ? 1 : 0;
    return s->file[0] ? 0 : 1;
}

static void take_hunt(struct cli_sides *s, int dump)
{
    s->theirs = s->side[dump] = s->hunt.theirs;
    s->side[1 - dump] = s->hunt.ours;
    s->hunt.theirs = s->hunt.ours = NULL;
}

/* Returns the part of a dump that is row `row` of its batch, or the dump itself. */
static struct safetensors *row_of(struct cli_sides *s, int dump, int64_t row, struct error *err)
{
    struct safetensors *file = s->file[dump];

    if (dump_rows(file) > 1)
        return dump_row(file, row, err);
    s->file[dump] = NULL;
    return file;
}

/* One side is a file: asks the daemon for the values that it holds. */
static int open_mixed(struct cli_sides *s, char **from, const struct cli_sides_options *o,
                      int64_t row, struct error *err)
{
    const int dump = cli_sides_dump(s);
    const int64_t rows = dump_rows(s->file[dump]);
    struct safetensors *file;
    json_t *asked = NULL;
    int rc = -1;

    if (o->ask->prompt || o->ask->tokens)
        asked = cli_request(o->ask, err);
    else if (about_prompt(o->ask) && !safetensors_find(s->file[dump], "tokens"))
        error_set(err, 400,
                  "--steps, --positions, --padding, --batch and --chunks go with --prompt or "
                  "--tokens, or with a file that holds its tokens");
    else
        asked = cli_said(o->ask, err);
    if (!asked)
        goto out;
    json_object_del(asked, "values"); /* they say what is compared, in our names */
    if (rows > 1 && !json_object_get(asked, "batch"))
        json_object_set_new(asked, "batch", json_integer(rows));
    file = row_of(s, dump, row, err);
    if (file)
        rc = hunt_open(&s->hunt, s->client[1 - dump], from[dump], file, asked, s->map, err);
    take_hunt(s, dump);
out:
    json_decref(asked);
    return rc;
}

static int open_files(struct cli_sides *s, char **from, struct error *err)
{
    const int dump = cli_sides_dump(s),
              rc = hunt_files(&s->hunt, from[dump], s->file[dump], from[1 - dump],
                              s->file[1 - dump], s->map, err);

    s->file[0] = s->file[1] = NULL;
    take_hunt(s, dump);
    return rc;
}

int cli_sides_open(struct cli_sides *s, char **from, const struct cli_sides_options *o,
                   struct error *err)
{
    for (int i = 0; i < 2; i++) {
        if (remote_is_url(from[i]))
            s->client[i] = cli_client(from[i], err);
        else
            s->file[i] = dump_open(from[i], err);
        if (!s->client[i] && !s->file[i])
            return -1;
    }
    if (o->map && !(s->map = hunt_read_map(o->map, s->file[cli_sides_dump(s)], err)))
        return -1;
    if (!s->client[0] && !s->client[1] &&
        (o->ask->prompt || o->ask->tokens || o->ask->attention || o->ask->torch_threads ||
         about_prompt(o->ask)))
        return error_set(err, 400,
                         "two files are compared as they are: --prompt, --tokens, --steps, "
                         "--positions, --attention, --padding, --batch, --chunks and "
                         "--torch-threads are for daemons");
    return 0;
}

int cli_sides_open_row(struct cli_sides *s, char **from, const struct cli_sides_options *o,
                       int64_t row, struct error *err)
{
    if (s->client[0] && s->client[1])
        return open_daemons(s, o, err);
    return s->file[0] && s->file[1] ? open_files(s, from, err) : open_mixed(s, from, o, row, err);
}

void cli_sides_close_row(struct cli_sides *s)
{
    hunt_close(&s->hunt);
    s->theirs = NULL;
    for (int i = 0; i < 2; i++) {
        side_free(s->side[i]);
        s->side[i] = NULL;
    }
}

void cli_sides_close(struct cli_sides *s)
{
    for (int i = 0; i < 2; i++) {
        safetensors_close(s->file[i]);
        client_close(s->client[i]);
    }
    json_decref(s->request);
    json_decref(s->map);
}
