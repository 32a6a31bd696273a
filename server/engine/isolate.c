/* isolate.c - see isolate.h. */
#include "server/engine/isolate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/isolate_formula.h"
#include "server/engine/run_private.h"

/* By call and step. */
enum { COMPUTED = 1, GIVEN = 2 };

struct isolate {
    const struct run *run;
    uint64_t bytes;               /* that a formula may take */
    unsigned char *does;          /* [calls * steps] */
    char **formula;               /* [steps]: NULL where there is none */
    const struct run_put **given; /* [calls * steps] */
};

static size_t at(const struct isolate *x, int64_t call, int step)
{
    return (size_t)(call * x->run->program->count + step);
}

/* ---- what is computed ---- */

static int shown(const struct run *r, int64_t call, int step)
{
    const struct run_state *s = r->state;

    for (int64_t i = s->first_entry[call]; i < s->first_entry[call + 1]; i++)
        if (s->entry_step[i] == step)
            return 1;
    return 0;
}

/* A step is computed where it is shown, or read and not given.  wanted: [steps], of this call; a
 * cache that a later call reads is wanted in this one too. */
static void plan_call(struct isolate *x, int64_t call, char *wanted)
{
    const struct program *p = x->run->program;

    for (int i = p->count - 1; i >= 0; i--) {
        const struct step *s = &p->steps[i];
        const int show = shown(x->run, call, i), given = x->given[at(x, call, i)] != NULL;
        const int read = wanted[s->out];
        unsigned char *does = &x->does[at(x, call, i)];

        if (s->cache < 0)
            wanted[s->out] = 0;
        if (show || (read && !given))
            *does |= COMPUTED;
        if (read && given)
            *does |= GIVEN;
        for (int k = 0; k < s->inputs && *does & COMPUTED; k++)
            wanted[s->in[k]] = 1;
        if (s->cache >= 0 && *does & COMPUTED) /* it adds to what calls before have put there */
            wanted[s->out] = 1;
    }
}

static int plan(struct isolate *x, struct error *err)
{
    const struct run *r = x->run;
    char *wanted = calloc((size_t)r->program->count + PROGRAM_INPUTS, 1);

    if (!wanted)
        return error_set(err, 500, "out of memory");
    for (int64_t i = 0; i < r->state->put_count; i++)
        x->given[at(x, r->state->puts[i].call, r->state->puts[i].step)] = &r->state->puts[i];
    for (int64_t call = r->calls - 1; call >= 0; call--)
        plan_call(x, call, wanted);
    free(wanted);
    return 0;
}

static int take_formulas(struct isolate *x, const struct run_request *request, struct error *err)
{
    for (int64_t i = 0; i < request->formula_count; i++) {
        const struct run_formula *f = &request->formulas[i];
        const int step = program_find(x->run->program, f->name);
        char param[96];

        snprintf(param, sizeof(param), "formulas.%.80s", f->name);
        if (step < 0)
            return error_param(err, 400, param, "no value '%.100s'", f->name);
        if (x->run->program->backend->numerics->activations != DTYPE_F64)
            return error_param(err, 400, param, "formulas go with numerics ideal");
        free(x->formula[step]);
        x->formula[step] = strdup(f->text);
        if (!x->formula[step])
            return error_set(err, 500, "out of memory");
    }
    return 0;
}

struct isolate *isolate_create(const struct run *r, const struct run_request *request,
                               const struct run_limits *limits, struct error *err)
{
    struct isolate *x = calloc(1, sizeof(*x));
    const size_t all = (size_t)(r->calls * r->program->count);

    if (!x) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    x->run = r;
    x->bytes = limits->memory - r->memory;
    x->does = calloc(all, sizeof(*x->does));
    x->given = calloc(all, sizeof(*x->given));
    x->formula = calloc((size_t)r->program->count, sizeof(*x->formula));
    if (!x->does || !x->given || !x->formula)
        error_set(err, 500, "out of memory");
    else if (!plan(x, err) && !take_formulas(x, request, err))
        return x;
    isolate_free(x);
    return NULL;
}

void isolate_free(struct isolate *x)
{
    if (!x)
        return;
    for (int i = 0; x->formula && i < x->run->program->count; i++)
        free(x->formula[i]);
    free(x->formula);
    free(x->does);
    free(x->given);
    free(x);
}

uint64_t isolate_bytes(const struct isolate *x)
{
    return sizeof(*x) + (uint64_t)(x->run->calls * x->run->program->count) *
                            (sizeof(*x->does) + sizeof(*x->given));
}

