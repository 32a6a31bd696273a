/* ops.h - what an operation is given, and the numerics contract of each.
 *
 * T = tokens fed in this call, L = keys that this call's attention sees, V = vocabulary,
 * H / G = query / key-value heads, D = head_dim.  All activations are bf16; `bf()` below is one
 * rounding to bf16, nearest even; every other operation is one IEEE binary32 operation.
 * The dispatcher has checked shapes when the program was built: a kernel meets none that is wrong.
 */
#ifndef SAMEBIT_OPS_H
#define SAMEBIT_OPS_H

#include "kernels/base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

struct torch_host;

enum op {
#define OP(name, ...) OP_##name,
#include "kernels/ops.def"
    OP_COUNT
};

enum { OP_INPUTS = 3, OP_WEIGHTS = 2 }; /* the most that an op has */

enum op_trait {
    TRAIT_ROW_WISE = 1, /* row t of the output is made of row t of the inputs alone */
    TRAIT_HEADS = 2,    /* the output's first axis counts heads, as the attribute `heads` says */
    TRAIT_CACHED = 4,   /* the output is a view of the cache of keys and values */
};

/* What an op is where a backend runs several as one (backend.h: enum group). */
enum op_role {
    ROLE_THIN,       /* nothing but a step among others */
    ROLE_PRODUCT,    /* reads a matrix of weights, which is what running together saves */
    ROLE_SUM,        /* ends a product: adds another value to it */
    ROLE_ACTIVATION, /* of a gate's product */
    ROLE_GATE,       /* of an activation and a second product of the same input */
};

enum rotary_part { ROTARY_COS, ROTARY_SIN };
enum rotary_layers { ROTARY_ALL, ROTARY_FULL, ROTARY_SLIDING };
enum rope_pairs { ROPE_HALVES, ROPE_NEIGHBOURS }; /* i and i + R/2; 2i and 2i + 1 */
enum rope_apply { ROPE_BF16, ROPE_F32 };
enum norm_weight { NORM_BF16, NORM_F32, NORM_ONE_PLUS };

/* A family row's attributes, resolved against config.json. */
struct op_attrs {
    double eps;            /* rms_norm, layer_norm */
    double by;             /* scale, sdpa: rounded to f32 once, never to bf16; embedding: 0 = 1 */
    int64_t width;         /* rms_norm: elements of one norm, 0 = the last axis; rope, cache: D;
                             * slice: of a unit */
    int64_t window;        /* cache_append, causal_mask, sdpa: sliding window in keys, 0 = none */
    int64_t rows, out;     /* embedding, linear: the extents that config.json gives, 0 = any */
    int64_t heads;         /* rope, cache_append: likewise */
    int64_t bias;          /* linear: 1 = has a bias, 0 = none, whatever the checkpoint holds */
    int64_t any;           /* never set: an extent that config.json does not give */
    int64_t still;         /* rope: 1 = heads are not turned, only put first */
    int64_t before, count; /* slice: units of `width` before it and in it; count 0 = 1 */
    int64_t pieces;        /* slice: equal pieces of a row, cut alike; 0 = 1 */
    enum rotary_part part; /* rotary: "cos" | "sin" */
    enum rotary_layers layers; /* rotary: "all" | "full_attention" | "sliding_attention" */
    enum rope_pairs pairs;     /* rope: "halves" | "neighbours" */
    enum rope_pairs table;     /* rotary, rope: likewise */
    enum rope_apply apply;     /* rope: "bf16" | "f32" */
    enum norm_weight norm;     /* rms_norm: "bf16" | "f32" | "one_plus" */
    const float *inv_freq;     /* rotary: [D/2], borrowed */
    int64_t inv_freq_count;    /* rotary: D/2 */
    float rotary_scale; /* rotary: cos and sin are multiplied by it; 1 where nothing is said */
    const struct rope_config *rope; /* rotary: makes inv_freq of calls that are longer than
                                     * rotary_same_up_to(); NULL: inv_freq is that of all calls */
};

/* A weight as a backend keeps it.  `plain` is the checkpoint's bf16 tensor, its data NULL where
 * `packed` is all that is read; `packed` is the backend's own layout for linear, or NULL. */
