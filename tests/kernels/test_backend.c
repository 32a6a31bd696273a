/* test_backend.c - opening a backend, its memory, and copies between dtypes and strides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "kernels/backend.h"
#include "kernels/base/bf16.h"
#include "kernels/cpu/versions.h"

static struct backend *cpu;

static int open_cpu(void **state)
{
    struct error err = {0};

    (void)state;
    unsetenv("SAMEBIT_ISA");
    cpu = backend_open("cpu", numerics_find("torch-cpu/avx2"), NULL, 0, &err);
    return cpu ? 0 : -1;
}

static int close_cpu(void **state)
{
    (void)state;
    backend_close(cpu);
    return 0;
}

static void test_names_what_is_known(void **state)
{
    struct error err = {0};

    (void)state;
    assert_null(backend_open("tpu", numerics_find("torch-cpu/avx2"), NULL, 1, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "device");
    assert_non_null(strstr(err.text, "\"tpu\""));
    assert_non_null(strstr(err.text, "\"cpu\""));
    err = (struct error){0};
    assert_null(backend_open("cpu", numerics_find("torch-cpu/avx2"), "sse9", 1, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "isa");
    assert_non_null(strstr(err.text, "\"plain\""));
    err = (struct error){0};
    assert_null(backend_open("cpu", numerics_find("torch-cpu/avx2"), "plain", -1, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "threads");
}

/* The environment chooses where nobody else does. */
static void test_version_of_the_environment(void **state)
{
    struct error err = {0};
    struct backend *b;

    (void)state;
    setenv("SAMEBIT_ISA", "plain", 1);
    b = backend_open("cpu", numerics_find("torch-cpu/avx2"), NULL, 1, &err);
    assert_non_null(b);
    assert_string_equal(b->isa, "plain");
    backend_close(b);
    setenv("SAMEBIT_ISA", "sse9", 1);
    b = backend_open("cpu", numerics_find("torch-cpu/avx2"), "plain", 1, &err);
    assert_non_null(b);
    backend_close(b);
    assert_null(backend_open("cpu", numerics_find("torch-cpu/avx2"), NULL, 1, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "isa");
    assert_non_null(strstr(err.text, "SAMEBIT_ISA \"sse9\""));
    assert_non_null(strstr(err.text, "\"plain\""));
    setenv("SAMEBIT_ISA", "", 1);
    b = backend_open("cpu", numerics_find("torch-cpu/avx2"), NULL, 1, &err);
    assert_non_null(b);
    assert_string_equal(b->isa, cpu->isa);
    backend_close(b);
    unsetenv("SAMEBIT_ISA");
}

/* Of the versions that there are for this kind of CPU, the best that this one has. */
static void test_versions(void **state)
{
    int i = 0;

    (void)state;
    while (!version_runs(version_at(i)->name))
        i++;
    assert_string_equal(version_at(i)->name, cpu->isa);
    while (version_at(i + 1))
        i++;
    assert_string_equal(version_at(i)->name, "plain");
    assert_false(version_runs("sse9"));
}

static void test_refuses_what_needs_a_gpu(void **state)
{
    struct error err = {0};

    (void)state;
    assert_null(backend_open("cpu", numerics_find("torch-cuda"), NULL, 1, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "numerics");
    assert_non_null(strstr(err.text, "\"cuda:N\""));
#ifndef SAMEBIT_CUDA
    err = (struct error){0};
    assert_null(backend_open("cuda:0", numerics_find("torch-cpu/avx2"), NULL, 0, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, "device");
    assert_non_null(strstr(err.text, "built without CUDA: make CUDA=1"));
#endif
}

static void test_opened(void **state)
{
    (void)state;
    assert_string_equal(cpu->device, "cpu");
    assert_ptr_equal(cpu->numerics, numerics_find("torch-cpu/avx2"));
    assert_true(cpu->threads >= 1);
    assert_non_null(cpu->isa);
    for (int i = 0; i < OP_COUNT; i++)
        assert_non_null(cpu->op[i]);
}

static void test_memory(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 64, 4097, 3 << 20};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned char *p = cpu->alloc(cpu, sizes[i]);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 0x5a, sizes[i]);
        cpu->free(cpu, p);
    }
    assert_null(cpu->alloc(cpu, SIZE_MAX));
    assert_null(cpu->alloc(cpu, SIZE_MAX / 2));
    cpu->free(cpu, NULL);
}

/* Several at once, in an order of giving back that is not that of taking. */
static void test_memory_is_not_shared(void **state)
{
    enum { AREAS = 5, ROUNDS = 3 };
    unsigned char *p[AREAS];

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < AREAS; i++) {
            const size_t bytes = (size_t)(i + 1) << (20 + round);

            p[i] = cpu->alloc(cpu, bytes);
            assert_non_null(p[i]);
            memset(p[i], i, bytes);
        }
        for (int i = 0; i < AREAS; i++)
            for (size_t k = 0; k < (size_t)(i + 1) << (20 + round); k += 4093)
                assert_int_equal(p[i][k], i);
        for (int i = 0; i < AREAS; i++)
            cpu->free(cpu, p[i * 2 % AREAS]);
    }
}

