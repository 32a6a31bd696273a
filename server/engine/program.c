/* program.c - builds a program from a family and a checkpoint.  It runs in program_run.c; names and
 * aliases are in program_names.c. */
#include "server/engine/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/fuse.h"

/* ---- building ---- */

struct builder {
    struct program *p;
    const struct family *family;
    const struct hf_config *config;
    struct parameters *parameters;
    struct error *err; /* never NULL */
    int64_t layers;
    int x;       /* the value that `x` stands for now */
    int *local;  /* by row of the current section: its value */
    int *before; /* by row of "before": its value */
};

static int fail(struct builder *b, const struct family_row *row, const char *what)
{
    static const char *const sections[] = {"before", "layer", "after"};

    if (!b->err->code)
        error_set(b->err, 400, "%s", what);
    return error_prefix(b->err, "%s: %s row %d (%s): ", b->family->path, sections[row->section],
                        row->index + 1, row->name);
}

static const struct family_row *row_named(const struct family *f, enum family_section section,
                                          const char *name, int end)
{
    for (int i = 0; i < end; i++)
        if (strcmp(f->rows[section][i].name, name) == 0)
            return &f->rows[section][i];
    return NULL;
}

static int input_value(const struct builder *b, const struct family_row *row, const char *input,
                       int layer)
{
    char room[160];
    const char *name =
        family_input_of(input, hf_config_layer_type(b->config, layer), room, sizeof(room));
    const struct family_row *r;

    if (!name)
        return -1;
    r = row_named(b->family, row->section, name, row->index);
    if (r)
        return b->local[r->index];
    if (strcmp(name, "x") == 0)
        return b->x;
    if (strcmp(name, "tokens") == 0)
        return PROGRAM_TOKENS;
    if (strcmp(name, "positions") == 0)
        return PROGRAM_POSITIONS;
    r = row_named(b->family, FAMILY_BEFORE, name, b->family->count[FAMILY_BEFORE]);
    return r ? b->before[r->index] : -1;
}

static char *step_name(const struct builder *b, const struct family_row *row, int layer)
{
    char *name = NULL;
    int n;

    if (layer < 0)
        return strdup(row->name);
    if (strcmp(row->name, "x") == 0)
        n = asprintf(&name, "%s.%d", b->family->layers, layer);
    else
        n = asprintf(&name, "%s.%d.%s", b->family->layers, layer, row->name);
    return n < 0 ? NULL : name;
}

static const struct shape *value_shape(const struct program *p, int value)
{
    static const struct shape ids = {DTYPE_I64, 1, {{EXTENT_TOKENS, 0}}};

    return value < PROGRAM_INPUTS ? &ids : &p->steps[value - PROGRAM_INPUTS].shape;
}

/* The first row of that op, or NULL. */
static const struct family_row *row_of_op(const struct family *f, enum family_section section,
                                          enum op op)
{
    for (int i = 0; i < f->count[section]; i++)
        if (f->rows[section][i].op == op)
            return &f->rows[section][i];
    return NULL;
}

/* The head of a model whose word embeddings are tied has no weight of its own. */
static int is_tied_head(const struct builder *b, const struct family_row *row)
{
    return row && row == row_of_op(b->family, FAMILY_AFTER, OP_linear) &&
           row_of_op(b->family, FAMILY_BEFORE, OP_embedding) &&
           hf_config_bool(b->config, "tie_word_embeddings", 0);
}

/* The word embeddings of a model whose head is tied to them may be saved under the head's name
 * alone; transformers takes them from there. */
static int is_tied_embedding(const struct builder *b, const struct family_row *row)
{
    return row == row_of_op(b->family, FAMILY_BEFORE, OP_embedding) &&
           is_tied_head(b, row_of_op(b->family, FAMILY_AFTER, OP_linear));
}

