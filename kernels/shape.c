/* shape.c - see shape.h.  Every check is a sentence that says what does not fit what. */
#include "kernels/shape.h"

#include <stdio.h>
#include <string.h>

/* Rows of other widths are summed in orders that are not known. */
enum { SDPA_NARROWEST = 16, SDPA_WIDEST = 256, SDPA_STEP = 8 };

/* A row this long would be summed in another order by PyTorch, one that depends on threads. */
enum { NORM_LONGEST = 32767 };

struct request {
    enum op op;
    const struct op_attrs *attrs;
    const struct shape *const *in;
    const struct tensor *weight, *bias;
    struct error *err;
};

int64_t extent_resolve(const struct extent *e, const struct op_scope *scope)
{
    int64_t past = scope->past;

    switch (e->kind) {
    case EXTENT_CONST:
        return e->n;
    case EXTENT_TOKENS:
        return scope->tokens;
    case EXTENT_KEYS:
        break;
    }
    if (e->n && past > e->n - 1)
        past = e->n - 1;
    return past + scope->tokens;
}

struct tensor shape_resolve(const struct shape *s, const struct op_scope *scope, void *data)
{
    int64_t shape[TENSOR_MAX_RANK];

    for (int i = 0; i < s->rank; i++)
        shape[i] = extent_resolve(&s->at[i], scope);
    return tensor_make(s->dtype, s->rank, shape, data);
}

static void extent_text(const struct extent *e, char *out, size_t size)
{
    if (e->kind == EXTENT_CONST)
        snprintf(out, size, "%lld", (long long)e->n);
    else if (e->kind == EXTENT_TOKENS)
        snprintf(out, size, "T");
    else if (e->n)
        snprintf(out, size, "min(L, %lld)", (long long)e->n);
    else
        snprintf(out, size, "L");
}

char *shape_text(const struct shape *s, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "[");
    char extent[48];

    for (int i = 0; i < s->rank && at < size; i++) {
        extent_text(&s->at[i], extent, sizeof(extent));
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", extent);
    }
    if (at < size)
        snprintf(out + at, size - at, "]");
    return out;
}

int shape_has_keys(const struct shape *s)
{
    for (int i = 0; i < s->rank; i++)
        if (s->at[i].kind == EXTENT_KEYS)
            return 1;
    return 0;
}

int shape_token_axis(const struct shape *s)
{
    for (int i = 0; i < s->rank; i++)
        if (s->at[i].kind == EXTENT_TOKENS)
            return i;
    for (int i = 0; i < s->rank; i++)
        if (s->at[i].kind == EXTENT_KEYS)
            return i;
    return -1;
}

/* ---- what the rules are made of ---- */

static struct extent constant(int64_t n)
{
    return (struct extent){EXTENT_CONST, n};
}

static int same_extent(const struct extent *a, const struct extent *b)
{
    return a->kind == b->kind && a->n == b->n;
}

int shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank)
        return 0;
    for (int i = 0; i < a->rank; i++)
        if (!same_extent(&a->at[i], &b->at[i]))
            return 0;
    return 1;
}

static int is_const(const struct shape *s, int axis)
{
    return s->at[axis].kind == EXTENT_CONST;
}

/* An input's text; its shape, and its dtype where that is not bf16. */
static const char *text(const struct shape *s, char *out, size_t size)
{
    size_t at;

    shape_text(s, out, size);
    at = strlen(out);
    if (s->dtype != DTYPE_BF16)
        snprintf(out + at, size - at, " of %s", dtype_name(s->dtype));
    return out;
}

/* "input 2 is [T, 64]: expected <what>" */
static int misfit(const struct request *r, int input, const char *expected)
{
    char shape[160];

    return error_set(r->err, 400, "%s: input %d is %s: expected %s", op_name(r->op), input + 1,
                     text(r->in[input], shape, sizeof(shape)), expected);
}

static int weight_misfit(const struct request *r, const char *what, const struct tensor *weight,
                         const char *expected)
{
    char shape[160];

    return error_set(r->err, 400, "%s: the %s is %s of %s: expected %s", op_name(r->op), what,
                     tensor_shape_text(weight, shape, sizeof(shape)), dtype_name(weight->dtype),
                     expected);
}

