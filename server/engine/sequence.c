/* sequence.c - see sequence.h. */
#include "server/engine/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/bf16.h"

int sequence_open(struct sequence *s, const struct program *p, const uint64_t *slot_bytes,
                  int64_t capacity, struct error *err)
{
    struct backend *b = p->backend;
    uint64_t arena = 0;
    int ok;

    *s = (struct sequence){.program = p, .capacity = capacity};
    s->offset = calloc((size_t)p->slots + 1, sizeof(*s->offset));
    s->cache = calloc((size_t)p->cache_count + 1, sizeof(*s->cache));
    s->positions = calloc((size_t)capacity, sizeof(*s->positions));
    s->values = calloc((size_t)p->count + PROGRAM_INPUTS, sizeof(*s->values));
    ok = s->offset && s->cache && s->positions && s->values;
    for (int i = 0; ok && i < p->slots; i++) {
        s->offset[i] = arena;
        arena += slot_bytes[i];
    }
    ok = ok && (s->arena = b->alloc(b, arena + 1));
    for (int i = 0; ok && i < p->cache_count; i++)
        ok = (s->cache[i] =
                  b->alloc(b, (size_t)(p->caches[i].heads * capacity * p->caches[i].width) *
                                  sizeof(bf16))) != NULL;
    if (!ok) {
        sequence_close(s);
        return error_set(err, 503, "no memory for a sequence of %lld tokens", (long long)capacity);
    }
    for (int64_t i = 0; i < capacity; i++)
        s->positions[i] = i;
    return 0;
}

void sequence_close(struct sequence *s)
{
    struct backend *b = s->program->backend;

    for (int i = 0; s->cache && i < s->program->cache_count; i++)
        b->free(b, s->cache[i]);
    b->free(b, s->arena);
    free(s->offset);
    free(s->cache);
    free(s->positions);
    free(s->values);
    memset(s, 0, sizeof(*s));
}

/* The last L positions of a cache: what a window leaves, or everything. */
static void shape_cache(const struct sequence *s, const struct step *step, struct tensor *value,
                        const struct op_scope *scope)
{
    const int64_t first = scope->past + scope->tokens - value->shape[1];

    value->stride[0] = s->capacity * value->shape[2];
    value->data = s->cache[step->cache] + first * value->shape[2];
}

void sequence_shape(struct sequence *s, const struct op_scope *scope, int64_t *tokens)
{
    const struct program *p = s->program;

    s->values[PROGRAM_TOKENS] = tensor_make(DTYPE_I64, 1, &scope->tokens, tokens);
    s->values[PROGRAM_POSITIONS] =
        tensor_make(DTYPE_I64, 1, &scope->tokens, s->positions + scope->past);
    for (int i = 0; i < p->count; i++) {
        const struct step *step = &p->steps[i];
        struct tensor *value = &s->values[step->out];

        *value = shape_resolve(&step->shape, scope, NULL);
        if (step->cache >= 0)
            shape_cache(s, step, value, scope);
        else
            value->data = s->arena + s->offset[step->slot];
        if (step->by_rows && value->shape[0] > PROGRAM_ROWS)
            value->shape[0] = PROGRAM_ROWS;
    }
}