struct weight {
    struct tensor plain;
    void *packed;
};

/* Which call of the model this is.  Bits may depend on it: a linear's K blocks on the rows of the
 * call that PyTorch would have made, the softmax on L. */
struct op_scope {
    int64_t past;    /* tokens already in the cache */
    int64_t tokens;  /* T: tokens of this call, whatever part of them an op is asked for */
    int64_t row;     /* the first token of that part */
    int64_t padding; /* positions before this one are left padding: no token sees them as a key */
    int64_t shift;   /* token t has position max(0, past + t - shift) */
    int64_t batch;   /* rows of the batch that this one is of in PyTorch, 0 as 1 */
    const struct torch_host *torch; /* whose bits, where numerics.of_host; NULL: the backend's */
};

/* The position of token t of a call. */
static inline int64_t op_position(const struct op_scope *scope, int64_t t)
{
    const int64_t position = scope->past + t - scope->shift;

    return position > 0 ? position : 0;
}

/* Everything one operation may read, and the one tensor it writes. */
struct op_call {
    struct backend *backend;
    enum op op;
    const struct tensor *in[OP_INPUTS];
    /* In the order of the op's WEIGHT lines in ops.def; NULL where the op or the checkpoint has
     * none.  Ops of other roles for them read weights[i]. */
    union {
        const struct weight *weights[OP_WEIGHTS];
        struct {
            const struct weight *weight, *bias;
        };
    };
    /* What the next weights will be, two where they are read side by side: for who has time to ask
     * for them early.  NULL: not known. */
    const struct weight *soon[2];
    struct tensor *out; /* shape, strides and data set by the caller */
    const struct op_attrs *attrs;
    struct op_scope scope;
};

/* 0, or -1 for what the backend cannot do, or where it failed. */
typedef int op_fn(const struct op_call *call);

const char *op_name(enum op op);
/* The PyTorch that the op mirrors, one line. */
const char *op_mirror(enum op op);
/* Returns the op of that name, or -1. */
int op_find(const char *name);
int op_inputs_least(enum op op);
int op_inputs_most(enum op op);
int op_has(enum op op, enum op_trait trait);
enum op_role op_role(enum op op);

/* A tensor of the checkpoint that a row of an op binds. */
struct weight_spec {
    enum op op;
    const char *suffix; /* of its name: "weight" */
    int if_bias;        /* 1: bound where attrs.bias is set, 0: always */
    int axes;
    size_t
        extent[2]; /* of its first axes: offsets in struct op_attrs; a value of 0 is any extent */
};
/* The op's weight i, in the order of op_call.weights; NULL: it has no more. */
const struct weight_spec *op_weight(enum op op, int i);
/* The extent of an axis that config.json asks for, 0 = any. */
int64_t weight_extent(const struct weight_spec *spec, const struct op_attrs *attrs, int axis);

enum attr_kind { ATTR_NUMBER, ATTR_INTEGER, ATTR_NAME };

/* An attribute that a family row of an op may carry. */
struct attr_spec {
    enum op op;
    const char *key;
    enum attr_kind kind;
    size_t offset; /* of the field in struct op_attrs */
    int required;
    const char *words; /* of a NAME, separated by spaces */
};
const struct attr_spec *attr_find(enum op op, const char *key); /* NULL: the op has no such one */
const struct attr_spec *attr_specs(int *count);
/* Words of a NAME attribute ("cos", "sin"): the index of the word, or -1. */
int attr_word(const struct attr_spec *spec, const char *word);