/* [T, n, ...], bf16, tokens first, the rest constants. */
static int is_token_rows(const struct shape *s, int rank_least, int rank_most)
{
    if (s->dtype != DTYPE_BF16 || s->rank < rank_least || s->rank > rank_most ||
        s->at[0].kind != EXTENT_TOKENS)
        return 0;
    for (int i = 1; i < s->rank; i++)
        if (!is_const(s, i) || s->at[i].n <= 0)
            return 0;
    return 1;
}

/* The weight has the axes that ops.def says. */
static int check_weight(const struct request *r)
{
    const int rank = op_weight(r->op, 0)->axes;
    char expected[64];

    if (!r->weight)
        return error_set(r->err, 400, "%s: there is no weight", op_name(r->op));
    for (int i = 0; i < r->weight->rank; i++)
        if (r->weight->shape[i] < 1)
            return weight_misfit(r, "weight", r->weight, "no empty axis");
    snprintf(expected, sizeof(expected), "%d %s of BF16", rank, rank == 1 ? "axis" : "axes");
    if (r->weight->rank != rank || r->weight->dtype != DTYPE_BF16)
        return weight_misfit(r, "weight", r->weight, expected);
    return 0;
}

/* attrs->width, which must be there, divides `extent` (or equals it, exact). */
static int check_width(const struct request *r, int64_t extent, int exact)
{
    const long long width = (long long)r->attrs->width;

    if (width < 1)
        return error_set(r->err, 400, "%s: width is %lld: expected 1 or more", op_name(r->op),
                         width);
    if (exact ? extent != width : extent % width != 0)
        return error_set(r->err, 400, "%s: width %lld does not %s the input's %lld", op_name(r->op),
                         width, exact ? "equal" : "divide", (long long)extent);
    return 0;
}

/* ---- one rule an operation ---- */

typedef int rule_fn(const struct request *r, struct shape *out);

static int shape_embedding(const struct request *r, struct shape *out)
{
    const struct shape *tokens = r->in[0];

    if (tokens->dtype != DTYPE_I64 || tokens->rank != 1 || tokens->at[0].kind != EXTENT_TOKENS)
        return misfit(r, 0, "token ids [T] of I64");
    if (check_weight(r))
        return -1;
    *out = (struct shape){DTYPE_BF16, 2, {tokens->at[0], constant(r->weight->shape[1])}};
    return 0;
}

static int shape_rotary(const struct request *r, struct shape *out)
{
    const struct shape *positions = r->in[0];

    if (positions->dtype != DTYPE_I64 || positions->rank != 1 ||
        positions->at[0].kind != EXTENT_TOKENS)
        return misfit(r, 0, "positions [T] of I64");
    if (!r->attrs->inv_freq || r->attrs->inv_freq_count < 1)
        return error_set(r->err, 400, "rotary: there are no frequencies");
    *out =
        (struct shape){DTYPE_BF16, 2, {positions->at[0], constant(2 * r->attrs->inv_freq_count)}};
    return 0;
}

static int shape_linear(const struct request *r, struct shape *out)
{
    const struct shape *x = r->in[0];
    const int last = x->rank - 1;
    char shape[160], weight[160];

    if (!is_token_rows(x, 2, TENSOR_MAX_RANK))
        return misfit(r, 0, "[T, ..., K] of BF16");
    if (check_weight(r))
        return -1;
    if (x->at[last].n != r->weight->shape[1])
        return error_set(r->err, 400, "linear: input %s does not fit weight %s: %lld is not %lld",
                         shape_text(x, shape, sizeof(shape)),
                         tensor_shape_text(r->weight, weight, sizeof(weight)),
                         (long long)x->at[last].n, (long long)r->weight->shape[1]);
    if (r->bias && (r->bias->rank != 1 || r->bias->dtype != DTYPE_BF16 ||
                    r->bias->shape[0] != r->weight->shape[0]))
        return weight_misfit(r, "bias", r->bias, "one BF16 for each row of the weight");
    *out = *x;
    out->at[last] = constant(r->weight->shape[0]);
    return 0;
}

