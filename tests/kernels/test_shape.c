/* test_shape.c - the output shape of every operation, and a sentence for everything that does not
 * fit.  Walks ops.def: an operation without a row that fits and one that does not fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/numerics.h"
#include "kernels/shape.h"

struct shape_case {
    enum op op;
    const char *in[3];  /* "T 8": bf16; "i T": I64; NULL: none */
    const char *weight; /* "16 8" */
    const char *bias;
    struct op_attrs attrs;
    const char *out; /* what comes out, or */
    const char *err; /* what the error says */
};

static const float frequencies[4];

static const struct shape_case cases[] = {
    {OP_embedding, {"i T"}, "100 8", NULL, {.width = 0}, "[T, 8]", NULL},
    {OP_embedding, {"T"}, "100 8", NULL, {.width = 0}, NULL, "input 1 is [T]: expected token ids"},
    {OP_embedding,
     {"i 3"},
     "100 8",
     NULL,
     {.width = 0},
     NULL,
     "input 1 is [3] of I64: expected token ids"},
    {OP_embedding, {"i T"}, NULL, NULL, {.width = 0}, NULL, "there is no weight"},
    {OP_embedding,
     {"i T"},
     "100",
     NULL,
     {.width = 0},
     NULL,
     "the weight is [100] of BF16: expected 2 axes"},
    {OP_embedding, {"i T", "i T"}, "1 1", NULL, {.width = 0}, NULL, "2 inputs: expected 1"},
    {OP_rotary,
     {"i T"},
     NULL,
     NULL,
     {.inv_freq = frequencies, .inv_freq_count = 4},
     "[T, 8]",
     NULL},
    {OP_rotary, {"i T"}, NULL, NULL, {.width = 0}, NULL, "there are no frequencies"},
    {OP_rotary, {"T"}, NULL, NULL, {.width = 0}, NULL, "expected positions"},
    {OP_linear, {"T 8"}, "16 8", NULL, {.width = 0}, "[T, 16]", NULL},
    {OP_linear, {"T 8"}, "16 8", "16", {.width = 0}, "[T, 16]", NULL},
    {OP_linear, {"T 2 8"}, "16 8", NULL, {.width = 0}, "[T, 2, 16]", NULL},
    {OP_linear,
     {"T 8"},
     "16 9",
     NULL,
     {.width = 0},
     NULL,
     "input [T, 8] does not fit weight [16, 9]: 8 is not 9"},
    {OP_linear,
     {"T 8"},
     "16 8",
     "15",
     {.width = 0},
     NULL,
     "the bias is [15] of BF16: expected one BF16"},
    {OP_linear,
     {"T 8"},
     "f 16 8",
     NULL,
     {.width = 0},
     NULL,
     "the weight is [16, 8] of F32: expected 2 axes"},
    {OP_linear, {"T 8"}, "0 8", NULL, {.width = 0}, NULL, "no empty axis"},
    {OP_linear,
     {"2 T 8"},
     "16 8",
     NULL,
     {.width = 0},
     NULL,
     "input 1 is [2, T, 8]: expected [T, ..., K]"},
    {OP_linear, {"2 T L"}, "16 8", NULL, {.width = 0}, NULL, "input 1 is [2, T, L]"},
    {OP_linear, {"T 8"}, NULL, NULL, {.width = 0}, NULL, "there is no weight"},
    {OP_linear, {NULL}, "16 8", NULL, {.width = 0}, NULL, "0 inputs: expected 1"},
    {OP_rms_norm, {"T 8"}, "8", NULL, {.width = 0}, "[T, 8]", NULL},
    {OP_rms_norm, {"T 8"}, "4", NULL, {.width = 4}, "[T, 2, 4]", NULL},
    {OP_rms_norm, {"T 2 4"}, "4", NULL, {.width = 4}, "[T, 2, 4]", NULL},
    {OP_rms_norm, {"T 8"}, "7", NULL, {.width = 0}, NULL, "rows of 8 do not fit a weight of 7"},
    {OP_rms_norm, {"T 8"}, "3", NULL, {.width = 3}, NULL, "width 3 does not divide the input's 8"},
    {OP_rms_norm, {"T 2 8"}, "4", NULL, {.width = 4}, NULL, "width 4 does not equal the input's 8"},
    {OP_rms_norm, {"T 8"}, "4", NULL, {.width = -4}, NULL, "width is -4: expected 1 or more"},
    {OP_rms_norm, {"T 40000"}, "40000", NULL, {.width = 0}, NULL, "rows of 40000: at most 32767"},
    {OP_layer_norm, {"T 8"}, "8", "8", {.eps = 1}, "[T, 8]", NULL},
    {OP_layer_norm, {"T 8"}, "9", "8", {.eps = 1}, NULL, "rows of 8 do not fit a weight of 9"},
    {OP_layer_norm, {"T 8"}, "8", "7", {.eps = 1}, NULL, "the bias is [7] of BF16"},
    {OP_layer_norm, {"T 8"}, "8", NULL, {.eps = 1}, NULL, "there is no bias"},
    {OP_layer_norm, {"T 2 4"}, "4", "4", {.eps = 1}, NULL, "expected [T, C]"},
    {OP_layer_norm,
     {"T 40000"},
     "40000",
     "40000",
     {.eps = 1},
     NULL,
     "rows of 40000: at most 32767"},
    {OP_rope, {"T 8", "T 4", "T 4"}, NULL, NULL, {.width = 4}, "[2, T, 4]", NULL},
    {OP_rope, {"T 2 4", "T 4", "T 4"}, NULL, NULL, {.width = 4}, "[2, T, 4]", NULL},
    {OP_rope,
     {"T 8", "T 4", "T 6"},
     NULL,
     NULL,
     {.width = 4},
     NULL,
     "input 3 is [T, 6]: expected sin"},
    {OP_rope,
     {"T 8", "i T", "T 4"},
     NULL,
     NULL,
     {.width = 4},
     NULL,
     "input 2 is [T] of I64: expected cos"},
    {OP_rope,
     {"T 6", "T 3", "T 3"},
     NULL,
     NULL,
     {.width = 3},
     NULL,
     "width is 3: expected an even number"},
    {OP_rope, {"T 8"}, NULL, NULL, {.width = 4}, NULL, "1 inputs: expected 3"},
    {OP_rope, {"T 12", "T 4", "T 4"}, NULL, NULL, {.width = 6}, "[2, T, 6]", NULL},
    {OP_rope, {"T 8", "T 6", "T 6"}, NULL, NULL, {.width = 4}, NULL, "expected cos"},
    {OP_rope, {"T 8", "T 3", "T 3"}, NULL, NULL, {.width = 4}, NULL, "expected cos"},
    {OP_cache_append, {"2 T 4"}, NULL, NULL, {.width = 4}, "[2, L, 4]", NULL},
    {OP_cache_append, {"T 8"}, NULL, NULL, {.width = 4, .window = 4}, "[2, min(L, 4), 4]", NULL},
    {OP_cache_append, {"T 8"}, NULL, NULL, {.width = 0}, NULL, "width is 0: expected 1 or more"},
    {OP_cache_append, {"T 8"}, NULL, NULL, {.width = 4, .window = -1}, NULL, "window is -1"},
    {OP_cache_append,
     {"2 L 4"},
     NULL,
     NULL,
     {.width = 4},
     NULL,
     "input 1 is [2, L, 4]: expected [G, T, D]"},
    {OP_matmul_qk, {"6 T 4", "2 L 4"}, NULL, NULL, {.width = 0}, "[6, T, L]", NULL},
    {OP_matmul_qk, {"6 T 4", "2 l 4"}, NULL, NULL, {.width = 0}, "[6, T, min(L, 4)]", NULL},
    {OP_matmul_qk,
     {"6 T 4", "4 L 4"},
     NULL,
     NULL,
     {.width = 0},
     NULL,
     "6 query heads cannot share 4 key heads"},
    {OP_matmul_qk,
     {"6 T 4", "2 L 8"},
     NULL,
     NULL,
     {.width = 0},
     NULL,
     "queries of 4 do not fit keys of 8"},
    {OP_matmul_qk,
     {"6 T 4", "2 T 4"},
     NULL,
     NULL,
     {.width = 0},
     NULL,
     "input 2 is [2, T, 4]: expected keys"},
    {OP_matmul_qk,
     {"T 8", "2 L 4"},
     NULL,
     NULL,
     {.width = 0},
     NULL,
     "input 1 is [T, 8]: expected queries"},
    {OP_scale, {"6 T L"}, NULL, NULL, {.by = 2}, "[6, T, L]", NULL},
    {OP_scale, {"i T"}, NULL, NULL, {.by = 2}, NULL, "input 1 is [T] of I64: expected BF16"},
    {OP_causal_mask, {"6 T L"}, NULL, NULL, {.width = 0}, "[6, T, L]", NULL},
    {OP_causal_mask, {"T 8"}, NULL, NULL, {.width = 0}, NULL, "expected scores [H, T, L]"},
    {OP_causal_mask, {"6 T L"}, NULL, NULL, {.window = -2}, NULL, "window is -2"},
    {OP_softmax, {"6 T l"}, NULL, NULL, {.width = 0}, "[6, T, min(L, 4)]", NULL},
    {OP_softmax, {"i T"}, NULL, NULL, {.width = 0}, NULL, "expected BF16"},
    {OP_matmul_pv, {"6 T L", "2 L 4"}, NULL, NULL, {.width = 0}, "[T, 24]", NULL},
    {OP_matmul_pv,
     {"6 T L", "2 l 4"},
     NULL,
     NULL,
     {.width = 0},
     NULL,
     "weights [6, T, L] do not fit values [2, min(L, 4), 4]: not the same L"},
    {OP_matmul_pv,
     {"6 T L", "5 L 4"},
     NULL,
     NULL,
     {.width = 0},
     NULL,
     "6 query heads cannot share 5 key heads"},
    {OP_matmul_pv,
     {"4611686018427387904 T L", "1 L 4"},
     NULL,
     NULL,
     {.width = 0},
     NULL,
     "expected fewer"},
    {OP_sdpa, {"6 T 64", "2 L 64", "2 L 64"}, NULL, NULL, {.by = 1}, "[T, 384]", NULL},
    {OP_sdpa, {"6 T 80", "6 l 80", "6 l 80"}, NULL, NULL, {.window = 4}, "[T, 480]", NULL},
    {OP_sdpa, {"T 384", "2 L 64", "2 L 64"}, NULL, NULL, {.by = 1}, NULL, "expected queries [H, T"},
    {OP_sdpa, {"6 T 64", "2 T 64", "2 L 64"}, NULL, NULL, {.by = 1}, NULL, "expected keys [G, L"},
    {OP_sdpa, {"6 T 64", "2 L 64", "i L"}, NULL, NULL, {.by = 1}, NULL, "expected values [G, L"},
    {OP_sdpa, {"6 T 64", "2 L 64"}, NULL, NULL, {.by = 1}, NULL, "2 inputs: expected 3"},
    {OP_sdpa,
     {"6 T 64", "2 L 64", "2 l 64"},
     NULL,
     NULL,
     {.by = 1},
     NULL,
     "keys [2, L, 64] and values [2, min(L, 4), 64] are not the same shape"},
    {OP_sdpa,
     {"6 T 64", "2 L 32", "2 L 32"},
     NULL,
     NULL,
     {.by = 1},
     NULL,
     "queries of 64 do not fit keys of 32"},
    {OP_sdpa,
     {"6 T 64", "4 L 64", "4 L 64"},
     NULL,
     NULL,
     {.by = 1},
     NULL,
     "6 query heads cannot share 4 key heads"},
    {OP_sdpa,
     {"6 T 60", "2 L 60", "2 L 60"},
     NULL,
     NULL,
     {.by = 1},
     NULL,
     "heads of 60: multiples of 8 from 16 to 256 are known"},
    {OP_sdpa, {"6 T 8", "2 L 8", "2 L 8"}, NULL, NULL, {.by = 1}, NULL, "heads of 8: multiples"},
    {OP_sdpa, {"6 T 512", "2 L 512", "2 L 512"}, NULL, NULL, {.by = 1}, NULL, "heads of 512"},
    {OP_sdpa, {"6 T 64", "2 L 64", "2 L 64"}, NULL, NULL, {.window = -1}, NULL, "window is -1"},
    {OP_sdpa,
     {"576460752303423488 T 16", "1 L 16", "1 L 16"},
     NULL,
     NULL,
     {.by = 1},
     NULL,
     "expected fewer elements"},
    {OP_add, {"T 8", "T 8"}, NULL, NULL, {.width = 0}, "[T, 8]", NULL},
    {OP_add,
     {"T 8", "T 9"},
     NULL,
     NULL,
     {.width = 0},
     NULL,
     "[T, 8] and [T, 9] are not the same shape"},
    {OP_add, {"T 8", "i T"}, NULL, NULL, {.width = 0}, NULL, "input 2 is [T] of I64"},
    {OP_add, {"T 8"}, NULL, NULL, {.width = 0}, NULL, "1 inputs: expected 2"},
    {OP_mul, {"T 8", "T 8"}, NULL, NULL, {.width = 0}, "[T, 8]", NULL},
    {OP_mul,
     {"T 8", "8 T"},
     NULL,
     NULL,
     {.width = 0},
     NULL,
     "[T, 8] and [8, T] are not the same shape"},
    {OP_silu, {"T 8"}, NULL, NULL, {.width = 0}, "[T, 8]", NULL},
    {OP_silu, {"i T"}, NULL, NULL, {.width = 0}, NULL, "expected BF16"},
    {OP_divide, {"T 8"}, NULL, NULL, {.by = 2}, "[T, 8]", NULL},
    {OP_divide, {"i T"}, NULL, NULL, {.by = 2}, NULL, "expected BF16"},
    {OP_tanh, {"T 8"}, NULL, NULL, {.width = 0}, "[T, 8]", NULL},
    {OP_tanh, {"i T"}, NULL, NULL, {.width = 0}, NULL, "expected BF16"},
    {OP_slice, {"T 12"}, NULL, NULL, {.width = 4, .before = 1, .count = 2}, "[T, 8]", NULL},
    {OP_slice, {"T 12"}, NULL, NULL, {.width = 2, .before = 1, .pieces = 2}, "[T, 4]", NULL},
    {OP_slice, {"T 12"}, NULL, NULL, {.width = 4, .before = 3}, NULL, "1 units of 4 behind 3"},
    {OP_slice, {"T 12"}, NULL, NULL, {.width = 2, .pieces = 5}, NULL, "of 12 in 5 pieces"},
    {OP_slice, {"T 12"}, NULL, NULL, {.width = 0}, NULL, "are not in a row"},
    {OP_slice, {"T 3 4"}, NULL, NULL, {.width = 4}, NULL, "expected [T, C]"},
    {OP_gelu_tanh, {"T 8"}, NULL, NULL, {.width = 0}, "[T, 8]", NULL},
    {OP_gelu_tanh, {"6 T L"}, NULL, NULL, {.width = 0}, NULL, "expected [T, ..., C] of BF16"},
};

enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static struct shape parse_shape(const char *text)
{
    struct shape s = {.dtype = DTYPE_BF16};
    char copy[64], *rest = copy;

    snprintf(copy, sizeof(copy), "%s", text);
    for (char *word; (word = strtok_r(rest, " ", &rest));) {
        if (*word == 'i')
            s.dtype = DTYPE_I64;
        else if (*word == 'T')
            s.at[s.rank++] = (struct extent){EXTENT_TOKENS, 0};
        else if (*word == 'L')
            s.at[s.rank++] = (struct extent){EXTENT_KEYS, 0};
        else if (*word == 'l')
            s.at[s.rank++] = (struct extent){EXTENT_KEYS, 4};
        else
            s.at[s.rank++] = (struct extent){EXTENT_CONST, strtoll(word, NULL, 10)};
    }
    return s;
}

static struct tensor parse_tensor(const char *text)
{
    const enum dtype dtype = *text == 'f' ? DTYPE_F32 : DTYPE_BF16;
    const struct shape s = parse_shape(*text == 'f' ? text + 1 : text);
    int64_t shape[TENSOR_MAX_RANK];

    for (int i = 0; i < s.rank; i++)
        shape[i] = s.at[i].n;
    return tensor_make(dtype, s.rank, shape, NULL);
}

