/* parameters.c - see parameters.h. */
#include "server/engine/parameters.h"

#include <stdlib.h>
#include <string.h>

struct parameter {
    struct parameter *next;
    struct weight weight;
    uint64_t ops; /* that it has been opened for: bits */
    char name[];  /* of the tensor */
};

enum { BUCKETS = 1024 };

_Static_assert(OP_COUNT <= 64, "an op is a bit of struct parameter");

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

static struct parameter *entry_find(struct parameters *p, const char *name)
{
    struct parameter *e = *bucket_of(p, name);

    while (e && strcmp(e->name, name) != 0)
        e = e->next;
    return e;
}

static struct parameter *entry_add(struct parameters *p, const char *name, struct error *err)
{
    struct parameter **bucket = bucket_of(p, name);
    struct parameter *e = calloc(1, sizeof(*e) + strlen(name) + 1);

    if (!e) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    memcpy(e->name, name, strlen(name) + 1);
    e->next = *bucket;
    *bucket = e;
    return e;
}

static void on_passed(void *user, const void *data, size_t bytes)
{
    struct parameters *p = user;

    weights_passed(p->weights, data, bytes);
}

static int open_tensor(struct parameters *p, struct parameter *e, enum op op,
                       const struct tensor *plain, struct error *err)
{
    if (p->backend->weight_open(p->backend, op, plain, on_passed, p, &e->weight, err))
        return error_prefix(err, "%s: ", e->name);
    if (!e->ops)
        p->done += tensor_bytes(plain);
    e->ops |= UINT64_C(1) << op;
    if (e->weight.plain.data != plain->data)
        weights_release(p->weights, plain);
    if (p->progress)
        p->progress(p->user, "loading weights", p->done, p->all);
    return 0;
}

const struct weight *parameters_open(struct parameters *p, const char *name, enum op op,
                                     struct error *err)
{
    struct parameter *e = entry_find(p, name);
    const struct tensor *plain;

    if (e && e->ops >> op & 1)
        return &e->weight;
    plain = weights_find(p->weights, name, err);
    if (!plain)
        return NULL;
    if (!e)
        e = entry_add(p, name, err);
    return e && !open_tensor(p, e, op, plain, err) ? &e->weight : NULL;
}