static int shape_rms_norm(const struct request *r, struct shape *out)
{
    const struct shape *x = r->in[0];
    const int last = x->rank - 1;
    int64_t width = r->attrs->width;

    if (!is_token_rows(x, 2, width ? 3 : TENSOR_MAX_RANK))
        return misfit(r, 0, width ? "[T, n*D] or [T, n, D] of BF16" : "[T, C] of BF16");
    if (width && check_width(r, x->at[last].n, x->rank == 3))
        return -1;
    if (!width)
        width = x->at[last].n;
    if (check_weight(r))
        return -1;
    if (r->weight->shape[0] != width)
        return error_set(r->err, 400, "rms_norm: rows of %lld do not fit a weight of %lld",
                         (long long)width, (long long)r->weight->shape[0]);
    if (width > NORM_LONGEST)
        return error_set(r->err, 400, "rms_norm: rows of %lld: at most %d are known",
                         (long long)width, NORM_LONGEST);
    *out = *x;
    if (r->attrs->width && x->rank == 2)
        *out = (struct shape){
            DTYPE_BF16, 3, {x->at[0], constant(x->at[1].n / width), constant(width)}};
    return 0;
}

static int shape_layer_norm(const struct request *r, struct shape *out)
{
    const struct shape *x = r->in[0];

    if (!is_token_rows(x, 2, 2))
        return misfit(r, 0, "[T, C] of BF16");
    if (check_weight(r))
        return -1;
    if (r->weight->shape[0] != x->at[1].n)
        return error_set(r->err, 400, "layer_norm: rows of %lld do not fit a weight of %lld",
                         (long long)x->at[1].n, (long long)r->weight->shape[0]);
    if (!r->bias || r->bias->rank != 1 || r->bias->dtype != DTYPE_BF16 ||
        r->bias->shape[0] != x->at[1].n)
        return r->bias ? weight_misfit(r, "bias", r->bias, "one BF16 for each element of a row")
                       : error_set(r->err, 400, "layer_norm: there is no bias");
    if (x->at[1].n > NORM_LONGEST)
        return error_set(r->err, 400, "layer_norm: rows of %lld: at most %d are known",
                         (long long)x->at[1].n, NORM_LONGEST);
    *out = *x;
    return 0;
}

static int shape_rope(const struct request *r, struct shape *out)
{
    const struct shape *x = r->in[0];
    const int64_t width = r->attrs->width;

    if (!is_token_rows(x, 2, 3))
        return misfit(r, 0, "[T, n*D] or [T, n, D] of BF16");
    if (check_width(r, x->at[x->rank - 1].n, x->rank == 3))
        return -1;
    if (width % 2)
        return error_set(r->err, 400, "rope: width is %lld: expected an even number",
                         (long long)width);
    for (int i = 1; i <= 2; i++)
        if (!is_token_rows(r->in[i], 2, 2) || r->in[i]->at[1].n > width || r->in[i]->at[1].n % 2 ||
            !shape_equal(r->in[i], r->in[1]))
            return misfit(r, i,
                          i == 1 ? "cos [T, width or less] of BF16"
                                 : "sin [T, width or less] of BF16, as cos");
    *out = (struct shape){
        DTYPE_BF16,
        3,
        {constant(x->rank == 3 ? x->at[1].n : x->at[1].n / width), x->at[0], constant(width)}};
    return 0;
}

static int shape_cache_append(const struct request *r, struct shape *out)
{
    const struct shape *x = r->in[0];
    const int heads_first = x->dtype == DTYPE_BF16 && x->rank == 3 && is_const(x, 0) &&
                            x->at[1].kind == EXTENT_TOKENS && is_const(x, 2);
    const struct extent keys = {EXTENT_KEYS, r->attrs->window};

    if (!heads_first && !is_token_rows(x, 2, 2))
        return misfit(r, 0, "[G, T, D] or [T, G*D] of BF16");
    if (check_width(r, x->at[x->rank - 1].n, heads_first))
        return -1;
    if (keys.n < 0)
        return error_set(r->err, 400, "cache_append: window is %lld: expected 0 or more",
                         (long long)keys.n);
    *out = (struct shape){DTYPE_BF16,
                          3,
                          {heads_first ? x->at[0] : constant(x->at[1].n / r->attrs->width), keys,
                           constant(r->attrs->width)}};
    return 0;
}