void isolate_taps(const struct isolate *x, int64_t call, struct tap *taps)
{
    for (int i = 0; i < x->run->program->count; i++) {
        const unsigned does = x->does[at(x, call, i)];
        const struct tensor *value = does & GIVEN ? &x->given[at(x, call, i)]->value : NULL;

        taps[i].skip = !does;
        taps[i].own = does & COMPUTED && x->formula[i];
        taps[i].take = does & COMPUTED ? value : NULL;
        taps[i].replace = does & COMPUTED ? NULL : value;
    }
}

/* ---- formulas ---- */

enum { NUMBERS = 16 };

struct names {
    const struct isolate *x;
    const struct run_sink *sink;
    int64_t call;
    const struct step *step;
    const struct op_call *op;
    double number[NUMBERS]; /* what names stand for, while they are read */
    int count;
    double *positions;
    float inv_freq[ROPE_MOST_PAIRS]; /* of this call */
};

static int give_number(struct names *n, double d, struct tensor *out)
{
    n->number[n->count % NUMBERS] = d;
    *out = tensor_make(DTYPE_F64, 0, NULL, &n->number[n->count++ % NUMBERS]);
    return 0;
}

static int give_positions(struct names *n, struct tensor *out)
{
    const struct op_scope *s = &n->op->scope;

    if (!n->positions)
        n->positions = malloc((size_t)s->tokens * sizeof(*n->positions));
    for (int64_t t = 0; n->positions && t < s->tokens; t++)
        n->positions[t] = (double)op_position(s, t);
    *out = tensor_make(DTYPE_F64, 1, &s->tokens, n->positions);
    return n->positions ? 0 : -1;
}

/* The rows that a cache holds before the step adds its own. */
static int give_before(const struct names *n, struct tensor *out)
{
    if (n->step->cache < 0 || n->op->out->dtype != DTYPE_F64)
        return -1;
    *out = *n->op->out;
    out->shape[1] -= n->op->scope.tokens;
    return out->shape[1] > 0 ? 0 : -1;
}

/* The rows that a cache is given, in its own shape: [T, n D] as [n, T, D]. */
static int give_new(const struct names *n, struct tensor *out)
{
    const struct tensor *x = n->op->in[0], *all = n->op->out;

    if (n->step->cache < 0 || x->dtype != DTYPE_F64)
        return -1;
    *out = *x;
    if (x->rank == 2) {
        *out = tensor_make(DTYPE_F64, 3,
                           (const int64_t[]){all->shape[0], x->shape[0], all->shape[2]}, x->data);
        out->stride[0] = all->shape[2];
        out->stride[1] = x->stride[0];
    }
    return 0;
}

/* What the operation itself is given. */
static int of_the_op(struct names *n, const char *name, struct tensor *out)
{
    static const char *const inputs[] = {"x", "y", "z"};
    const struct op_call *op = n->op;
    const struct op_attrs *a = op->attrs;
    struct rope_config rope;
    int64_t count;
    const struct {
        const char *name;
        double value;
    } some[] = {/* where there is none, a formula that has the name does not fit */
                {"window", (double)a->window},
                {"padding", (double)op->scope.padding},
                {"kept", (double)(n->step->cache < 0 ? 0 : op->out->shape[1] - op->scope.tokens)}};
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"eps", a->eps},
        {"by", a->by},
        {"D", (double)(2 * a->inv_freq_count)},
        {"T", (double)op->scope.tokens},
        {"past", (double)op->scope.past},
        {"n", (double)op->out->shape[0]}, /* of heads */
    };
    const struct {
        const char *name, *key;
    } counts[] = {
        {"H", "num_attention_heads"}, {"G", "num_key_value_heads"}, {"N", "num_hidden_layers"}};

    for (int k = 0; k < n->step->inputs; k++)
        if (strcmp(name, inputs[k]) == 0 && op->in[k]->dtype == DTYPE_F64) {
            *out = *op->in[k];
            return 0;
        }
    if (strcmp(name, "w") == 0 && op->weight)
        return *out = op->weight->plain, 0;
    if (strcmp(name, "b") == 0 && op->bias)
        return *out = op->bias->plain, 0;
    if (strcmp(name, "positions") == 0)
        return give_positions(n, out);
    if (strcmp(name, "before") == 0)
        return give_before(n, out);
    if (strcmp(name, "new") == 0)
        return give_new(n, out);
    if (strcmp(name, "inv_freq") == 0) {
        *out = tensor_make(DTYPE_F32, 1, &a->inv_freq_count,
                           (float *)(uintptr_t)rotary_of_call(op, n->inv_freq));
        return 0;
    }
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        if (strcmp(name, some[i].name) == 0)
            return some[i].value > 0 ? give_number(n, some[i].value, out) : -1;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (strcmp(name, numbers[i].name) == 0)
            return give_number(n, numbers[i].value, out);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        if (strcmp(name, counts[i].name) == 0 &&
            hf_config_count(n->x->run->engine->config, counts[i].key, &count, NULL) == 0)
            return give_number(n, (double)count, out);
    return strcmp(name, "theta") == 0 && hf_config_rope(n->x->run->engine->config, &rope, NULL) == 0
               ? give_number(n, rope.theta, out)
               : -1;
}