/* ---- contracts -------------------------------------------------------------------------------
 *
 * embedding: y[t] = weight[token[t]]; with `by`, bf(weight[token[t]] * bf((float)by))
 *   shapes: tokens I64 [T], weight [V, C] -> [T, C].  Token ids are valid (checked on entry).
 *
 * rotary: y[t, i] = y[t, i + R/2] = bf(cos | sin(f32(position[t]) * inv_freq[i]) * rotary_scale)
 *   shapes: positions I64 [T], position[t] = max(0, past + t - shift) -> [T, R], R = 2 * inv_freq_count
 *   table:  halves, as above; neighbours: y[t, 2i] = y[t, 2i + 1]
 *   layers: whose rope parameters inv_freq is made of, where config.json has them by layer type
 *   order:  one f32 product, torch.cos / torch.sin, one f32 product, rounded to bf16 (kernels/rotary.h)
 *
 * linear: y[t, n] = bf(sum_k x[t, k] * w[n, k] (+ bias[n]))
 *   shapes: [..., K], weight [N, K], bias [N] -> [..., N]
 *   order:  numerics.h, "products"; M = scope.batch * scope.tokens; bias is one f32 addition to
 *           the finished sum
 *   rounds: once
 *
 * rms_norm: y = bf(w * bf(x * (1 / sqrt(mean(x^2) + eps)))), by rows of `width`
 *   shapes: [T, C] -> [T, C]; with width D: [T, n*D] or [T, n, D] -> [T, n, D]
 *   order:  ATen's cascade sum of 8 lanes x 4 accumulators (kernels/cpu/reduce.h); true division by the width
 *   weight: bf16      w * bf(x * r), as above: rounds after the scale r, and after w
 *           f32       w * (x * r): rounds after w
 *           one_plus  (x * r) * (1 + w): rounds after that; 1 + w is one f32 addition
 *
 * layer_norm: y = bf(fma(fma(x, r, -(r * mean)), w, b)), r = 1 / sqrt(variance + eps), by rows
 *   shapes: [T, C] -> [T, C], weight [C], bias [C]
 *   order:  ATen's RowwiseMoments (moments_utils.h) with W = numerics' lanes: Welford's update in
 *           2W lanes over chunks of 16 vectors, chunks merged as a binary counter carries, then the
 *           elements left over by whole vectors one by one, then the W lanes in order
 *           (kernels/layer_norm.h)
 *
 * rope: y = bf(bf(x * cos) + bf(rotate_half(x) * sin))
 *   shapes: x [T, n*D] or [T, n, D], cos [T, R], sin [T, R], R <= D -> heads first: [n, T, D]
 *   pairs:  of the first R elements of a head; those behind are copied.  rotate_half(x) of a pair
 *           (a, b) is (-b, a); halves: elements i and i + R/2; neighbours: 2i and 2i + 1
 *   table:  halves: pair i has cos[i] and cos[i + R/2] (where pairs are neighbours, cos[i] alone);
 *           neighbours: cos[2i] and cos[2i + 1]
 *   apply:  bf16, as above; f32: y = bf((x * cos) + (rotate_half(x) * sin))
 *   still:  y = x
 *
 * cache_append: the keys (values) of the cache with this call's appended
 *   shapes: [G, T, D] or [T, G*D] -> [G, L, D], strided.  `out` is the view of the cache; its last
 *           T positions are written, the others are there already.
 *   window: L = min(past, window - 1) + T, as DynamicSlidingWindowLayer keeps them
 *
 * matmul_qk: y[h, t, l] = bf(sum_d q[h, t, d] * k[h / (H/G), l, d])
 *   shapes: [H, T, D], [G, L, D] -> [H, T, L];  products of B = scope.batch * H matrices,
 *   M = T, N = L, K = D
 *
 * scale: y = bf(x * (float)by)
 *
 * divide: y = bf(x / (float)by)
 *
 * tanh: y = bf(TANH(x)), SLEEF's tanhf_u10
 *
 * slice: a part of every row, or of each of its equal `pieces`: `count` units of `width` elements,
 *   behind `before` of them
 *   shapes: [T, pieces*C] -> [T, pieces*count*width]
 *
 * causal_mask: y = bf(x + m), m = 0 where the key is at or before the query (and within window
 *   keys of it), else bf16's lowest finite value 0xff7f.  Key j of L is position
 *   past + T - L + j, query t is position past + t.  Positions before scope.padding are masked for
 *   every query.
 *   shapes: [H, T, L] -> [H, T, L]
 *
 * softmax: e = EXP(x - max), y = bf(e * (1 / sum(e))) by rows of L; all L keys, masked ones too
 *   order:  numerics.h, "softmax"
 *
 * matmul_pv: y[t, h*D + d] = bf(sum_l p[h, t, l] * v[h / (H/G), l, d])
 *   shapes: [H, T, L], [G, L, D] -> [T, H*D];  products of B = scope.batch * H, M = T,
 *   N = D, K = L
 *
 * sdpa: y[t, h*D + d] = bf(sum_l p[h, t, l] * v[h / (H/G), l, d]), p = softmax(by * q . k);
 *   nothing in between is rounded to bf16 but p
 *   shapes: q [H, T, D], k [G, L, D], v [G, L, D] -> [T, H*D];  D a multiple of 8, 16..256
 *   by:     rounded to f32
 *   keys:   those that causal_mask would let a query see.  How the others are kept out follows
 *           from the call, as transformers' sdpa_mask() decides it:
 *             no mask   T = 1 or T = L, no padding among the L keys, and no window or
 *                       L < window; T > 1 is then torch's is_causal
 *             a mask    every other call: several tokens after others, padding, window reached
 *   order:  rows of a head are computed in groups of 32 (T < 192), 64 (T < 768) or 256, the last
 *           one shorter: M rows.  Keys in blocks of 512: N = min(512, L - n), masked ones
 *           included; without a mask a group ends with the block of its last row's key.
 *           For every block:
 *     1     x = q . k.  M >= 4 and N >= 12: CHAINS over D.  Else element d into lane d % 4,
 *           (0+2)+(1+3); but the last N % 4 keys where M > 1 and N > 1: lane d % 8, lanes
 *           l += l+4, then alike
 *     2     x = x * by, -inf for keys not seen; with a mask x = fma(x, by, 0 or -inf)
 *     3     m = max(m, x).  Still -inf: p = 0, on with 6.  A NaN is the maximum, but without a
 *           mask not among the keys left over by whole vectors
 *     4     e = FEXP(x - m) for the first N & ~(W-1) keys, exp(x - m) rounded once for the
 *           others; p = bf(e); t = sum of e: 2W lanes, key j into lane j % 2W, l += l+w for
 *           w = W .. 1, then the others in order (W: avx512_bf16 16, avx2 8)
 *     5     c = expf(old m - m);  sum = fma(c, sum, t);  y = y * c
 *     6     y = y + p . v.  M >= 4: CHAINS over N, each added to y.  M = 2, 3: one chain that
 *           starts at y.  M = 1: four keys at a time,
 *           y + ((v0*p0 + v2*p2) + (v1*p1 + v3*p3)), the last N % 4 from the last one back.
 *           After the first block a -0 is made +0
 *           At the end y = bf(y * (1 / sum)), sum = 1 for a row that saw nothing.
 *     CHAINS  of fma, from 0, each of n products if n <= 192, n/2 if n <= 384, else of 192;
 *             their sums are added in order
 *     FEXP    ATen's fexp_u20 (kernels/sdpa.h); expf is glibc's
 *   A row's bits thus depend on M being 1, 2..3 or more, on every N and on the place of each key
 *   in its block: a prompt is no prefix of a longer one; feeding it in parts or padding it
 *   changes bits.  Heads, rows of a group and threads are free.
 *   Not followed: torch's dependence on threads where a call has one head and one group; the
 *   sign of a zero that all products underflowed to, where M < 4 and L > 512.
 *
 * add, mul: y = bf(a + b), bf(a * b), equal shapes
 *
 * silu: y = bf(x / (1 + EXP(-x)))
 *
 * gelu_tanh: y = bf((0.5 * x) * (1 + TANH(c * (x + 0.044715 * ((x * x) * x))))), c = sqrt(2 / pi),
 *   constants rounded to f32, one operation each (kernels/gelu.h)
 *   shapes: [T, ..., C] -> the same
 *   TANH:   SLEEF's tanhf_u10, but the last n % (4 * lanes) of the n elements of PyTorch's call
 *           (scope.batch * scope.tokens rows) take the C library's tanhf, which shows in bf16 for
 *           -5.0625, -5.09375, -5.125 and -5.15625.  In a batch: of its first row.
 *   Not followed: threads, among which PyTorch cuts a call of more than 16384 elements, each with a
 *   rest of its own where its share is no multiple of 4 * lanes.
 */

#ifdef __cplusplus
}
#endif

#endif
