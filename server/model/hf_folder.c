/* hf_folder.c - see hf_folder.h. */
#include "server/model/hf_folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int exists(const char *folder, const char *name)
{
    char *path = NULL;
    int found;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return 0;
    found = access(path, F_OK) == 0;
    free(path);
    return found;
}

/* The revision in refs/main, or "" when there is none that a folder could be named for. */
static void read_main(const char *folder, char revision[128])
{
    char *path = NULL;
    FILE *file;

    revision[0] = '\0';
    if (asprintf(&path, "%s/refs/main", folder) < 0)
        return;
    file = fopen(path, "re");
    free(path);
    if (!file)
        return;
    if (!fgets(revision, 128, file))
        revision[0] = '\0';
    fclose(file);
    revision[strcspn(revision, " \r\n")] = '\0';
    if (revision[0] == '.' || strchr(revision, '/'))
        revision[0] = '\0';
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* The only folder in snapshots/; returns how many there are. */
static int only_snapshot(const char *folder, char revision[128])
{
    struct dirent **found = NULL;
    char *path = NULL;
    int count;

    if (asprintf(&path, "%s/snapshots", folder) < 0)
        return 0;
    count = scandir(path, &found, is_visible, alphasort);
    free(path);
    if (count == 1)
        snprintf(revision, 128, "%.127s", found[0]->d_name);
    for (int i = 0; i < count; i++)
        free(found[i]);
    free(found);
    return count;
}

char *hf_folder_resolve(const char *folder, struct error *err)
{
    char revision[128], *path = NULL;
    int count = 1;

    if (exists(folder, "config.json") || !exists(folder, "snapshots")) {
        path = strdup(folder);
    } else {
        read_main(folder, revision);
        if (!revision[0])
            count = only_snapshot(folder, revision);
        if (count != 1) {
            error_set(err, 400,
                      "%s: an entry of the hub's cache with %d snapshots and no refs/main: give "
                      "one of %s/snapshots",
                      folder, count < 0 ? 0 : count, folder);
            return NULL;
        }
        if (asprintf(&path, "%s/snapshots/%s", folder, revision) < 0)
            path = NULL;
    }
    if (!path)
        error_set(err, 500, "out of memory");
    return path;
}

/* "ORG/NAME" of .../models--ORG--NAME/snapshots/REVISION, in place; NULL: another path. */
static char *hub_name(char *path)
{
    static const char models[] = "/models--", snapshots[] = "/snapshots/";
    char *end = strstr(path, snapshots), *name, *dashes;

    if (!end)
        return NULL;
    *end = '\0';
    name = strrchr(path, '/');
    if (!name || strncmp(name, models, sizeof(models) - 1) != 0) {
        *end = '/';
        return NULL;
    }
    name += sizeof(models) - 1;
    dashes = strstr(name, "--");
    if (dashes) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    return name;
}

char *hf_folder_name(const char *folder)
{
    char *resolved = realpath(folder, NULL);
    char *slash = resolved ? strrchr(resolved, '/') : NULL;
    char *of_hub = resolved ? hub_name(resolved) : NULL;
    char *name = strdup(of_hub ? of_hub : slash && slash[1] ? slash + 1 : folder);

    free(resolved);
    return name;
}
