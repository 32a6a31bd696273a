/* program.h - a model as a flat list of named steps, and the loop that runs it.
 *
 * A program is built once, when a model is opened, from a family file and config.json.  It is
 * read-only afterwards: any number of sequences and traces run the same one at once. */
#ifndef SAMEBIT_PROGRAM_H
#define SAMEBIT_PROGRAM_H

#include "kernels/backend.h"
#include "kernels/shape.h"
#include "kernels/base/buffer.h"
#include "server/engine/parameters.h"
#include "server/model/family.h"

enum { PROGRAM_TOKENS, PROGRAM_POSITIONS, PROGRAM_INPUTS }; /* the first value slots */

struct step {
    char *name; /* "model.layers.3.self_attn.q_proj": also names the weight */
    enum op op;
    int in[OP_INPUTS]; /* steps are single-assignment: value i of the program; -1 when unused */
    int inputs;
    int out;     /* the value it makes: PROGRAM_INPUTS + its own index */
    int layer;   /* -1 outside the layers */
    int cache;   /* cache_append: which cache tensor; else -1 */
    int slot;    /* where in the arena the value lives; -1: in the cache */
    int by_rows; /* may be run a few rows of T at a time: nothing but the sampler reads it */
    int tail; /* nothing but what is by_rows or tail reads it, row by row: see model_call.rows_from */
    /* The steps from this one on that the backend can do as one; 0 of them: it is inside such. */
    enum group group;
    int grouped;
    struct op_attrs attrs;
    const struct weight
        *weights[OP_WEIGHTS];     /* as op_call has them; borrowed from the parameters */
    const struct weight *soon[2]; /* as op_call has it */
    struct shape shape;
    const struct family_row *row;
};

enum { PROGRAM_ROPES = ROTARY_SLIDING + 1 };

/* Key and value tensors of a sequence, [G, capacity, D] each. */
struct cache_spec {
    int64_t heads, width, window;
};

struct program {
    struct backend *backend;
    const struct family *family;
    struct step *steps;
    int count;
    int logits; /* the last step */
    int slots;
    struct cache_spec *caches;
    int cache_count;
    /* private: what close frees */
    struct program_rope {
        struct rope_config config;
        float *inv_freq;   /* [inv_freq_count], of calls up to rotary_same_up_to(); NULL: unused */
    } rope[PROGRAM_ROPES]; /* by enum rotary_layers */
    int64_t inv_freq_count;
};

/* Flattens the family over the layers, binds the parameters and infers every shape.  Errors name
 * file, row and key. */
struct program *program_open(const struct family *family, const struct hf_config *config,
                             struct parameters *parameters, struct backend *backend,
                             struct error *err);
void program_close(struct program *p);

/* The step of that name: a full path, or an alias (layer_3.attn_output, attn_output, logits,
 * model.layers.3.mlp).  -1 when there is none. */
int program_find(const struct program *p, const char *name);
/* Calls visit with each alias of a step ("layer_0.attn_output", then "attn_output"); stops where it
 * returns something other than 0, and returns that.  -1: no memory. */
typedef int alias_fn(void *user, const char *alias);
int program_aliases(const struct program *p, int step, alias_fn *visit, void *user);
/* The nearest names to one that was not found, for an error: "a, b, c". */
void program_nearest(const struct program *p, const char *name, char *out, size_t size);

/* ---- running ---- */

/* What one request wants at one step, in the order in which it happens. */
struct tap {
    int skip;                     /* nothing reads the value: leave it out, and the rest below */
    const struct tensor *replace; /* use this instead of computing */
    int own;                      /* trace.compute computes it */
    int observe;                  /* hand the value to trace.emit */
    const struct tensor *take;    /* then go on with this in its place */
};

struct trace {
    struct tap *at; /* one per step */
    /* rows [first, first + count) of the step's T axis, or all of it (first 0) where the step is
     * not by_rows.  Not 0 ends the run; err may be set to say why. */
    int (*emit)(void *user, int step, int64_t first, const struct tensor *value, struct error *err);
    /* Computes a step with `own`; not 0 ends the run, err says why. */
    int (*compute)(void *user, int step, const struct op_call *call, struct error *err);
    /* Asked before every step, or steps that are done as one; not 0 ends the run. */
    int (*poll)(void *user, struct error *err);
    void *user;
    int64_t rows_from; /* first row that anyone reads of steps that are by_rows */
};

enum { PROGRAM_ROWS = 16 }; /* rows at a time of a by_rows step */

/* Takes what the backend needs of its own for such a call.  values: shaped for it.  Errors: 503. */
int program_prepare(const struct program *p, const struct op_scope *scope, struct tensor *values,
                    struct error *err);

/* One call of the model (a forward pass over `scope.tokens` tokens), among those that run together. */
struct model_call {
    struct op_scope scope;
    struct tensor *values; /* [PROGRAM_INPUTS + count], shaped for this call */
    const struct trace *trace;
    /* Values of tail steps hold rows [rows_from, T) alone: those that someone reads the logits of.
     * 0 where the trace observes or replaces one of them. */
    int64_t rows_from;
    /* Why the call is over before the last step: its trace ended it, or the backend failed.  Its
     * values may still be computed with those of the others, but its trace is not called again. */
    struct error error;
};

/* Calls that run together, 1..GROUP_PARTS of them, and the loop's scratch; all zero at first.  Each
 * gets the bits that it would get alone. */
struct call_set {
    struct model_call *at[GROUP_PARTS];
    int count;
    /* private */
    struct op_call op_call[GROUP_STEPS * GROUP_PARTS];
    struct call_rows {
        struct tensor in[2], out;
    } rows[GROUP_STEPS * GROUP_PARTS]; /* of each op_call, where it is of some rows */
};

/* Returns whether more than one call can run together on this program's backend. */
int program_joins(const struct program *p);
/* Runs steps [first, last).  Returns early when all calls are over. */
void program_run(const struct program *p, int first, int last, struct call_set *set);

#endif
