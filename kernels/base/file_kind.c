/* file_kind.c - see file_kind.h. */
#include "kernels/base/file_kind.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *begins; /* of any case */
    const char *kind;
} kinds[] = {
    /* github.com/git-lfs/git-lfs, docs/spec.md */
    {"version https://git-lfs.github.com/spec/",
     "a git-lfs pointer, not the file itself: run `git lfs pull` in that folder"},
    {"<!doctype html", "an HTML page, as a failed download leaves it"},
    {"<html", "an HTML page, as a failed download leaves it"},
    {"GGUF", "a GGUF file of llama.cpp"},
    {"PK\003\004", "a zip archive, as torch.save and numpy.savez write it"},
    {"\x93NUMPY", "a NumPy array"},
    {"\x1f\x8b", "a gzip file: unpack it first"},
};

const char *file_kind(const void *bytes, size_t size)
{
    const char *text = bytes;

    while (size && isspace((unsigned char)*text)) {
        text++;
        size--;
    }
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const size_t n = strlen(kinds[i].begins);

        if (size >= n && strncasecmp(text, kinds[i].begins, n) == 0)
            return kinds[i].kind;
    }
    return NULL;
}
