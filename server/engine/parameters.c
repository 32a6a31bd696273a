/* parameters.c - see parameters.h. */
#include "server/engine/parameters.h"

#include <stdlib.h>
#include <string.h>

struct parameter {
    struct parameter *next;
    struct weight weight;
    enum op op;
    char name[]; /* of the tensor */
};

enum { BUCKETS = 1024 };

struct parameters {
    struct weights *weights;
    struct backend *backend;
    progress_fn *progress;
    void *user;
    uint64_t done, all; /* bytes */
    struct parameter *bucket[BUCKETS];
};

struct parameters *parameters_create(struct weights *weights, struct backend *backend,
                                     progress_fn *progress, void *user, struct error *err)
{
    struct parameters *p = calloc(1, sizeof(*p));

    if (!p) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    p->weights = weights;
    p->backend = backend;
    p->progress = progress;
    p->user = user;
    p->all = weights_bytes(weights);
    return p;
}

void parameters_free(struct parameters *p)
{
    struct parameter *next;

    for (int i = 0; p && i < BUCKETS; i++)
        for (struct parameter *e = p->bucket[i]; e; e = next) {
            next = e->next;
            p->backend->weight_close(p->backend, &e->weight);
            free(e);
        }
    free(p);
}

static struct parameter **bucket_of(struct parameters *p, const char *name)
{
    uint32_t h = 2166136261u;

    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return &p->bucket[h % BUCKETS];
}

static int open_tensor(struct parameters *p, struct parameter *e, const struct tensor *plain,
                       struct error *err)
{
    if (p->backend->weight_open(p->backend, e->op, plain, &e->weight, err))
        return error_prefix(err, "%s: ", e->name);
    if (e->weight.packed || e->weight.plain.data != plain->data)
        weights_release(p->weights, plain);
    p->done += tensor_bytes(plain);
    if (p->progress)
        p->progress(p->user, "loading weights", p->done, p->all);
    return 0;
}

const struct weight *parameters_open(struct parameters *p, const char *name, enum op op,
                                     struct error *err)
{
    struct parameter **bucket = bucket_of(p, name), *e;
    const struct tensor *plain;

    for (e = *bucket; e; e = e->next)
        if (e->op == op && strcmp(e->name, name) == 0)
            return &e->weight;
    plain = weights_find(p->weights, name, err);
    if (!plain)
        return NULL;
    e = calloc(1, sizeof(*e) + strlen(name) + 1);
    if (!e) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    memcpy(e->name, name, strlen(name) + 1);
    e->op = op;
    if (open_tensor(p, e, plain, err)) {
        free(e);
        return NULL;
    }
    e->next = *bucket;
    *bucket = e;
    return &e->weight;
}
