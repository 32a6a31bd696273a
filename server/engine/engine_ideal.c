/* engine_ideal.c - the model once more, in binary64, beside the one that is served: config, families,
 * tokenizer and checkpoint are the same, the backend and the programs its own. */
#include <pthread.h>
#include <stdlib.h>

#include "server/engine/engine.h"

/* Guards engine.ideal of whichever engine. */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

void engine_ideal_close(struct engine *ideal)
{
    if (!ideal)
        return;
    for (int a = 0; a < ATTENTION_COUNT; a++)
        program_close(ideal->program[a]);
    parameters_free(ideal->parameters);
    backend_close(ideal->backend);
    free(ideal);
}

static int open_parts(struct engine *x, struct error *err)
{
    x->backend = backend_open("cpu", &numerics_ideal, NULL, x->backend->threads, err);
    if (!x->backend)
        return -1;
    x->parameters = parameters_create(x->weights, x->backend, NULL, NULL, err);
    if (!x->parameters)
        return -1;
    for (int a = 0; a < ATTENTION_COUNT; a++) {
        x->program[a] = program_open(x->family[a], x->config, x->parameters, x->backend, err);
        if (!x->program[a])
            return -1;
    }
    return 0;
}

static struct engine *open_ideal(const struct engine *e, struct error *err)
{
    struct engine *x = calloc(1, sizeof(*x));

    if (!x) {
        error_set(err, 503, "out of memory");
        return NULL;
    }
    *x = *e;
    x->prefixes = NULL;
    x->ideal = NULL;
    x->parameters = NULL;
    for (int a = 0; a < ATTENTION_COUNT; a++)
        x->program[a] = NULL;
    if (open_parts(x, err)) {
        engine_ideal_close(x);
        return NULL;
    }
    return x;
}

struct engine *engine_ideal(struct engine *e, struct error *err)
{
    struct engine *x;

    pthread_mutex_lock(&opening);
    if (!e->ideal)
        e->ideal = open_ideal(e, err);
    x = e->ideal;
    pthread_mutex_unlock(&opening);
    return x;
}
