/* test_cuda_cublas.c - what torch-cuda asks of cuBLAS, and how it would launch a mean and a
 * softmax, against recordings of PyTorch's own host code (traces/README.md): every argument, in
 * order.  The calls are skipped without a device.
 *
 * One layer's products run as the family files list them; nothing is computed, so weights are
 * addresses and no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/base/bf16.h"
#include "kernels/cuda/aten/aten.h"
#include "kernels/cuda/aten/reduce.h"
#include "kernels/cuda/backend_cuda.h"

enum { LINE = 512 };

/* ---- the recordings ---- */

static FILE *open_trace(const char *name)
{
    char command[160];
    FILE *trace;

    snprintf(command, sizeof(command), "gzip -dc tests/kernels/traces/%s.txt.gz", name);
    trace = popen(command, "r");
    assert_non_null(trace);
    return trace;
}

static void close_trace(FILE *trace)
{
    assert_int_equal(pclose(trace), 0);
}

/* The mean's launch: threads, blocks, and shared memory where sums cross warps. */
static void check_mean(int64_t rows, int64_t n, const char *launch)
{
    struct mean_launch mean;
    char want[LINE];

    assert_int_equal(mean_config(rows, n, &mean), 0);
    snprintf(want, sizeof(want), "K %lld,1,1 %d,%d,1 %d reduce_kernel vt0,input_vec_size=%d,%d\n",
             (long long)mean.blocks, mean.block_x, mean.block_y, mean.shared_bytes,
             MEAN_ACCUMULATORS, MEAN_ACCUMULATORS);
    if (strcmp(want, launch))
        fail_msg("mean of [%lld, %lld]: %sPyTorch: %s", (long long)rows, (long long)n, want,
                 launch);
    assert_true(mean.vectors);
    assert_int_equal(mean.step, mean.split ? mean.block_x * mean.block_y : mean.block_x);
}

static void check_softmax(int64_t length, const char *launch)
{
    static const char *const names[] = {"softmax_warp_forward", "cunn_SoftMaxForwardReg",
                                        "cunn_SoftMaxForwardSmem", "cunn_SoftMaxForward"};
    const struct softmax_launch plan = softmax_plan(length);
    const int variant =
        plan.kind == SOFTMAX_WARP || plan.kind == SOFTMAX_REGISTER ? plan.variant : 4;
    char want[LINE];

    snprintf(want, sizeof(want), "K %d,1,1 %d,%d,1 %d %s %d\n",
             (14 * 3 + plan.rows_per_block - 1) / plan.rows_per_block, plan.block_x, plan.block_y,
             plan.shared_bytes, names[plan.kind], variant);
    if (strcmp(want, launch))
        fail_msg("softmax of %lld: %sPyTorch: %s", (long long)length, want, launch);
}

static void launches(void **state)
{
    FILE *trace = open_trace("mean_softmax");
    char line[LINE], launch[LINE];
    long long rows, n;
    int means = 0, softmaxes = 0;

    (void)state;
    while (fgets(line, sizeof(line), trace)) {
        assert_non_null(fgets(launch, sizeof(launch), trace));
        if (sscanf(line, "MEAN %lld %lld", &rows, &n) == 2) {
            check_mean(rows, n, launch);
            means++;
        } else {
            assert_int_equal(sscanf(line, "SM %lld", &n), 1);
            check_softmax(n, launch);
            softmaxes++;
        }
    }
    close_trace(trace);
    assert_int_equal(means, 552);
    assert_int_equal(softmaxes, 29);
    print_message("launches equal to PyTorch's: %d means, %d softmaxes\n", means, softmaxes);
}

/* What PyTorch would split further. */
static void means_that_are_refused(void **state)
{
    struct mean_launch mean;

    (void)state;
    assert_int_equal(mean_config(1, 1 << 17, &mean), -1);
    assert_int_equal(mean_config(0, 128, &mean), -1);
    assert_int_equal(mean_config(1, 0, &mean), -1);
    assert_int_equal(mean_config((int64_t)1 << 22, 128, &mean), -1);
    assert_int_equal(mean_config(((int64_t)1 << 22) - 1, 128, &mean), 0);
}

/* ---- a forward ---- */

struct model_shape {
    const char *trace;
    int64_t hidden, intermediate, heads, shared_heads, width, vocabulary;
    int bias; /* of q, k and v */
};

static const struct model_shape shapes[] = {{"qwen2_0.5b_1_2_128", 896, 4864, 14, 2, 64, 151936, 1},
                                            {"qwen2_0.5b_37", 896, 4864, 14, 2, 64, 151936, 1},
                                            {"llama3.2_1b_1_64", 2048, 8192, 32, 8, 64, 128256, 0}};

enum { CAPACITY = 160, ROOM = 1 << 20 };

struct forward {
    const struct model_shape *shape;
    struct backend *backend;
    struct op_scope scope;
    bf16 *weight, *in, *out; /* of the device: ROOM elements, as only copies read and write them */
};

static void linear(const struct forward *f, int64_t out, int64_t in, int bias)
{
    const int64_t x_shape[] = {f->scope.tokens, in}, w_shape[] = {out, in};
    const int64_t y_shape[] = {f->scope.tokens, out};
    const struct tensor x = tensor_make(DTYPE_BF16, 2, x_shape, f->in);
    struct tensor y = tensor_make(DTYPE_BF16, 2, y_shape, f->out);
    const struct weight w = {tensor_make(DTYPE_BF16, 2, w_shape, f->weight), NULL};
    const struct weight b = {tensor_make(DTYPE_BF16, 1, &out, f->weight), NULL};
    const struct op_attrs attrs = {.bias = bias};
    const struct op_call call = {.backend = f->backend,
                                 .in = {&x},
                                 .weight = &w,
                                 .bias = bias ? &b : NULL,
                                 .out = &y,
                                 .attrs = &attrs,
                                 .scope = f->scope};

    assert_int_equal(f->backend->op[OP_linear](&call), 0);
}