/* ---- weights ---- */

struct passed {
    const char *next; /* the first byte that has not passed */
    int parts;
};

static void on_passed(void *user, const void *data, size_t bytes)
{
    struct passed *passed = user;

    assert_ptr_equal(data, passed->next);
    passed->next += bytes;
    passed->parts++;
}

static bf16 *numbers(int64_t count)
{
    bf16 *data = malloc((size_t)count * sizeof(*data));

    for (int64_t i = 0; i < count; i++)
        data[i] = (bf16)(i * 40503 >> 3);
    return data;
}

/* Every row of a table that embedding reads out of the weight w. */
static void assert_rows(struct backend *b, const struct weight *w, const bf16 *rows, int64_t count,
                        int64_t width)
{
    const int64_t shape[] = {count, width};
    int64_t *id = malloc((size_t)count * sizeof(*id));
    bf16 *got = malloc((size_t)(count * width) * sizeof(*got));
    struct tensor in = tensor_make(DTYPE_I64, 1, &count, id);
    struct tensor out = tensor_make(DTYPE_BF16, 2, shape, got);
    const struct op_attrs attrs = {.by = 0};
    struct op_call call = {.backend = b, .in = {&in}, .weight = w, .out = &out, .attrs = &attrs};

    for (int64_t i = 0; i < count; i++)
        id[i] = count - 1 - i;
    assert_int_equal(b->op[OP_embedding](&call), 0);
    for (int64_t i = 0; i < count; i++)
        assert_memory_equal(got + i * width, rows + id[i] * width, (size_t)width * sizeof(bf16));
    free(id);
    free(got);
}

/* One tensor for embedding and for linear, opened in either order: one form serves both. */
static void table_case(int64_t count, int64_t width, enum op first, enum op second)
{
    const int64_t shape[] = {count, width};
    struct backend *b = backend_open("cpu", numerics_find("torch-cpu/avx512_bf16"), NULL, 2, NULL);
    bf16 *rows = numbers(count * width), *copy = numbers(count * width);
    const struct tensor plain = tensor_make(DTYPE_BF16, 2, shape, rows);
    struct passed passed = {(const char *)rows, 0};
    struct weight w = {0};

    assert_non_null(b);
    assert_int_equal(b->weight_open(b, first, &plain, on_passed, &passed, &w, NULL), 0);
    assert_int_equal(b->weight_open(b, second, &plain, on_passed, &passed, &w, NULL), 0);
    if (w.packed) {
        assert_ptr_equal(passed.next, rows + count * width);
        assert_true(passed.parts > (int)(tensor_bytes(&plain) >> 25));
    }
    if (!w.plain.data)
        memset(rows, 0xff, tensor_bytes(&plain)); /* nobody reads it any more */
    assert_int_equal(w.plain.data == NULL, w.packed && count * width > 4096);
    assert_rows(b, &w, copy, count, width);
    b->weight_close(b, &w);
    backend_close(b);
    free(rows);
    free(copy);
}

static void test_table_of_two_ops(void **state)
{
    static const int64_t sizes[][2] = {{1, 1},    {64, 64},  {65, 63},    {63, 65},
                                       {200, 33}, {129, 96}, {300000, 64}};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        table_case(sizes[i][0], sizes[i][1], OP_embedding, OP_linear);
        table_case(sizes[i][0], sizes[i][1], OP_linear, OP_embedding);
    }
}

/* Weights lie side by side; one that is closed leaves the others alone. */
static void test_weights_are_not_shared(void **state)
{
    enum { WEIGHTS = 40 };
    static const int64_t shape[] = {70, 900};
    struct backend *b = backend_open("cpu", numerics_find("torch-cpu/avx512_bf16"), NULL, 1, NULL);
    struct weight w[WEIGHTS] = {0};
    bf16 *rows = numbers(70 * 900 + WEIGHTS);

    (void)state;
    for (int i = 0; i < WEIGHTS; i++) {
        const struct tensor plain = tensor_make(DTYPE_BF16, 2, shape, rows + i);

        assert_int_equal(b->weight_open(b, OP_linear, &plain, NULL, NULL, &w[i], NULL), 0);
    }
    for (int i = 0; i < WEIGHTS; i += 2)
        b->weight_close(b, &w[i]);
    for (int i = 1; i < WEIGHTS; i += 2) {
        assert_rows(b, &w[i], rows + i, 70, 900);
        b->weight_close(b, &w[i]);
    }
    backend_close(b);
    free(rows);
}

/* ---- copies ---- */

