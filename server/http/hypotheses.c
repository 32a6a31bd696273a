/* hypotheses.c - GET /v1/hypotheses: the mistakes that a port may have made, each a formula for a step
 * of POST /v1/isolate.  They are data: configs/hypotheses, beside the families. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/json_file.h"
#include "kernels/base/json_memory.h"
#include "server/engine/engine.h"
#include "server/http/routes.h"

static int is_json(const struct dirent *entry)
{
    const size_t n = strlen(entry->d_name);

    return n > 5 && strcmp(entry->d_name + n - 5, ".json") == 0;
}

/* "configs/hypotheses" beside "configs/families/qwen2.json". */
static void folder_of(const struct engine *e, char *out, size_t size)
{
    char *slash;

    snprintf(out, size, "%s", e->family[e->attention]->path);
    for (int i = 0; i < 2; i++) {
        slash = strrchr(out, '/');
        *(slash ? slash : out) = '\0';
    }
    snprintf(out + strlen(out), size - strlen(out), "%shypotheses", *out ? "/" : "");
}

static int add_file(json_t *all, const char *folder, const char *name, struct error *err)
{
    json_t *file = json_file_read(folder, name, 0, err);
    int rc = file ? 0 : -1;

    if (file && json_array_extend(all, json_object_get(file, "hypotheses")))
        rc = error_set(err, 500, "%s/%s: a list \"hypotheses\" is expected", folder, name);
    json_decref(file);
    return rc;
}

static int add_folder(json_t *all, const char *folder, struct error *err)
{
    struct dirent **entries = NULL;
    const int count = scandir(folder, &entries, is_json, alphasort);
    int rc = count < 0 ? error_set(err, 500, "%s cannot be read", folder) : 0;

    for (int i = 0; i < count; i++) {
        if (!rc)
            rc = add_file(all, folder, entries[i]->d_name, err);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

int hypotheses_get(const struct request *r, struct reply *reply, struct error *err)
{
    static const char *const none[] = {NULL};
    json_t *all = json_array();
    char folder[3072], *text = NULL;
    int rc = -1;

    if (request_only(r, none, err) || request_takes_json(r, err))
        goto out;
    folder_of(r->engine, folder, sizeof(folder));
    if (add_folder(all, folder, err))
        goto out;
    text = json_memory_text(all, JSON_COMPACT);
    if (text)
        buffer_format(&reply->body, "{\"hypotheses\":%s}\n", text);
    reply_json(reply);
    rc = text ? 0 : error_set(err, 500, "out of memory");
out:
    free(text);
    json_decref(all);
    return rc;
}
