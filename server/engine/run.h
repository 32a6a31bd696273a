/* run.h - one request's run: prefill and n greedy cached decode steps, with values taken out of
 * it and put into it.
 *
 * run_create resolves every name and knows the name, dtype, shape and size of all that will come
 * out, in order, before anything runs.  An execution (execution.h) then computes the values and hands
 * them to a sink.  A run has one owner. */
#ifndef SAMEBIT_RUN_H
#define SAMEBIT_RUN_H

#include "server/engine/engine.h"

/* Most names and replacements of one run: 400. */
enum { RUN_NAMES = 1024, RUN_REPLACEMENTS = 1024 };

enum run_positions { POSITIONS_ALL, POSITIONS_LAST, POSITIONS_LIST };

/* A value given by the caller.  name: path or alias for the prefill, "step_2/<path>" for a decode
 * step, "chunk_1/<path>" for a chunk.  value: contiguous host memory (BF16; F16, F32 and F64 are rounded
 * to BF16), shape as the trace would give it.  Borrowed for the life of the run. */
struct run_replace {
    const char *name;
    struct tensor value;
};

/* An expression (isolate_formula.h) for what a step computes.  name: path or alias, of every call. */
struct run_formula {
    const char *name, *text;
};

struct run_request {
    enum attention attention;
    const int64_t *tokens; /* the prompt; borrowed for run_create only */
    int64_t token_count;
    int64_t padding;   /* so many of the first tokens are left padding: no token attends to them */
    int ids_from_mask; /* positions are counted from the first token that is no padding, as
                          generate() passes position_ids, and are 0 before it; else from the first
                          token, as model(input_ids, attention_mask) has them */
    int64_t batch;     /* rows of the batch that this is one of in PyTorch, 0 as 1: sums of products
                        are taken in the order that so many rows have */
    int64_t torch_threads; /* torch.get_num_threads() of the machine whose bits are wanted, 0: the
                              engine's; 400 where the numerics depend on none */
    const int64_t
        *chunks; /* lengths of the calls that the prompt is fed in; they sum to token_count */
    int64_t chunk_count; /* 0: the whole prompt in one call */
    int64_t steps;       /* decode steps after the prefill */
    /* Paths, aliases, globs (kernels/base/glob.h; `*` also crosses dots).  "step_2/<name>" asks for one decode
     * step, "step_<glob>/<name>" for several, "chunk_1/<name>" for a call of a prompt in chunks;
     * without it every call is meant. */
    const char *const *values;
    int64_t value_count;
    /* Rows along the token axis: of every call the last, or a list, which is the prefill's and
     * needs it in one call (a decode step has one row). */
    enum run_positions which;
    const int64_t *positions; /* ascending, unique, < token_count */
    int64_t position_count;
    const struct run_replace *replace;
    int64_t replace_count;
    /* 1: the values of `replace` are another program's: each is taken after its own step has been
     * computed and shown (isolate.h).  The last `steps` tokens are those that the other program's
     * decode steps were fed. */
    int isolate;
    const struct run_formula *formulas; /* with isolate, under numerics "ideal" */
    int64_t formula_count;
};

struct run_limits {
    int64_t tokens;  /* token_count + steps */
    int64_t values;  /* that come out, of all calls */
    uint64_t memory; /* bytes of arena and cache */
};

enum { RUN_PREFIX = 32 };

/* One value that comes out.  A request may name hundreds of thousands of them with a few bytes, so a
 * run keeps four bytes of each and makes this when it is asked. */
struct run_entry {
    char prefix[RUN_PREFIX]; /* of its call: "step_1/", "chunk_2/", "" */
    const char *path;        /* "model.layers.0.mlp.down_proj" */
    int call; /* calls of the model, in order: the prompt's, then a decode step each */
    int step; /* in program.steps */
    enum dtype dtype;
    int rank;
    int64_t shape[TENSOR_MAX_RANK]; /* of the rows that were asked for */
    uint64_t bytes;
};

/* A name as it was asked for, and a path it stands for (aliases only). */
struct run_alias {
    char *alias;
    const char *path;
};

struct run {
    struct engine *engine;
    const struct program *program; /* of the request's attention */
    int64_t token_count, steps;
    int64_t torch_threads;       /* the request's, or 0 */
    int64_t prompt_calls, calls; /* calls of the model: the prompt's (1, or its chunks); all */
    int64_t *tokens;     /* [token_count + steps]: prompt, then the tokens fed by the steps */
    int64_t next;        /* once it is complete: the greedy token after the last one fed */
    int64_t entry_count; /* values that come out */
    struct run_alias *aliases;
    int64_t alias_count;
    uint64_t memory; /* bytes that running takes, whatever is asked for */
    /* Chooses the next token; NULL: the greatest logit.  Set before the run starts; borrowed. */
    struct logits_processor *processor;
    uint64_t held;           /* bytes of this struct and all that it points to */
    struct run_state *state; /* private */
};

/* Errors: 400 with param "tokens", "values[3]", "positions[0]", "replace.NAME"; 413 over a limit.
 */
struct run *run_create(struct engine *e, const struct run_request *request,
                       const struct run_limits *limits, struct error *err);
void run_free(struct run *r);

/* Values come out in this order; entry: 0..entry_count - 1. */
struct run_entry run_entry(const struct run *r, int64_t entry);
/* "step_1/model.layers.0.mlp.down_proj"; the caller frees.  NULL: no memory. */
char *run_entry_name(const struct run *r, int64_t entry);

struct run_sink {
    /* The next bytes of the value run_entry(run, entry); values come in order.  Not 0 ends the run. */
    int (*write)(void *user, int64_t entry, const void *data, size_t bytes, struct error *err);
    /* The greedy choice after call `call` (0 = prefill), i.e. the token that step call+1 is fed.
     * May be NULL.  Returning 1 ends the run early without an error. */
    int (*token)(void *user, int64_t step, int64_t id, struct error *err);
    /* Called before every step of the program; not 0 ends the run (deadline passed, reader gone).
     * May be NULL. */
    int (*poll)(void *user, struct error *err);
    /* Returns whether the sink can take the values of one more call of the model now.  Called between
     * two calls; a run whose sink is not ready waits.  May be NULL: always. */
    int (*ready)(void *user);
    void *user;
};
/* Returns the most bytes of values that one call of the model gives. */
uint64_t run_call_bytes(const struct run *r);

#endif