static void run_case(const struct shape_case *c)
{
    struct shape in[3], out;
    const struct shape *given[OP_INPUTS] = {NULL};
    struct tensor weight, bias;
    const struct tensor *const weights[OP_WEIGHTS] = {c->weight ? &weight : NULL,
                                                      c->bias ? &bias : NULL};
    struct error err = {0};
    char text[160];
    int rc;

    for (int i = 0; i < 3; i++)
        if (c->in[i]) {
            in[i] = parse_shape(c->in[i]);
            given[i] = &in[i];
        }
    if (c->weight)
        weight = parse_tensor(c->weight);
    if (c->bias)
        bias = parse_tensor(c->bias);
    rc = shape_of(c->op, &c->attrs, given, weights, &out, &err);
    if (c->err) {
        if (!rc)
            fail_msg("%s: fits, expected: %s", op_name(c->op), c->err);
        assert_int_equal(err.code, 400);
        if (!strstr(err.text, c->err) || strncmp(err.text, op_name(c->op), strlen(op_name(c->op))))
            fail_msg("\"%s\" does not say \"%s: ...%s\"", err.text, op_name(c->op), c->err);
        return;
    }
    if (rc)
        fail_msg("%s", err.text);
    assert_string_equal(shape_text(&out, text, sizeof(text)), c->out);
    assert_int_equal(out.dtype, DTYPE_BF16);
}

