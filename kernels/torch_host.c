/* torch_host.c - see torch_host.h. */
#include "kernels/torch_host.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 64 }; /* bytes of a cache line */

static const struct fact {
    const char *key;
    size_t offset;
    int64_t least, most;
    int sized; /* in bytes, with K or M */
} facts[] = {
    {"l1", offsetof(struct torch_host, l1), 16 << 10, 1 << 20, 1},
    {"l2", offsetof(struct torch_host, l2), 256 << 10, 64 << 20, 1},
    {"l2_ways", offsetof(struct torch_host, l2_ways), 1, 64, 0},
    {"amx_fp16", offsetof(struct torch_host, amx_fp16), 0, 1, 0},
};

enum { FACTS = sizeof(facts) / sizeof(facts[0]) };

static int64_t *field_of(struct torch_host *host, const struct fact *f)
{
    return (int64_t *)(void *)((char *)host + f->offset);
}

static const struct fact *fact_of(const char *text, size_t size)
{
    for (int i = 0; i < FACTS; i++)
        if (strlen(facts[i].key) == size && memcmp(facts[i].key, text, size) == 0)
            return &facts[i];
    return NULL;
}

/* "48K"; returns where it ends, or NULL for what is no number of that fact. */
static const char *read_number(const struct fact *f, const char *text, int64_t *out)
{
    char *end;
    int64_t n;

    if (*text < '0' || *text > '9')
        return NULL;
    n = strtoll(text, &end, 10);
    if (n > f->most)
        return NULL;
    if (f->sized && (*end == 'K' || *end == 'M'))
        n <<= *end++ == 'K' ? 10 : 20;
    *out = n;
    return (*end && *end != ',') || n < f->least || n > f->most ? NULL : end;
}

static int refuse(const char *text, const struct fact *f, struct error *err)
{
    if (!f)
        return error_param(err, 400, "torch-host",
                           "--torch-host '%.60s': l1=SIZE, l2=SIZE, l2_ways=N or amx_fp16=0|1 is "
                           "expected",
                           text);
    return error_param(err, 400, "torch-host",
                       "--torch-host '%.60s': %s is %" PRId64 " to %" PRId64 "%s", text, f->key,
                       f->least, f->most, f->sized ? " bytes, or so many K or M" : "");
}

static int read_facts(const char *text, struct torch_host *host, struct error *err)
{
    for (const char *at = text;; at++) {
        const size_t size = strcspn(at, "=,");
        const struct fact *f = at[size] == '=' ? fact_of(at, size) : NULL;

        if (!f)
            return refuse(at, NULL, err);
        at = read_number(f, at + size + 1, field_of(host, f));
        if (!at)
            return refuse(text, f, err);
        if (!*at)
            return 0;
    }
}

int torch_host_read(const char *text, struct torch_host *host, struct error *err)
{
    struct torch_host read = *host;

    if (read_facts(text, &read, err))
        return -1;
    if (read.l2 % (read.l2_ways * LINE))
        return error_param(err, 400, "torch-host",
                           "--torch-host '%.60s': an l2 of %" PRId64 " bytes has no %" PRId64
                           " ways of whole lines of %d",
                           text, read.l2, read.l2_ways, LINE);
    read.l2_sets = read.l2 / (read.l2_ways * LINE);
    *host = read;
    return 0;
}

static void print_size(int64_t bytes, char text[24])
{
    if (bytes % (1 << 20) == 0)
        snprintf(text, 24, "%" PRId64 "M", bytes >> 20);
    else if (bytes % (1 << 10) == 0)
        snprintf(text, 24, "%" PRId64 "K", bytes >> 10);
    else
        snprintf(text, 24, "%" PRId64, bytes);
}

void torch_host_print(const struct torch_host *host, char text[TORCH_HOST_TEXT])
{
    char l1[24], l2[24];

    print_size(host->l1, l1);
    print_size(host->l2, l2);
    snprintf(text, TORCH_HOST_TEXT, "l1=%s,l2=%s,l2_ways=%d,amx_fp16=%d", l1, l2,
             (int)host->l2_ways, (int)host->amx_fp16);
}

int torch_host_is_studied(const struct torch_host *host)
{
    const struct torch_host studied = torch_host_studied();

    return host->l1 == studied.l1 && host->l2 == studied.l2 && host->l2_ways == studied.l2_ways &&
           host->l2_sets == studied.l2_sets && host->amx_fp16 == studied.amx_fp16;
}
