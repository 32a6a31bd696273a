/* sequence.h - the memory of one run: value slots and the key-value cache.  Sized once, from
 * the program and the most tokens it will hold; owned by the worker that runs it. */
#ifndef SAMEBIT_SEQUENCE_H
#define SAMEBIT_SEQUENCE_H

#include "kernels/base/bf16.h"
#include "server/engine/program.h"

struct sequence {
    const struct program *program;
    int64_t capacity;      /* positions the cache holds */
    char *arena;           /* the slots, one after the other */
    uint64_t *offset;      /* [slots] into arena */
    char *cache_memory;    /* of all caches */
    char **cache;          /* [cache_count], each [heads, capacity, width] of the activations */
    int64_t *positions;    /* op_position of 0 to capacity - 1, on the device */
    int64_t *tokens;       /* of this call, on the device: [capacity] */
    struct tensor *values; /* [PROGRAM_INPUTS + count] */
    int64_t shaped;        /* tokens of the call that values have the shapes of; 0: none yet */
    int64_t shaped_from;   /* and its rows_from */
};

/* slot_bytes: what each slot needs at most.  shift: of the calls' op_scope.  Errors: 503 when there is no memory. */
int sequence_open(struct sequence *s, const struct program *p, const uint64_t *slot_bytes,
                  int64_t capacity, int64_t shift, struct error *err);
void sequence_close(struct sequence *s); /* an all-zero one may be closed too */

uint64_t sequence_cache_bytes(const struct sequence *s);
/* Copies the first `tokens` positions of another sequence's caches, which had room for `capacity`,
 * in memory that the host can read. */
void sequence_copy_caches(struct sequence *s, const char *from, int64_t capacity, int64_t tokens);

/* Gives values their memory and the shapes of this call; rows_from: see struct model_call. */
void sequence_shape(struct sequence *s, const struct op_scope *scope, int64_t rows_from);
/* Copies the tokens of the call to the device; sequence_shape was called for it.  Errors: 500. */
int sequence_feed(struct sequence *s, int64_t *tokens, struct error *err);

#endif