static void test_rules(void **state)
{
    int fits[OP_COUNT] = {0}, misfits[OP_COUNT] = {0};

    (void)state;
    for (int i = 0; i < CASES; i++) {
        run_case(&cases[i]);
        fits[cases[i].op] += !cases[i].err;
        misfits[cases[i].op] += cases[i].err != NULL;
    }
    for (int op = 0; op < OP_COUNT; op++)
        if (!fits[op] || !misfits[op])
            fail_msg("%s: no case that %s", op_name((enum op)op),
                     fits[op] ? "does not fit" : "fits");
    print_message("%d shapes\n", CASES);
}

static void test_extents(void **state)
{
    const struct extent constant = {EXTENT_CONST, 7}, tokens = {EXTENT_TOKENS, 0};
    const struct extent keys = {EXTENT_KEYS, 0}, window = {EXTENT_KEYS, 4};

    (void)state;
    assert_int_equal(extent_resolve(&constant, &(struct op_scope){.past = 10, .tokens = 3}), 7);
    assert_int_equal(extent_resolve(&tokens, &(struct op_scope){.past = 10, .tokens = 3}), 3);
    assert_int_equal(extent_resolve(&keys, &(struct op_scope){.past = 10, .tokens = 3}), 13);
    assert_int_equal(extent_resolve(&window, &(struct op_scope){.past = 10, .tokens = 3}), 6);
    assert_int_equal(extent_resolve(&window, &(struct op_scope){.past = 2, .tokens = 1}), 3);
    assert_int_equal(extent_resolve(&window, &(struct op_scope){.past = 0, .tokens = 9}), 9);
}