/* [n, <kind>, ...] of BF16, three axes. */
static int is_heads(const struct shape *s, enum extent_kind middle, enum extent_kind last)
{
    return s->dtype == DTYPE_BF16 && s->rank == 3 && is_const(s, 0) && s->at[0].n > 0 &&
           s->at[1].kind == middle && s->at[2].kind == last;
}

static int check_groups(const struct request *r)
{
    const int64_t H = r->in[0]->at[0].n, G = r->in[1]->at[0].n;

    if (H % G)
        return error_set(r->err, 400, "%s: %lld query heads cannot share %lld key heads",
                         op_name(r->op), (long long)H, (long long)G);
    return 0;
}

static int shape_matmul_qk(const struct request *r, struct shape *out)
{
    const struct shape *q = r->in[0], *k = r->in[1];

    if (!is_heads(q, EXTENT_TOKENS, EXTENT_CONST))
        return misfit(r, 0, "queries [H, T, D] of BF16");
    if (!is_heads(k, EXTENT_KEYS, EXTENT_CONST))
        return misfit(r, 1, "keys [G, L, D] of BF16");
    if (q->at[2].n != k->at[2].n)
        return error_set(r->err, 400, "matmul_qk: queries of %lld do not fit keys of %lld",
                         (long long)q->at[2].n, (long long)k->at[2].n);
    if (check_groups(r))
        return -1;
    *out = (struct shape){DTYPE_BF16, 3, {q->at[0], q->at[1], k->at[1]}};
    return 0;
}

static int shape_matmul_pv(const struct request *r, struct shape *out)
{
    const struct shape *p = r->in[0], *v = r->in[1];
    char left[160], right[160];
    int64_t width;

    if (!is_heads(p, EXTENT_TOKENS, EXTENT_KEYS))
        return misfit(r, 0, "weights [H, T, L] of BF16");
    if (!is_heads(v, EXTENT_KEYS, EXTENT_CONST))
        return misfit(r, 1, "values [G, L, D] of BF16");
    if (!same_extent(&p->at[2], &v->at[1]))
        return error_set(r->err, 400, "matmul_pv: weights %s do not fit values %s: not the same L",
                         shape_text(p, left, sizeof(left)), shape_text(v, right, sizeof(right)));
    if (check_groups(r))
        return -1;
    if (__builtin_mul_overflow(p->at[0].n, v->at[2].n, &width))
        return misfit(r, 1, "fewer elements");
    *out = (struct shape){DTYPE_BF16, 2, {p->at[1], constant(width)}};
    return 0;
}

static int shape_sdpa(const struct request *r, struct shape *out)
{
    const struct shape *q = r->in[0], *k = r->in[1], *v = r->in[2];
    const int64_t width = q->at[2].n;
    char keys[160], values[160];
    int64_t columns;

    if (!is_heads(q, EXTENT_TOKENS, EXTENT_CONST))
        return misfit(r, 0, "queries [H, T, D] of BF16");
    if (!is_heads(k, EXTENT_KEYS, EXTENT_CONST))
        return misfit(r, 1, "keys [G, L, D] of BF16");
    if (!is_heads(v, EXTENT_KEYS, EXTENT_CONST))
        return misfit(r, 2, "values [G, L, D] of BF16");
    if (!shape_equal(k, v))
        return error_set(r->err, 400, "sdpa: keys %s and values %s are not the same shape",
                         shape_text(k, keys, sizeof(keys)), shape_text(v, values, sizeof(values)));
    if (k->at[2].n != width)
        return error_set(r->err, 400, "sdpa: queries of %lld do not fit keys of %lld",
                         (long long)width, (long long)k->at[2].n);
    if (width < SDPA_NARROWEST || width > SDPA_WIDEST || width % SDPA_STEP)
        return error_set(r->err, 400,
                         "sdpa: heads of %lld: multiples of %d from %d to %d are known",
                         (long long)width, SDPA_STEP, SDPA_NARROWEST, SDPA_WIDEST);
    if (r->attrs->window < 0)
        return error_set(r->err, 400, "sdpa: window is %lld: expected 0 or more",
                         (long long)r->attrs->window);
    if (check_groups(r))
        return -1;
    if (__builtin_mul_overflow(q->at[0].n, width, &columns))
        return misfit(r, 0, "fewer elements");
    *out = (struct shape){DTYPE_BF16, 2, {q->at[1], constant(columns)}};
    return 0;
}

