/* json_file.c - see json_file.h. */
#include "kernels/base/json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/buffer.h"
#include "kernels/base/file_kind.h"
#include "kernels/base/json_memory.h"
#include "kernels/base/json_python.h"

enum { LARGEST = 100000000 };

static const char no_memory[] = "no memory to read it";

/* The file's JSON, where it is Python's through json_python. */
static json_t *load(FILE *file, size_t size, unsigned flags, json_error_t *trouble)
{
    const size_t json_flags = flags & JSON_FILE_NO_DUPLICATES ? JSON_REJECT_DUPLICATES : 0;
    struct buffer raw = {0}, text = {0}, *of = flags & JSON_FILE_PYTHON ? &text : &raw;
    char *room = buffer_room(&raw, size);
    json_t *root = NULL;

    trouble->line = 0;
    if (room) {
        raw.size = fread(room, 1, size, file);
        raw.data[raw.size] = '\0';
        if (of == &text)
            json_python(raw.data, raw.size, &text);
    }
    if (!room || of->failed)
        strcpy(trouble->text, no_memory);
    else
        root = json_memory_read(of->size ? of->data : "", of->size, json_flags, trouble);
    if (!root && json_memory_failed())
        strcpy(trouble->text, no_memory);
    buffer_clear(&raw);
    buffer_clear(&text);
    return root;
}

static void say_trouble(const char *path, FILE *file, const json_error_t *trouble,
                        struct error *err)
{
    char first[64];
    const char *kind;

    if (strcmp(trouble->text, no_memory) == 0) {
        error_set(err, 500, "%s: %s", path, no_memory);
        return;
    }
    rewind(file);
    kind = file_kind(first, fread(first, 1, sizeof(first), file));
    if (kind)
        error_set(err, 400, "%s: %s", path, kind);
    else
        error_set(err, 400, "%s: line %d: %s", path, trouble->line, trouble->text);
}

static json_t *parse(const char *path, FILE *file, unsigned flags, struct error *err)
{
    json_error_t trouble;
    json_t *root = NULL;
    struct stat st;

    if (fstat(fileno(file), &st)) {
        error_set(err, 400, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        error_set(err, 400, "%s: not a regular file", path);
    } else if (st.st_size > LARGEST) {
        error_set(err, 400, "%s: %lld bytes, more than %d", path, (long long)st.st_size, LARGEST);
    } else {
        root = load(file, (size_t)st.st_size, flags, &trouble);
        if (!root)
            say_trouble(path, file, &trouble, err);
    }
    if (root && !json_is_object(root) && !(flags & JSON_FILE_ANY)) {
        error_set(err, 400, "%s: not a JSON object", path);
        json_decref(root);
        root = NULL;
    }
    return root;
}

json_t *json_file_read(const char *folder, const char *name, unsigned flags, struct error *err)
{
    char *path = NULL;
    json_t *root = NULL;
    FILE *file;
    int fd;

    if (asprintf(&path, "%s%s%s", folder ? folder : "", folder ? "/" : "", name) < 0) {
        error_set(err, 500, "%s: no memory", name);
        return NULL;
    }
    /* Not blocking: a FIFO of that name must not hang us. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    file = fd >= 0 ? fdopen(fd, "r") : NULL; /* json_loadfd would make a system call a byte */
    if (file) {
        root = parse(path, file, flags, err);
        fclose(file);
    } else if (fd >= 0) {
        error_set(err, 500, "%s: %s", path, strerror(errno));
        close(fd);
    } else if (!(flags & JSON_FILE_OPTIONAL) || errno != ENOENT) {
        error_set(err, 400, "%s: %s", path, strerror(errno));
    }
    free(path);
    return root;
}