static void test_copy_of_strided(void **state)
{
    bf16 from[2 * 5 * 3], to[2 * 4 * 3], host[2 * 2 * 3];
    const int64_t from_shape[] = {2, 5, 3}, to_shape[] = {2, 4, 3};
    struct tensor src = tensor_make(DTYPE_BF16, 3, from_shape, from);
    struct tensor dst = tensor_make(DTYPE_BF16, 3, to_shape, to);

    (void)state;
    for (int i = 0; i < 30; i++)
        from[i] = (bf16)i;
    memset(to, 0xff, sizeof(to));
    src = tensor_slice(&src, 1, 3, 2);
    dst = tensor_slice(&dst, 1, 1, 2);
    assert_int_equal(cpu->copy(cpu, &dst, &src), 0);
    for (int g = 0; g < 2; g++)
        for (int t = 0; t < 4; t++)
            for (int d = 0; d < 3; d++)
                assert_int_equal(to[(g * 4 + t) * 3 + d],
                                 t == 1 || t == 2 ? from[(g * 5 + t + 2) * 3 + d] : 0xffff);
    assert_int_equal(cpu->read(cpu, host, &dst), 0);
    for (int i = 0; i < 12; i++)
        assert_int_equal(host[i], from[i / 6 * 15 + 9 + i % 6]);
}

static void test_copy_rounds_to_bf16(void **state)
{
    static const float values[] = {0.0f,      -0.0f,     1.0f,    1.00390625f, 1.01171875f,
                                   0x1p-133f, 0x1p-134f, 3.4e38f, INFINITY,    -INFINITY,
                                   NAN,       0x1p-130f, -1e-40f, 65504.0f,    1.0000001f};
    enum { N = sizeof(values) / sizeof(values[0]) };
    const int64_t shape[] = {N};
    bf16 out[N];
    const struct tensor dst = tensor_make(DTYPE_BF16, 1, shape, out);
    const struct tensor src = tensor_make(DTYPE_F32, 1, shape, (void *)(uintptr_t)values);

    (void)state;
    assert_int_equal(cpu->copy(cpu, &dst, &src), 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(out[i], bf16_from_f32(values[i]));
    assert_int_equal(out[3], 0x3f80);
    assert_int_equal(out[4], 0x3f82);
    assert_int_equal(out[7], 0x7f80);
}

/* The value of a half, from its definition. */
static float half_value(uint16_t h)
{
    const int exponent = h >> 10 & 31, low = h & 1023;
    const double size = exponent == 31 ? (low ? (double)NAN : (double)INFINITY)
                        : exponent     ? ldexp(1024 + low, exponent - 25)
                                       : ldexp(low, -24);

    return (float)(h & 0x8000 ? -size : size);
}

static void test_copy_of_every_half(void **state)
{
    static uint16_t halves[65536];
    static bf16 out[65536];
    const int64_t shape[] = {65536};
    const struct tensor dst = tensor_make(DTYPE_BF16, 1, shape, out);
    const struct tensor src = tensor_make(DTYPE_F16, 1, shape, halves);

    (void)state;
    for (int i = 0; i < 65536; i++)
        halves[i] = (uint16_t)i;
    assert_int_equal(cpu->copy(cpu, &dst, &src), 0);
    for (int i = 0; i < 65536; i++)
        assert_int_equal(out[i], bf16_from_f32(half_value((uint16_t)i)));
}

static void test_copy_refuses(void **state)
{
    int64_t ids[4] = {1, 2, 3, 4}, back[4];
    bf16 x[4];
    const struct tensor tokens = tensor_make(DTYPE_I64, 1, (int64_t[]){4}, ids);
    const struct tensor four = tensor_make(DTYPE_BF16, 1, (int64_t[]){4}, x);
    const struct tensor three = tensor_make(DTYPE_BF16, 1, (int64_t[]){3}, x);
    const struct tensor square = tensor_make(DTYPE_BF16, 2, (int64_t[]){2, 2}, x);

    (void)state;
    assert_int_equal(cpu->copy(cpu, &four, &tokens), -1);
    assert_int_equal(cpu->copy(cpu, &four, &three), -1);
    assert_int_equal(cpu->copy(cpu, &four, &square), -1);
    assert_int_equal(cpu->read(cpu, back, &tokens), 0);
    assert_memory_equal(back, ids, sizeof(ids));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_what_is_known),
        cmocka_unit_test(test_version_of_the_environment),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_refuses_what_needs_a_gpu),
        cmocka_unit_test(test_opened),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_memory_is_not_shared),
        cmocka_unit_test(test_table_of_two_ops),
        cmocka_unit_test(test_weights_are_not_shared),
        cmocka_unit_test(test_copy_of_strided),
        cmocka_unit_test(test_copy_rounds_to_bf16),
        cmocka_unit_test(test_copy_of_every_half),
        cmocka_unit_test(test_copy_refuses),
    };

    return cmocka_run_group_tests_name("kernels/backend", tests, open_cpu, close_cpu);
}
