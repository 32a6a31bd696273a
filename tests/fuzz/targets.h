/* targets.h - what is fuzzed.
 *
 * A target takes any bytes as its input and ends the process where something is wrong that no
 * sanitizer sees.  libFuzzer calls one of them (make fuzz); test_corpora calls each with every file
 * of corpus/NAME (make test). */
#ifndef SAMEBIT_TESTS_FUZZ_TARGETS_H
#define SAMEBIT_TESTS_FUZZ_TARGETS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/error.h"

typedef int fuzz_target(const uint8_t *bytes, size_t size);

fuzz_target fuzz_config;  /* config.json */
fuzz_target fuzz_digests; /* replies of two daemons that are not to be trusted, a NUL between */
fuzz_target fuzz_encode;  /* a text through a tokenizer and back */
fuzz_target fuzz_family;  /* a family file */
fuzz_target fuzz_glob;    /* pattern NUL text, against fnmatch */
fuzz_target fuzz_head;    /* the head of an HTTP request, and chunks behind it */
fuzz_target fuzz_inflate; /* a compressed body */
fuzz_target fuzz_npy;     /* a .npy file, as a dump */
fuzz_target fuzz_npz;     /* an .npz file, as a dump */
fuzz_target fuzz_receive; /* a trace on its way to a file, in pieces of the first byte's size */
fuzz_target fuzz_request; /* a request: the first byte chooses the route, the rest is the body */
fuzz_target fuzz_safetensors; /* a safetensors file */
fuzz_target fuzz_tokenizer;   /* tokenizer.json */
fuzz_target fuzz_tokens;      /* a file of bearer tokens */

static inline void fuzz_demand(int true, const char *what)
{
    if (true)
        return;
    fprintf(stderr, "not true: %s\n", what);
    abort();
}

/* What fails says why, what does not says nothing. */
static inline void fuzz_outcome(int failed, const struct error *err)
{
    fuzz_demand(!failed == !err->code, "an error exactly where it failed");
    fuzz_demand(!failed || (*err->text && err->code >= 400 && err->code <= 599),
                "a status and a text");
    fuzz_demand(!strchr(err->text, '\n'), "one line");
}

/* A folder of this process with the bytes as a file of that name in it. */
static inline const char *fuzz_folder(const char *name, const uint8_t *bytes, size_t size)
{
    static char folder[64], path[128];
    FILE *f;

    if (!*folder) {
        strcpy(folder, access("/dev/shm", W_OK) ? "/tmp/samebit-fuzz-XXXXXX"
                                                : "/dev/shm/samebit-fuzz-XXXXXX");
        fuzz_demand(mkdtemp(folder) != NULL, "a folder");
    }
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    f = fopen(path, "w");
    fuzz_demand(f && fwrite(bytes, 1, size, f) == size, "a file");
    fclose(f);
    return folder;
}

/* The folder of a small model, or NULL. */
static inline const char *fuzz_model(void)
{
    static char path[512];
    const char *folder = getenv("SAMEBIT_TINY");

    if (!folder)
        return NULL;
    snprintf(path, sizeof(path), "%s/tiny-qwen2", folder);
    return path;
}

#endif
