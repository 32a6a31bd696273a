/* receive.c - see receive.h. */
#include "client/receive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/json_memory.h"

struct value_end {
    const char *name; /* of the header's object */
    uint64_t end;     /* in the file */
};

struct receive {
    char *path, *temporary; /* temporary: NULL when there is nothing to rename */
    int fd;
    int owns_fd;
    int broken;
    uint64_t bytes, all; /* all: 0 until the header is there */
    struct buffer head;  /* length and header while they come */
    json_t *header;
    struct value_end *ends; /* ascending */
    size_t count, at;
    void (*progress)(void *user, const char *name, uint64_t done, uint64_t all);
    void *user;
};

static int open_beside(struct receive *r, struct error *err)
{
    size_t size = strlen(r->path) + sizeof(".partial-XXXXXX");
    mode_t mask = umask(0);

    umask(mask);
    r->temporary = malloc(size);
    if (!r->temporary)
        return error_set(err, 500, "out of memory");
    snprintf(r->temporary, size, "%s.partial-XXXXXX", r->path);
    r->fd = mkstemp(r->temporary);
    if (r->fd < 0) {
        free(r->temporary);
        r->temporary = NULL;
        return error_set(err, 500, "cannot write beside %s: %s", r->path, strerror(errno));
    }
    r->owns_fd = 1;
    fchmod(r->fd, 0666 & ~mask);
    return 0;
}

static int open_unnamed(struct receive *r, struct error *err)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];

    snprintf(path, sizeof(path), "%s/samebit-XXXXXX", folder && *folder ? folder : "/tmp");
    r->fd = mkstemp(path);
    if (r->fd < 0)
        return error_set(err, 500, "cannot make a temporary file %s: %s", path, strerror(errno));
    r->owns_fd = 1;
    unlink(path);
    return 0;
}

/* Devices and pipes are written to as they are; renaming over /dev/null would destroy it. */
static int open_special(struct receive *r, struct error *err)
{
    r->fd = open(r->path, O_WRONLY | O_CLOEXEC);
    r->owns_fd = 1;
    return r->fd < 0 ? error_set(err, 500, "cannot write %s: %s", r->path, strerror(errno)) : 0;
}

static int open_output(struct receive *r, struct error *err)
{
    struct stat info;

    if (!r->path)
        return open_unnamed(r, err);
    if (strcmp(r->path, "-") == 0) {
        r->fd = STDOUT_FILENO;
        return 0;
    }
    if (stat(r->path, &info) == 0 && S_ISDIR(info.st_mode))
        return error_set(err, 500, "cannot write %s: it is a folder", r->path);
    if (stat(r->path, &info) == 0 && !S_ISREG(info.st_mode))
        return open_special(r, err);
    return open_beside(r, err);
}

struct receive *receive_open(const char *path,
                             void (*progress)(void *user, const char *name, uint64_t done,
                                              uint64_t all),
                             void *user, struct error *err)
{
    struct receive *r = calloc(1, sizeof(*r));

    if (!r)
        goto fail;
    r->fd = -1;
    r->progress = progress;
    r->user = user;
    r->path = path ? strdup(path) : NULL;
    if (path && !r->path)
        goto fail;
    if (open_output(r, err))
        goto fail;
    return r;
fail:
    error_set(err, 500, "out of memory");
    receive_close(r);
    return NULL;
}

void receive_close(struct receive *r)
{
    if (!r)
        return;
    if (r->owns_fd && r->fd >= 0)
        close(r->fd);
    if (r->temporary)
        unlink(r->temporary);
    buffer_clear(&r->head);
    json_decref(r->header);
    free(r->ends);
    free(r->temporary);
    free(r->path);
    free(r);
}

/* ---- the header on its way ---- */

static int by_end(const void *a, const void *b)
{
    const struct value_end *x = a, *y = b;

    return x->end < y->end ? -1 : x->end > y->end;
}