static const struct weight *open_weight(struct builder *b, const struct step *s, const char *suffix)
{
    const struct weight *w;
    char name[256];

    snprintf(name, sizeof(name), "%s.%s", s->name, suffix);
    w = parameters_open(b->parameters, name, s->op, b->err);
    if (!w && !b->err->code && is_tied_head(b, s->row)) {
        snprintf(name, sizeof(name), "%s.%s",
                 row_of_op(b->family, FAMILY_BEFORE, OP_embedding)->name, suffix);
        w = parameters_open(b->parameters, name, s->op, b->err);
    }
    if (!w && !b->err->code && is_tied_embedding(b, s->row)) {
        snprintf(name, sizeof(name), "%s.%s", row_of_op(b->family, FAMILY_AFTER, OP_linear)->name,
                 suffix);
        w = parameters_open(b->parameters, name, s->op, b->err);
    }
    if (!w && b->err->code)
        error_prefix(b->err, "%s: ", hf_config_folder(b->config));
    else if (!w)
        error_set(b->err, 400, "%s: no tensor '%s' in the checkpoint", hf_config_folder(b->config),
                  name);
    return w;
}

static int expect(struct builder *b, const struct step *s, const char *what, int64_t is,
                  int64_t wanted)
{
    if (wanted == 0 || is == wanted)
        return 0;
    return error_set(b->err, 400, "%s: %s %s %lld, config.json says %lld",
                     hf_config_folder(b->config), s->name, what, (long long)is, (long long)wanted);
}

static int check_weight(struct builder *b, const struct step *s, const struct weight_spec *spec,
                        const struct tensor *w)
{
    static const char *const axes[] = {"rows", "columns"};
    char text[64], what[64];

    if (w->rank != spec->axes)
        return error_set(b->err, 400, "%s: %s.%s is %s, expected %d %s",
                         hf_config_folder(b->config), s->name, spec->suffix,
                         tensor_shape_text(w, text, sizeof(text)), spec->axes,
                         spec->axes == 1 ? "axis" : "axes");
    for (int i = 0; i < spec->axes && i < 2; i++) {
        snprintf(what, sizeof(what), ".%s: %s are", spec->suffix, axes[i]);
        if (expect(b, s, what, w->shape[i], weight_extent(spec, &s->attrs, i)))
            return -1;
    }
    return 0;
}

static int bind_weights(struct builder *b, struct step *s)
{
    const struct weight_spec *spec;

    for (int i = 0; (spec = op_weight(s->op, i)); i++) {
        if (spec->if_bias && !s->attrs.bias)
            continue;
        s->weights[i] = open_weight(b, s, spec->suffix);
        if (!s->weights[i] || check_weight(b, s, spec, &s->weights[i]->plain))
            return -1;
    }
    return 0;
}

static int infer_shape(struct builder *b, struct step *s)
{
    const struct shape *in[OP_INPUTS] = {NULL};
    const struct tensor *weights[OP_WEIGHTS] = {NULL};

    for (int k = 0; k < s->inputs; k++)
        in[k] = value_shape(b->p, s->in[k]);
    for (int i = 0; i < OP_WEIGHTS; i++)
        weights[i] = s->weights[i] ? &s->weights[i]->plain : NULL;
    if (shape_of(s->op, &s->attrs, in, weights, &s->shape, b->err)) {
        error_prefix(b->err, "%s: %s: ", hf_config_folder(b->config), s->name);
        return fail(b, s->row, "");
    }
    if (op_has(s->op, TRAIT_HEADS))
        return expect(b, s, "has heads:", s->shape.at[0].n, s->attrs.heads);
    return 0;
}

static void add_cache(struct program *p, struct step *s)
{
    s->cache = -1;
    if (!op_has(s->op, TRAIT_CACHED))
        return;
    s->cache = p->cache_count;
    p->caches[p->cache_count++] = (struct cache_spec){
        .heads = s->shape.at[0].n, .width = s->shape.at[2].n, .window = s->attrs.window};
}

static int check_rope(struct builder *b, const struct rope_config *rope, int64_t dim)
{
    const struct numerics *numerics = b->p->backend->numerics;

    if (dim / 2 > ROPE_MOST_PAIRS)
        return error_set(b->err, 400, "%s: head_dim %lld: rope of more than %d is not supported",
                         hf_config_folder(b->config), (long long)dim, 2 * ROPE_MOST_PAIRS);
    if (rope->type == ROPE_DYNAMIC && numerics->kernels == KERNELS_TORCH_CUDA)
        return error_set(
            b->err, 400,
            "%s: a dynamic rope under %s, whose powers PyTorch takes on the GPU, is not "
            "supported",
            hf_config_folder(b->config), numerics->name);
    return 0;
}

