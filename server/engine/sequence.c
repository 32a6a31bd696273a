/* sequence.c - see sequence.h. */
#include "server/engine/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/bf16.h"

/* Bytes of an element of a value. */
static size_t element(const struct program *p)
{
    return dtype_size(p->backend->numerics->activations);
}

/* Bytes from the beginning of a cache to that of the next one. */
static uint64_t cache_bytes(const struct program *p, int cache, int64_t capacity)
{
    const struct cache_spec *c = &p->caches[cache];

    const uint64_t unit = p->backend->alignment;

    return ((uint64_t)(c->heads * capacity * c->width) * element(p) + unit - 1) / unit * unit;
}

uint64_t sequence_cache_bytes(const struct sequence *s)
{
    const struct program *p = s->program;
    uint64_t all = 0;

    for (int i = 0; i < p->cache_count; i++)
        all += cache_bytes(p, i, s->capacity);
    return all;
}

void sequence_copy_caches(struct sequence *s, const char *from, int64_t capacity, int64_t tokens)
{
    const struct program *p = s->program;

    for (int i = 0; i < p->cache_count; i++) {
        const struct cache_spec *c = &p->caches[i];
        const size_t row = (size_t)c->width * element(p);

        for (int64_t h = 0; h < c->heads; h++)
            memcpy(s->cache[i] + (size_t)(h * s->capacity) * row,
                   from + (size_t)(h * capacity) * row, (size_t)tokens * row);
        from += cache_bytes(p, i, capacity);
    }
}

static int open_caches(struct sequence *s)
{
    const struct program *p = s->program;
    uint64_t all = 0;

    s->cache_memory = p->backend->alloc(p->backend, sequence_cache_bytes(s));
    if (!s->cache_memory)
        return -1;
    for (int i = 0; i < p->cache_count; i++) {
        s->cache[i] = s->cache_memory + all;
        all += cache_bytes(p, i, s->capacity);
    }
    return 0;
}

/* Takes memory for the tokens and the positions, and fills in the positions. */
static int open_ids(struct sequence *s, int64_t shift)
{
    struct backend *b = s->program->backend;
    const size_t bytes = (size_t)s->capacity * sizeof(int64_t);
    int64_t *count = malloc(bytes);
    struct tensor to, from;
    int rc;

    s->positions = b->alloc(b, bytes);
    s->tokens = b->alloc(b, bytes);
    for (int64_t i = 0; count && i < s->capacity; i++)
        count[i] = op_position(&(struct op_scope){.shift = shift}, i);
    to = tensor_make(DTYPE_I64, 1, &s->capacity, s->positions);
    from = tensor_make(DTYPE_I64, 1, &s->capacity, count);
    rc = count && s->positions && s->tokens ? b->copy(b, &to, &from) : -1;
    free(count);
    return rc;
}

int sequence_open(struct sequence *s, const struct program *p, const uint64_t *slot_bytes,
                  int64_t capacity, int64_t shift, struct error *err)
{
    struct backend *b = p->backend;
    uint64_t arena = 0;
    int ok;

    *s = (struct sequence){.program = p, .capacity = capacity};
    s->offset = calloc((size_t)p->slots + 1, sizeof(*s->offset));
    s->cache = calloc((size_t)p->cache_count + 1, sizeof(*s->cache));
    s->values = calloc((size_t)p->count + PROGRAM_INPUTS, sizeof(*s->values));
    ok = s->offset && s->cache && s->values;
    for (int i = 0; ok && i < p->slots; i++) {
        s->offset[i] = arena;
        arena += slot_bytes[i];
    }
    ok = ok && (s->arena = b->alloc(b, arena + 1));
    if (!ok || open_caches(s) || open_ids(s, shift)) {
        sequence_close(s);
        return error_set(err, 503, "no memory for a sequence of %lld tokens", (long long)capacity);
    }
    return 0;
}

void sequence_close(struct sequence *s)
{
    struct backend *b;

    if (!s->program)
        return;
    b = s->program->backend;
    b->free(b, s->cache_memory);
    b->free(b, s->arena);
    b->free(b, s->positions);
    b->free(b, s->tokens);
    free(s->offset);
    free(s->cache);
    free(s->values);
    memset(s, 0, sizeof(*s));
}

/* Makes value the view of the cache that a call sees: its last L positions, which are all of them
 * unless there is a sliding window. */
static void shape_cache(const struct sequence *s, const struct step *step, struct tensor *value,
                        const struct op_scope *scope)
{
    const int64_t first = scope->past + scope->tokens - value->shape[1];

    value->stride[0] = s->capacity * value->shape[2];
    value->data = s->cache[step->cache] + (size_t)(first * value->shape[2]) * element(s->program);
}

void sequence_shape(struct sequence *s, const struct op_scope *scope, int64_t rows_from)
{
    const struct program *p = s->program;
    /* then shapes that depend on T alone stay as they are */
    const int stays = scope->tokens == s->shaped && rows_from == s->shaped_from;

    s->shaped = scope->tokens;
    s->shaped_from = rows_from;
    s->values[PROGRAM_TOKENS] = tensor_make(DTYPE_I64, 1, &scope->tokens, s->tokens);
    s->values[PROGRAM_POSITIONS] =
        tensor_make(DTYPE_I64, 1, &scope->tokens, s->positions + scope->past);
    for (int i = 0; i < p->count; i++) {
        const struct step *step = &p->steps[i];
        struct tensor *value = &s->values[step->out];

        if (stays && !shape_has_keys(&step->shape))
            continue;
        *value = shape_resolve(&step->shape, scope, NULL);
        if (step->cache >= 0)
            shape_cache(s, step, value, scope);
        else
            value->data = s->arena + s->offset[step->slot];
        if (step->by_rows && value->shape[0] > PROGRAM_ROWS)
            value->shape[0] = PROGRAM_ROWS;
        if (step->tail)
            value->shape[0] -= rows_from;
    }
}

int sequence_feed(struct sequence *s, int64_t *tokens, struct error *err)
{
    struct backend *b = s->program->backend;
    const struct tensor *to = &s->values[PROGRAM_TOKENS];
    const struct tensor from = tensor_make(DTYPE_I64, 1, to->shape, tokens);

    return b->copy(b, to, &from) ? error_set(err, 500, "tokens did not reach %s", b->device) : 0;
}