static int read_header(struct receive *r, uint64_t length, struct error *err)
{
    uint64_t data = length + 8;
    const char *name;
    json_t *entry;

    r->header = json_memory_read(r->head.data + 8, length, JSON_ALLOW_NUL, NULL);
    r->ends = calloc(json_object_size(r->header) + 1, sizeof(*r->ends));
    if (!json_is_object(r->header) || !r->ends)
        return error_set(err, 502, "what came is not a safetensors file: no JSON header");
    r->all = data;
    json_object_foreach (r->header, name, entry) {
        json_int_t end =
            json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 1));

        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (end < 0 || (uint64_t)end > INT64_MAX - data)
            return error_set(err, 502, "%s: a value that ends where no file can", name);
        r->ends[r->count++] = (struct value_end){name, data + (uint64_t)end};
        r->all = r->all > data + (uint64_t)end ? r->all : data + (uint64_t)end;
    }
    qsort(r->ends, r->count, sizeof(*r->ends), by_end);
    return 0;
}

static int watch_header(struct receive *r, const void *bytes, size_t size, struct error *err)
{
    uint64_t length = 0, missing;

    while (!r->header && size > 0) {
        missing = 8 - r->head.size;
        if (r->head.size >= 8) {
            for (int i = 7; i >= 0; i--)
                length = length << 8 | (unsigned char)r->head.data[i];
            if (!length || length > SAFETENSORS_MAX_HEADER)
                return error_set(err, 502,
                                 "what came is not a safetensors file: a header of %llu bytes",
                                 (unsigned long long)length);
            missing = length + 8 - r->head.size;
        }
        missing = missing < size ? missing : size;
        buffer_append(&r->head, bytes, missing);
        if (r->head.failed)
            return error_set(err, 500, "out of memory for the header");
        bytes = (const char *)bytes + missing;
        size -= missing;
        if (r->head.size >= 8 && length && r->head.size == length + 8 &&
            read_header(r, length, err))
            return -1;
    }
    return 0;
}

static int write_all(struct receive *r, const char *bytes, size_t size, struct error *err)
{
    while (size > 0) {
        ssize_t n = write(r->fd, bytes, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, 500, "cannot write %s: %s",
                             !r->path                    ? "a temporary file"
                             : strcmp(r->path, "-") == 0 ? "to standard output"
                                                         : r->path,
                             n < 0 ? strerror(errno) : "nothing was taken");
        bytes += n;
        size -= (size_t)n;
    }
    return 0;
}

int receive_write(void *user, const void *bytes, size_t size, struct error *err)
{
    struct receive *r = user;

    if (watch_header(r, bytes, size, err) || write_all(r, bytes, size, err)) {
        r->broken = 1;
        return -1;
    }
    r->bytes += size;
    while (r->at + 1 < r->count && r->ends[r->at].end <= r->bytes)
        r->at++;
    if (r->progress)
        r->progress(r->user, r->count ? r->ends[r->at].name : "", r->bytes, r->all);
    return 0;
}

int receive_finish(struct receive *r, struct error *err)
{
    if (r->broken)
        return error_set(err, 502, "the trace is not whole");
    if (!r->header || r->bytes != r->all) {
        r->broken = 1;
        return error_set(err, 502, "the trace broke off: %llu of %llu bytes came",
                         (unsigned long long)r->bytes, (unsigned long long)r->all);
    }
    if (!r->temporary)
        return 0;
    if (fsync(r->fd) || rename(r->temporary, r->path))
        return error_set(err, 500, "cannot write %s: %s", r->path, strerror(errno));
    free(r->temporary);
    r->temporary = NULL;
    return 0;
}

struct safetensors *receive_file(struct receive *r, const char *label, struct error *err)
{
    char path[64];
    struct safetensors *file;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
    file = safetensors_open(path, err);
    if (!file)
        error_prefix(err, "%s: ", label);
    return file;
}

uint64_t receive_bytes(const struct receive *r)
{
    return r->bytes;
}