static int open_rope(struct builder *b, enum rotary_layers layers)
{
    struct program_rope *rope = &b->p->rope[layers];
    int64_t dim;

    if (hf_config_rope_of(b->config, layers, &rope->config, b->err) ||
        hf_config_rope_width(b->config, &dim, b->err) || check_rope(b, &rope->config, dim))
        return -1;
    b->p->inv_freq_count = dim / 2;
    rope->inv_freq = calloc((size_t)dim / 2 + 1, sizeof(float));
    if (!rope->inv_freq)
        return error_set(b->err, 500, "out of memory");
    rotary_inv_freq(&rope->config, dim, 1, b->p->backend->numerics, rope->inv_freq);
    return 0;
}

/* Gives a row of rotary the frequencies of its layers, and every row after it, whose formulas may
 * name them, those that were opened first. */
static int prepare_rotary(struct builder *b, struct step *s)
{
    struct program_rope *rope = &b->p->rope[s->attrs.layers];

    if (s->op == OP_rotary && !rope->inv_freq && open_rope(b, s->attrs.layers))
        return -1;
    for (int i = 0; s->op != OP_rotary && i < PROGRAM_ROPES && !rope->inv_freq; i++)
        rope = &b->p->rope[i];
    if (!rope->inv_freq)
        return 0;
    s->attrs.inv_freq = rope->inv_freq;
    s->attrs.inv_freq_count = b->p->inv_freq_count;
    s->attrs.rotary_scale = (float)rope->config.attention_factor;
    s->attrs.rope = rotary_same_up_to(&rope->config) < INT64_MAX ? &rope->config : NULL;
    return 0;
}

static int add_step(struct builder *b, const struct family_row *row, int layer)
{
    struct program *p = b->p;
    struct step *s = &p->steps[p->count];

    *s = (struct step){.op = row->op,
                       .inputs = row->inputs,
                       .out = PROGRAM_INPUTS + p->count,
                       .layer = layer,
                       .slot = -1,
                       .row = row};
    p->count++;
    s->name = step_name(b, row, layer);
    if (!s->name)
        return error_set(b->err, 500, "out of memory");
    for (int k = row->inputs; k < OP_INPUTS; k++)
        s->in[k] = -1;
    for (int k = 0; k < row->inputs; k++) {
        s->in[k] = input_value(b, row, row->input[k], layer);
        if (s->in[k] < 0)
            return fail(b, row, "undefined input");
    }
    if (family_attrs(b->family, row, b->config, layer, &s->attrs, b->err))
        return -1;
    if (prepare_rotary(b, s) || bind_weights(b, s) || infer_shape(b, s))
        return -1;
    add_cache(p, s);
    b->local[row->index] = s->out;
    return 0;
}

static int add_section(struct builder *b, enum family_section section, int layer)
{
    const struct family *f = b->family;
    const struct family_row *x;

    for (int i = 0; i < f->count[section]; i++)
        if (add_step(b, &f->rows[section][i], layer))
            return -1;
    if (section == FAMILY_BEFORE) {
        memcpy(b->before, b->local, sizeof(*b->local) * (size_t)f->count[section]);
        x = row_named(f, FAMILY_BEFORE, f->input ? f->input : "", f->count[section]);
    } else {
        x = row_named(f, section, "x", f->count[section]);
    }
    if (x)
        b->x = b->local[x->index];
    return 0;
}

/* ---- slots: values whose shape is equal share memory once nobody reads the older one ---- */

static int take_slot(struct program *p, int step, int *busy_until, int *owner)
{
    for (int i = 0; i < p->slots; i++)
        if (busy_until[i] < step && shape_equal(&p->steps[owner[i]].shape, &p->steps[step].shape) &&
            p->steps[owner[i]].by_rows == p->steps[step].by_rows)
            return i;
    owner[p->slots] = step;
    return p->slots++;
}

/* Outputs do not take the memory of what is still being read. */
static void last_uses(const struct program *p, int *last)
{
    for (int i = 0; i < p->count; i++) {
        last[i] = i;
        for (int k = 0; k < p->steps[i].inputs; k++)
            if (p->steps[i].in[k] >= PROGRAM_INPUTS)
                last[p->steps[i].in[k] - PROGRAM_INPUTS] = fuse_end(p, i);
    }
}