static int shape_causal_mask(const struct request *r, struct shape *out)
{
    if (!is_heads(r->in[0], EXTENT_TOKENS, EXTENT_KEYS))
        return misfit(r, 0, "scores [H, T, L] of BF16");
    if (r->attrs->window < 0)
        return error_set(r->err, 400, "causal_mask: window is %lld: expected 0 or more",
                         (long long)r->attrs->window);
    *out = *r->in[0];
    return 0;
}

static int shape_slice(const struct request *r, struct shape *out)
{
    const struct shape *x = r->in[0];
    const struct op_attrs *a = r->attrs;
    const int64_t pieces = a->pieces ? a->pieces : 1, count = a->count ? a->count : 1;
    int64_t piece;

    if (!is_token_rows(x, 2, 2))
        return misfit(r, 0, "[T, C] of BF16");
    piece = x->at[1].n / pieces;
    if (a->width < 1 || x->at[1].n % pieces || (a->before + count) > piece / a->width)
        return error_set(
            r->err, 400,
            "slice: %lld units of %lld behind %lld are not in a row of %lld in %lld pieces",
            (long long)count, (long long)a->width, (long long)a->before, (long long)x->at[1].n,
            (long long)pieces);
    *out = (struct shape){DTYPE_BF16, 2, {x->at[0], constant(pieces * count * a->width)}};
    return 0;
}

/* gelu_tanh: rows of tokens. */
static int shape_rows(const struct request *r, struct shape *out)
{
    if (!is_token_rows(r->in[0], 2, TENSOR_MAX_RANK))
        return misfit(r, 0, "[T, ..., C] of BF16");
    *out = *r->in[0];
    return 0;
}

/* scale, divide, tanh, softmax, silu: any bf16. */
static int shape_same(const struct request *r, struct shape *out)
{
    if (r->in[0]->dtype != DTYPE_BF16 || r->in[0]->rank < 1)
        return misfit(r, 0, "BF16 of one axis or more");
    *out = *r->in[0];
    return 0;
}

static int shape_two(const struct request *r, struct shape *out)
{
    char left[160], right[160];

    for (int i = 0; i < 2; i++)
        if (r->in[i]->dtype != DTYPE_BF16 || r->in[i]->rank < 1)
            return misfit(r, i, "BF16 of one axis or more");
    if (!shape_equal(r->in[0], r->in[1]))
        return error_set(r->err, 400, "%s: %s and %s are not the same shape", op_name(r->op),
                         shape_text(r->in[0], left, sizeof(left)),
                         shape_text(r->in[1], right, sizeof(right)));
    *out = *r->in[0];
    return 0;
}

/* An op whose line in ops.def names no rule of this file does not compile. */
static rule_fn *const rules[OP_COUNT] = {
#define OP(name, least, most, shape, ...) [OP_##name] = shape_##shape,
#include "kernels/ops.def"
};

int shape_of(enum op op, const struct op_attrs *attrs, const struct shape *const in[OP_INPUTS],
             const struct tensor *const weights[OP_WEIGHTS], struct shape *out, struct error *err)
{
    const struct request r = {op, attrs, in, weights[0], weights[1], err};
    int given = 0;

    while (given < OP_INPUTS && in[given])
        given++;
    if (given < op_inputs_least(op) || given > op_inputs_most(op))
        return error_set(err, 400, "%s: %d inputs: expected %d", op_name(op), given,
                         op_inputs_least(op));
    return rules[op](&r, out);
}