static void attention(const struct forward *f)
{
    const struct model_shape *s = f->shape;
    const int64_t T = f->scope.tokens, L = f->scope.past + T;
    const int64_t q_shape[] = {s->heads, T, s->width}, scores[] = {s->heads, T, L};
    const int64_t cache[] = {s->shared_heads, CAPACITY, s->width},
                  y_shape[] = {T, s->heads * s->width};
    const struct tensor q = tensor_make(DTYPE_BF16, 3, q_shape, f->in);
    const struct tensor whole = tensor_make(DTYPE_BF16, 3, cache, f->weight);
    const struct tensor keys = tensor_slice(&whole, 1, 0, L);
    struct tensor weights = tensor_make(DTYPE_BF16, 3, scores, f->out);
    struct tensor context = tensor_make(DTYPE_BF16, 2, y_shape, f->in);
    const struct op_attrs attrs = {0};
    struct op_call call = {.backend = f->backend,
                           .in = {&q, &keys},
                           .out = &weights,
                           .attrs = &attrs,
                           .scope = f->scope};

    assert_int_equal(f->backend->op[OP_matmul_qk](&call), 0);
    call.in[0] = &weights;
    call.out = &context;
    assert_int_equal(f->backend->op[OP_matmul_pv](&call), 0);
}

static void forward(const struct forward *f)
{
    const struct model_shape *s = f->shape;

    linear(f, s->heads * s->width, s->hidden, s->bias);
    linear(f, s->shared_heads * s->width, s->hidden, s->bias);
    linear(f, s->shared_heads * s->width, s->hidden, s->bias);
    attention(f);
    linear(f, s->hidden, s->heads * s->width, 0);
    linear(f, s->intermediate, s->hidden, 0);
    linear(f, s->intermediate, s->hidden, 0);
    linear(f, s->hidden, s->intermediate, 0);
    linear(f, s->vocabulary, s->hidden, 0);
}

/* The product of inner size 1 that makes the rotary table is a multiplication in aten_rotary. */
static int is_rotary(const char *line)
{
    return !strncmp(line, "B cublasSgemm ", 14);
}

static int compare_logs(const char *name, FILE *trace, FILE *log)
{
    char want[LINE], got[LINE];
    int lines = 0;

    while (fgets(want, sizeof(want), trace)) {
        if (want[0] == '=' || is_rotary(want))
            continue;
        if (!fgets(got, sizeof(got), log))
            fail_msg("%s, call %d: none; PyTorch: %s", name, lines, want);
        if (strcmp(got, want))
            fail_msg("%s, call %d: %sPyTorch: %s", name, lines, got, want);
        lines++;
    }
    assert_null(fgets(got, sizeof(got), log));
    return lines;
}

static struct backend *open_recording(const char *path)
{
    struct error err = {0};
    struct backend *b = backend_cuda_open("cuda:0", numerics_find("torch-cuda"), &err);

    if (!b) {
        print_message("skip: %s\n", err.text);
        skip();
    }
    aten_close(b);
    setenv("SAMEBIT_CUBLAS_LOG", path, 1);
    setenv("SAMEBIT_CUBLAS_COMPUTE", "0", 1);
    assert_int_equal(aten_open(b, &err), 0);
    return b;
}

/* Prompts and decoded tokens, as the trace has them. */
static void run_trace(const struct model_shape *shape, struct forward *f)
{
    FILE *trace = open_trace(shape->trace);
    char line[LINE];
    long long tokens;

    while (fgets(line, sizeof(line), trace)) {
        if (sscanf(line, "==== prefill S=%lld", &tokens) == 1)
            f->scope = (struct op_scope){.tokens = tokens};
        else if (sscanf(line, "==== decode after %lld", &tokens) == 1)
            f->scope = (struct op_scope){.past = tokens, .tokens = 1};
        else
            continue;
        forward(f);
    }
    close_trace(trace);
}

static int check_shape(const struct model_shape *shape)
{
    char path[] = "/tmp/samebit-cublas-XXXXXX";
    const int descriptor = mkstemp(path);
    struct forward f = {.shape = shape};
    FILE *trace = open_trace(shape->trace), *log;
    bf16 *memory[3];
    int lines;

    assert_true(descriptor >= 0);
    f.backend = open_recording(path);
    for (int i = 0; i < 3; i++)
        assert_non_null(memory[i] = f.backend->alloc(f.backend, ROOM * sizeof(bf16)));
    f.weight = memory[0];
    f.in = memory[1];
    f.out = memory[2];
    run_trace(shape, &f);
    aten_close(f.backend);
    for (int i = 0; i < 3; i++)
        f.backend->free(f.backend, memory[i]);
    backend_cuda_close(f.backend);
    log = fdopen(descriptor, "r");
    assert_non_null(log);
    lines = compare_logs(shape->trace, trace, log);
    fclose(log);
    close_trace(trace);
    unlink(path);
    return lines;
}

static void calls(void **state)
{
    int lines = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        lines += check_shape(&shapes[i]);
    assert_int_equal(lines, 120);
    print_message("calls of cuBLAS equal to PyTorch's, all arguments: %d\n", lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launches),
        cmocka_unit_test(means_that_are_refused),
        cmocka_unit_test(calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