static void test_resolve(void **state)
{
    const struct shape s = parse_shape("14 T L");
    const struct tensor t = shape_resolve(&s, &(struct op_scope){.past = 5, .tokens = 2}, NULL);

    (void)state;
    assert_int_equal(t.rank, 3);
    assert_int_equal(t.shape[1], 2);
    assert_int_equal(t.shape[2], 7);
    assert_int_equal(t.stride[0], 14);
    assert_int_equal(t.stride[1], 7);
    assert_true(tensor_is_contiguous(&t));
}

static void test_token_axis(void **state)
{
    static const struct {
        const char *shape;
        int axis;
    } axes[] = {{"T 8", 0}, {"14 T 64", 1}, {"14 T L", 1}, {"2 L 64", 1}, {"8 9", -1}};

    (void)state;
    for (size_t i = 0; i < sizeof(axes) / sizeof(axes[0]); i++) {
        const struct shape s = parse_shape(axes[i].shape);

        assert_int_equal(shape_token_axis(&s), axes[i].axis);
    }
}

/* A text that does not fit is cut, never written past its end. */
static void test_text_is_cut(void **state)
{
    const struct shape s = parse_shape("1000000 T l 5");
    char text[9] = "........";

    (void)state;
    for (size_t size = 1; size < sizeof(text); size++) {
        memset(text, '.', sizeof(text));
        shape_text(&s, text, size);
        assert_int_equal(strlen(text), size - 1);
        assert_int_equal(text[size], '.');
    }
}

