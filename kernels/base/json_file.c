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
#include "kernels/base/json_python.h"

enum { LARGEST = 100000000 };

/* The file's JSON, through json_python. */
static json_t *load_python(FILE *file, size_t size, size_t flags, json_error_t *trouble)
{
    struct buffer raw = {0}, text = {0};
    char *room = buffer_room(&raw, size);
    json_t *root = NULL;

    if (room) {
        raw.size = fread(room, 1, size, file);
        raw.data[raw.size] = '\0';
        json_python(raw.data, raw.size, &text);
    }
    if (!room || text.failed)
        snprintf(trouble->text, sizeof(trouble->text), "no memory");
    else
        root = json_loadb(text.size ? text.data : "", text.size, flags, trouble);
    buffer_clear(&raw);
    buffer_clear(&text);
    return root;
}

static json_t *load(FILE *file, size_t size, unsigned flags, json_error_t *trouble)
{
    const size_t json_flags = flags & JSON_FILE_NO_DUPLICATES ? JSON_REJECT_DUPLICATES : 0;

    trouble->line = 0;
    return flags & JSON_FILE_PYTHON ? load_python(file, size, json_flags, trouble)
                                    : json_loadf(file, json_flags, trouble);
}

static void say_trouble(const char *path, FILE *file, const json_error_t *trouble,
                        struct error *err)
{
    char first[64];
    const char *kind;

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
    if (root && !json_is_object(root)) {
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