/* The step of that path, or of that row in this layer, or with "next." or "previous." in another. */
static int step_named(const struct names *n, const char *name)
{
    const struct program *p = n->x->run->program;
    int layer = n->step->layer;

    if (strncmp(name, "next.", 5) == 0 && layer >= 0) {
        layer++;
        name += 5;
    } else if (strncmp(name, "previous.", 9) == 0 && layer >= 0) {
        layer--;
        name += 9;
    }
    for (int i = 0; i < p->count; i++)
        if ((p->steps[i].layer == layer && strcmp(p->steps[i].row->name, name) == 0) ||
            strcmp(p->steps[i].name, name) == 0)
            return i;
    return -1;
}

/* "next.w": the weight of the same row in the next layer; "previous.b" */
static int of_a_neighbour(const struct names *n, const char *name, struct tensor *out)
{
    const char *dot = strrchr(name, '.');
    const struct weight *weight;
    char path[160];
    int i;

    if (!dot || dot == name || strchr(name, '.') != dot ||
        (strcmp(dot, ".w") != 0 && strcmp(dot, ".b") != 0))
        return -1;
    snprintf(path, sizeof(path), "%.*s.%s", (int)(dot - name), name, n->step->row->name);
    i = n->step->layer < 0 ? -1 : step_named(n, path);
    weight = i < 0 ? NULL : n->x->run->program->steps[i].weights[dot[1] == 'b'];
    if (!weight)
        return -1;
    *out = weight->plain;
    return 0;
}

/* "self_attn.k_proj.weight" */
static int of_a_weight(const struct names *n, const char *name, struct tensor *out)
{
    const char *dot = strrchr(name, '.');
    char row[160];
    const struct weight_spec *spec;
    const struct step *s;
    int i;

    if (!dot)
        return -1;
    snprintf(row, sizeof(row), "%.*s", (int)(dot - name), name);
    i = step_named(n, row);
    if (i < 0)
        return -1;
    s = &n->x->run->program->steps[i];
    for (int k = 0; (spec = op_weight(s->op, k)); k++)
        if (strcmp(spec->suffix, dot + 1) == 0 && s->weights[k]) {
            *out = s->weights[k]->plain;
            return 0;
        }
    return -1;
}

static int lookup(void *user, const char *name, struct tensor *out, struct error *err)
{
    struct names *n = user;
    int i;

    (void)err;
    if (of_the_op(n, name, out) == 0 || of_a_neighbour(n, name, out) == 0 ||
        of_a_weight(n, name, out) == 0)
        return 0;
    i = step_named(n, name);
    if (i < 0 || !n->x->given[at(n->x, n->call, i)])
        return -1;
    *out = n->x->given[at(n->x, n->call, i)]->value;
    return 0;
}

static int poll_sink(void *user, struct error *err)
{
    const struct run_sink *sink = ((struct names *)user)->sink;

    return sink->poll ? sink->poll(sink->user, err) : 0;
}

int isolate_compute(const struct isolate *x, const struct run_sink *sink, int64_t call, int step,
                    const struct op_call *op, struct error *err)
{
    struct names n = {
        .x = x, .sink = sink, .call = call, .step = &x->run->program->steps[step], .op = op};
    const struct formula_means means = {
        .lookup = lookup, .poll = poll_sink, .user = &n, .bytes = x->bytes};
    const char *text = x->formula[step];
    struct tensor own = *op->out;
    int rc = -1;

    if (n.step->cache >= 0 && op->scope.past == 0 && strstr(text, "before"))
        text = "new"; /* the first call has nothing before it */
    if (n.step->cache >= 0 && own.shape[1] > op->scope.tokens) {
        own.data = (double *)own.data + (own.shape[1] - op->scope.tokens) * own.stride[1];
        own.shape[1] = op->scope.tokens;
        rc = formula_eval(text, &means, &own, NULL);
    }
    if (rc)
        rc = formula_eval(text, &means, op->out, err);
    free(n.positions);
    if (rc && err->code == 400)
        snprintf(err->param, sizeof(err->param), "formulas.%.80s", n.step->name);
    return rc ? error_prefix(err, "%s: ", n.step->name) : 0;
}