static int assign_slots(struct program *p, struct error *err)
{
    int *last = calloc((size_t)p->count * 3, sizeof(int));
    int *busy_until = last + p->count, *owner = last + 2 * p->count;

    if (!last)
        return error_set(err, 500, "out of memory");
    last_uses(p, last);
    for (int i = 0; i < p->count; i++) {
        struct step *s = &p->steps[i];

        if (s->cache >= 0)
            continue;
        s->slot = take_slot(p, i, busy_until, owner);
        busy_until[s->slot] = last[i];
    }
    free(last);
    return 0;
}

/* Whether a step makes each of its rows of the same rows of what it reads. */
static int is_row_wise(const struct program *p, const struct step *s)
{
    int wise = op_has(s->op, TRAIT_ROW_WISE) && s->shape.at[0].kind == EXTENT_TOKENS;

    for (int k = 0; k < s->inputs; k++)
        wise = wise && s->in[k] >= PROGRAM_INPUTS &&
               p->steps[s->in[k] - PROGRAM_INPUTS].shape.at[0].kind == EXTENT_TOKENS;
    return wise;
}

/* Which steps are by_rows, and which tail.  */
static int find_rows(struct program *p, struct error *err)
{
    enum { ALL_ROWS = 1, SOME_ROWS };
    char *read = calloc((size_t)p->count + PROGRAM_INPUTS, 1);

    if (!read)
        return error_set(err, 500, "out of memory");
    for (int i = p->count - 1; i >= 0; i--) {
        struct step *s = &p->steps[i];
        const int some = !p->backend->numerics->whole_calls && is_row_wise(p, s);

        s->by_rows = some && op_role(s->op) == ROLE_PRODUCT && !read[s->out];
        s->tail = some && read[s->out] == SOME_ROWS;
        for (int k = 0; k < s->inputs; k++)
            read[s->in[k]] |= s->by_rows || s->tail ? SOME_ROWS : ALL_ROWS;
    }
    free(read);
    return 0;
}

static int reserve(struct builder *b)
{
    const struct family *f = b->family;
    struct program *p = b->p;
    size_t widest = 1, steps;

    if (hf_config_count(b->config, "num_hidden_layers", &b->layers, b->err))
        return -1;
    for (int i = 0; i < FAMILY_SECTIONS; i++)
        widest = (size_t)f->count[i] > widest ? (size_t)f->count[i] : widest;
    steps = (size_t)(f->count[FAMILY_BEFORE] + f->count[FAMILY_AFTER]) +
            (size_t)f->count[FAMILY_LAYER] * (size_t)b->layers;
    p->steps = calloc(steps + 1, sizeof(*p->steps));
    p->caches = calloc(steps + 1, sizeof(*p->caches));
    b->local = calloc(2 * widest, sizeof(int));
    b->before = b->local + widest;
    if (!p->steps || !p->caches || !b->local)
        return error_set(b->err, 500, "out of memory");
    return 0;
}

static int build(struct builder *b)
{
    if (reserve(b) || add_section(b, FAMILY_BEFORE, -1))
        return -1;
    for (int64_t layer = 0; layer < b->layers; layer++)
        if (add_section(b, FAMILY_LAYER, (int)layer))
            return -1;
    if (add_section(b, FAMILY_AFTER, -1))
        return -1;
    b->p->logits = b->p->count - 1;
    for (int i = 0; i < b->p->count; i++) /* shapes are inferred as of bf16 */
        b->p->steps[i].shape.dtype = b->p->backend->numerics->activations;
    if (find_rows(b->p, b->err) || fuse_plan(b->p, b->err) || assign_slots(b->p, b->err))
        return -1;
    return 0;
}

struct program *program_open(const struct family *family, const struct hf_config *config,
                             struct parameters *parameters, struct backend *backend,
                             struct error *err)
{
    struct program *p = calloc(1, sizeof(*p));
    struct builder b = {
        .p = p, .family = family, .config = config, .parameters = parameters, .err = err, .x = -1};
    int rc;

    if (!p) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    p->backend = backend;
    p->family = family;
    rc = build(&b);
    free(b.local);
    if (rc) {
        program_close(p);
        return NULL;
    }
    return p;
}

void program_close(struct program *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->count; i++)
        free(p->steps[i].name);
    free(p->steps);
    free(p->caches);
    for (int i = 0; i < PROGRAM_ROPES; i++)
        free(p->rope[i].inv_freq);
    free(p);
}
