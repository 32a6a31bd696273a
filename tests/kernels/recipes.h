/* recipes.h - groups of operations for tests: what each reads, random values and weights for them, and
 * the values that they give one after the other. */
#ifndef SAMEBIT_TESTS_KERNELS_RECIPES_H
#define SAMEBIT_TESTS_KERNELS_RECIPES_H

#include "tests/kernels/op_cases.h"

enum { PARTS_MOST = 9, VALUES_MOST = 12, HEADS = 6, SHARED = 3, WIDTH = 16 };

/* One operation: what it reads of the values, inputs first, then each step's output. */
struct recipe_step {
    enum op op;
    int in[3]; /* -1: none */
    struct op_attrs attrs;
    struct tensor weight, bias; /* rank 0: none */
};

struct recipe {
    enum group group;
    int inputs, steps;
    int64_t width[VALUES_MOST]; /* of values that are [T, width]; 0: see shape_of_value */
    struct recipe_step step[GROUP_STEPS];
    enum fill fill;
    char label[128];
};

/* Calls of the model with their tokens and what is before them. */
struct calls {
    int parts;
    struct op_scope scope[PARTS_MOST];
};

/* ---- a recipe on a backend ---- */

/* Values of one part, in memory of their own; equal for equal seeds. */
struct values {
    struct tensor at[VALUES_MOST];
};

static inline struct tensor shape_of_value(const struct recipe *recipe, int value,
                                           const struct op_scope *scope)
{
    const enum op op = value < recipe->inputs ? OP_COUNT : recipe->step[value - recipe->inputs].op;
    const int64_t T = scope->tokens, width = recipe->width[value];

    if (op == OP_rope)
        return op_case_empty(3, (int64_t[]){width / WIDTH, T, WIDTH});
    if (op == OP_cache_append)
        return op_case_empty(3, (int64_t[]){width / WIDTH, scope->past + T, WIDTH});
    return op_case_empty(2, (int64_t[]){T, width});
}

static inline void take_values(const struct recipe *recipe, const struct op_scope *scope,
                               uint64_t seed, struct values *v)
{
    struct random r = {seed};

    for (int i = 0; i < recipe->inputs + recipe->steps; i++) {
        const struct tensor shape = shape_of_value(recipe, i, scope);

        v->at[i] = op_case_filled(&r, i < recipe->inputs ? recipe->fill : FILL_PLAIN, shape.rank,
                                  shape.shape);
    }
}

static inline void free_values(const struct recipe *recipe, struct values *v)
{
    for (int i = 0; i < recipe->inputs + recipe->steps; i++)
        free(v->at[i].data);
}

struct opened {
    struct weight weight[GROUP_STEPS], bias[GROUP_STEPS];
};

static inline void open_weights(struct backend *b, const struct recipe *recipe, struct opened *o)
{
    struct error err = {0};

    memset(o, 0, sizeof(*o));
    for (int s = 0; s < recipe->steps; s++) {
        const struct recipe_step *step = &recipe->step[s];

        if (step->weight.rank)
            assert_int_equal(
                b->weight_open(b, step->op, &step->weight, NULL, NULL, &o->weight[s], &err), 0);
        if (step->bias.rank)
            assert_int_equal(
                b->weight_open(b, step->op, &step->bias, NULL, NULL, &o->bias[s], &err), 0);
    }
}

static inline void close_weights(struct backend *b, const struct recipe *recipe, struct opened *o)
{
    for (int s = 0; s < recipe->steps; s++) {
        b->weight_close(b, &o->weight[s]);
        b->weight_close(b, &o->bias[s]);
    }
}

static inline struct op_call call_of(struct backend *b, const struct recipe *recipe, int s,
                                     const struct op_scope *scope, struct values *v,
                                     const struct opened *o)
{
    const struct recipe_step *step = &recipe->step[s];
    struct op_call call = {.backend = b,
                           .op = step->op,
                           .weight = step->weight.rank ? &o->weight[s] : NULL,
                           .bias = step->bias.rank ? &o->bias[s] : NULL,
                           .out = &v->at[recipe->inputs + s],
                           .attrs = &step->attrs,
                           .scope = *scope};

    for (int i = 0; i < 3; i++)
        call.in[i] = step->in[i] < 0 ? NULL : &v->at[step->in[i]];
    return call;
}

/* One after the other, each part alone. */
static inline void run_alone(struct backend *b, const struct recipe *recipe,
                             const struct calls *calls, struct values *v)
{
    struct opened o;

    open_weights(b, recipe, &o);
    for (int k = 0; k < calls->parts; k++)
        for (int s = 0; s < recipe->steps; s++) {
            const struct op_call call = call_of(b, recipe, s, &calls->scope[k], &v[k], &o);

            assert_int_equal(b->op[call.op](&call), 0);
        }
    close_weights(b, recipe, &o);
}

/* ---- recipes ---- */

static inline void add_linear(struct recipe *recipe, struct random *r, int from, int64_t N,
                              int bias)
{
    struct recipe_step *s = &recipe->step[recipe->steps];
    const int64_t K = recipe->width[from];

    *s = (struct recipe_step){.op = OP_linear, .in = {from, -1, -1}};
    s->weight = op_case_filled(r, recipe->fill, 2, (int64_t[]){N, K});
    if (bias)
        s->bias = op_case_filled(r, recipe->fill, 1, &N);
    recipe->width[recipe->inputs + recipe->steps++] = N;
}

static inline void add_op(struct recipe *recipe, enum op op, int64_t width, int a, int b, int c)
{
    recipe->step[recipe->steps] = (struct recipe_step){.op = op, .in = {a, b, c}};
    recipe->width[recipe->inputs + recipe->steps++] = width;
}

static inline void free_recipe(struct recipe *recipe)
{
    for (int s = 0; s < recipe->steps; s++) {
        free(recipe->step[s].weight.data);
        free(recipe->step[s].bias.data);
    }
}

#endif