static void test_names(void **state)
{
    const struct attr_spec *spec;
    int count;

    (void)state;
    for (int i = 0; i < OP_COUNT; i++) {
        assert_int_equal(op_find(op_name((enum op)i)), i);
        assert_true(strlen(op_mirror((enum op)i)) > 0);
        assert_true(op_inputs_least((enum op)i) <= op_inputs_most((enum op)i));
    }
    assert_int_equal(op_find("lineal"), -1);
    assert_null(op_weight(OP_add, 0));
    assert_null(op_weight(OP_linear, 2));
    assert_string_equal(op_weight(OP_linear, 1)->suffix, "bias");
    assert_int_equal(
        weight_extent(op_weight(OP_embedding, 0), &(struct op_attrs){.rows = 3, .out = 5}, 1), 5);
    assert_int_equal(weight_extent(op_weight(OP_rms_norm, 0), &(struct op_attrs){.out = 5}, 0), 0);
    assert_true(op_has(OP_rope, TRAIT_HEADS) && op_has(OP_cache_append, TRAIT_CACHED));
    assert_false(op_has(OP_softmax, TRAIT_ROW_WISE));
    spec = attr_specs(&count);
    for (int i = 0; i < count; i++)
        assert_ptr_equal(attr_find(spec[i].op, spec[i].key), &spec[i]);
    assert_null(attr_find(OP_add, "eps"));
    spec = attr_find(OP_rotary, "part");
    assert_non_null(spec);
    assert_int_equal(attr_word(spec, "sin"), ROTARY_SIN);
    assert_int_equal(attr_word(spec, "tan"), -1);
    assert_int_equal(attr_word(spec, "co"), -1);
    assert_int_equal(attr_word(spec, "cos sin"), -1);
    assert_int_equal(attr_word(spec, ""), -1);
    assert_int_equal(attr_word(attr_find(OP_scale, "by"), "sin"), -1);
}

/* What must be true of every row. */
static void check_numerics(const struct numerics *n)
{
    const int on_cpu = numerics_runs_on(n, "cpu"), on_cuda = numerics_runs_on(n, "cuda:1");

    assert_ptr_equal(numerics_find(n->name), n);
    assert_true(strlen(n->about) > 0);
    assert_true(on_cpu || on_cuda);
    assert_true(n->lanes == 8 || n->lanes == 16);
    assert_true(n->rotary_block > 0);
    assert_int_equal(n->kernels == KERNELS_TORCH_CPU, n->rule != NULL);
    if (n->host)
        assert_true(numerics_runs_on(numerics_find(n->host), "cpu"));
}

static void test_numerics(void **state)
{
    const struct numerics *n;
    int count = 0;

    (void)state;
    for (; (n = numerics_at(count)); count++)
        check_numerics(n);
    assert_true(count >= 3);
    assert_null(numerics_at(-1));
    assert_null(numerics_find("torch-cpu"));
    assert_ptr_equal(numerics_at(0), numerics_find("torch-cpu/avx512_bf16"));
    assert_false(numerics_runs_on(numerics_find("torch-cuda"), "cpu"));
    assert_string_equal(numerics_find("torch-cuda")->host, "torch-cpu/avx512_bf16");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),       cmocka_unit_test(test_extents),
        cmocka_unit_test(test_resolve),     cmocka_unit_test(test_token_axis),
        cmocka_unit_test(test_text_is_cut), cmocka_unit_test(test_names),
        cmocka_unit_test(test_numerics),
    };

    return cmocka_run_group_tests_name("kernels/shape", tests, NULL, NULL);
}
