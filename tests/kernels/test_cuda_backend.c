/* test_cuda_backend.c - a CUDA device as the engine sees it: opening, memory, copies, values on
 * their way out, and the operations that move rows or make tables.  Skipped without one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/base/bf16.h"
#include "kernels/rotary.h"

static struct backend *cuda, *cpu; /* cuda: NULL where there is none */

static int open_both(void)
{
    struct error err = {0};

    cuda = backend_open("cuda:0", numerics_find("torch-cpu/avx512_bf16"), NULL, 0, &err);
    if (!cuda)
        printf("skip: %s\n", err.text);
    err = (struct error){0};
    cpu = backend_open("cpu", numerics_find("torch-cpu/avx512_bf16"), NULL, 1, &err);
    return cpu && cuda;
}

static void close_both(void)
{
    backend_close(cuda);
    backend_close(cpu);
}

static int enter(void **state)
{
    (void)state;
    return cuda->enter(cuda);
}

static void there_is_no_device(void **state)
{
    (void)state;
    skip();
}

/* ---- tensors ---- */

static bf16 *numbers(int64_t n)
{
    bf16 *x = malloc((size_t)(n + 1) * sizeof(*x));

    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (bf16)((i * 2654435761) >> 13 & 0x7f7f);
    return x;
}

/* A contiguous tensor of the device, with these elements or zeros. */
static struct tensor on_device(enum dtype dtype, int rank, const int64_t *shape, const void *from)
{
    struct tensor t = tensor_make(dtype, rank, shape, NULL), src = t;

    t.data = cuda->alloc(cuda, tensor_bytes(&t));
    assert_non_null(t.data);
    src.data = (void *)(uintptr_t)from;
    if (from)
        assert_int_equal(cuda->copy(cuda, &t, &src), 0);
    return t;
}

static void assert_holds(const struct tensor *t, const void *want)
{
    char *host = malloc(tensor_bytes(t) + 1);

    assert_int_equal(cuda->read(cuda, host, t), 0);
    assert_memory_equal(host, want, tensor_bytes(t));
    free(host);
}

/* ---- opening ---- */

static void refuses(const char *device, const char *isa, int threads, const char *param,
                    const char *says)
{
    struct error err = {0};

    assert_null(backend_open(device, numerics_find("torch-cpu/avx2"), isa, threads, &err));
    assert_int_equal(err.code, 400);
    assert_string_equal(err.param, param);
    if (!strstr(err.text, says))
        fail_msg("%s: %s", device, err.text);
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    refuses("cuda:9999", NULL, 0, "device", "there is no cuda:9999: this machine has ");
    refuses("cuda:x", NULL, 0, "device", "\"cuda:x\"");
    refuses("cuda:", NULL, 0, "device", "\"cuda:\"");
    refuses("cuda:0x", NULL, 0, "device", "\"cuda:0x\"");
    refuses("cuda:-1", NULL, 0, "device", "\"cuda:-1\"");
    refuses("cuda:0", "avx2", 0, "isa", "cuda:0 has its own");
    refuses("cuda:0", NULL, 4, "threads", "cuda:0 has its own");
}

static void every_numerics_has_every_operation(void **state)
{
    const struct numerics *n;

    (void)state;
    for (int i = 0; (n = numerics_at(i)); i++) {
        struct error err = {0};
        struct backend *b = backend_open("cuda:0", n, NULL, 0, &err);

        if (!numerics_runs_on(n, "cuda:0")) {
            assert_null(b);
            assert_string_equal(err.param, "numerics");
            continue;
        }
        if (!b)
            fail_msg("%s: %s", n->name, err.text);
        assert_string_equal(b->device, "cuda:0");
        assert_ptr_equal(b->numerics, n);
        assert_memory_equal(b->isa, "sm_", 3);
        assert_true(strlen(b->hardware) > 0);
        assert_int_equal(b->threads, 0);
        for (int op = 0; op < OP_COUNT; op++)
            assert_true(op == OP_sdpa || (b->op[op] != NULL) == !(n->lacks >> op & 1));
        assert_true((n->sdpa == SDPA_NONE) == (b->op[OP_sdpa] == NULL));
        backend_close(b);
    }
}

/* ---- memory and copies ---- */

static void memory_is_zeroed_and_may_run_out(void **state)
{
    static const int64_t sizes[] = {1, 63, 4097, 3 << 20};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct tensor t = on_device(DTYPE_BF16, 1, &sizes[i], NULL);
        bf16 *zeros = calloc((size_t)sizes[i], sizeof(*zeros));

        assert_int_equal((uintptr_t)t.data % 64, 0);
        assert_holds(&t, zeros);
        cuda->free(cuda, t.data);
        free(zeros);
    }
    assert_null(cuda->alloc(cuda, SIZE_MAX / 2));
    assert_non_null(cuda->trouble(cuda));
    cuda->free(cuda, NULL);
    assert_int_equal(cuda->enter(cuda), 0);
    assert_null(cuda->trouble(cuda));
}

/* More than all of the pinned memory, whose end is no whole piece; src is overwritten at once. */
static void large_copies_arrive_whole(void **state)
{
    const int64_t n = (10 << 20) + 12345;
    bf16 *x, *was;
    struct tensor t;

    (void)state;
    x = numbers(n);
    was = numbers(n);
    t = on_device(DTYPE_BF16, 1, &n, x);
    memset(x, 0xee, (size_t)n * sizeof(*x));
    assert_holds(&t, was);
    cuda->free(cuda, t.data);
    free(x);
    free(was);
}

static void copies_follow_strides(void **state)
{
    bf16 from[2 * 5 * 3], to[2 * 4 * 3], want[2 * 4 * 3], view[2 * 2 * 3];
    struct tensor src = tensor_make(DTYPE_BF16, 3, (int64_t[]){2, 5, 3}, from), whole, dst;

    (void)state;
    for (int i = 0; i < 30; i++)
        from[i] = (bf16)(i + 1);
    memset(want, 0xff, sizeof(want));
    whole = on_device(DTYPE_BF16, 3, (int64_t[]){2, 4, 3}, want);
    src = tensor_slice(&src, 1, 3, 2);
    dst = tensor_slice(&whole, 1, 1, 2);
    assert_int_equal(cuda->copy(cuda, &dst, &src), 0);
    for (int i = 0; i < 12; i++)
        want[i / 6 * 12 + 3 + i % 6] = view[i] = from[i / 6 * 15 + 9 + i % 6];
    assert_int_equal(cuda->read(cuda, to, &whole), 0);
    assert_memory_equal(to, want, sizeof(want));
    assert_holds(&dst, view);
    cuda->free(cuda, whole.data);
}

static void copies_round_as_the_cpus(void **state)
{
    enum { N = 65536 };
    static uint16_t halves[N];
    static float floats[N];
    static bf16 want[N];
    const int64_t shape[] = {N};
    struct tensor t, src = tensor_make(DTYPE_F16, 1, shape, halves);
    const struct tensor host = tensor_make(DTYPE_BF16, 1, shape, want);

    (void)state;
    for (int i = 0; i < N; i++) {
        halves[i] = (uint16_t)i;
        floats[i] = f32_from_bits((uint32_t)i * 65537u + 32767u);
    }
    t = on_device(DTYPE_BF16, 1, shape, NULL);
    for (int f32 = 0; f32 < 2; f32++) {
        src = tensor_make(f32 ? DTYPE_F32 : DTYPE_F16, 1, shape, f32 ? (void *)floats : halves);
        assert_int_equal(cpu->copy(cpu, &host, &src), 0);
        assert_int_equal(cuda->copy(cuda, &t, &src), 0);
        assert_holds(&t, want);
    }
    src = tensor_make(DTYPE_I64, 1, shape, floats);
    assert_int_equal(cuda->copy(cuda, &t, &src), -1);
    cuda->free(cuda, t.data);
}

/* ---- values on their way out ---- */

/* A tensor's elements as cpu reads them from a host copy of the same strides. */
static void put_and_check(struct reader *r, const struct tensor *whole, const bf16 *host,
                          const struct tensor *view, size_t offset)
{
    struct tensor twin = *view;
    bf16 *want = malloc(tensor_bytes(view) + 1);
    const char *got;

    twin.data = (char *)(uintptr_t)host + ((const char *)view->data - (const char *)whole->data);
    assert_int_equal(cpu->read(cpu, want, &twin), 0);
    assert_int_equal(cuda->reader_put(r, 0, offset, view), 0);
    assert_int_equal(cuda->reader_send(r, 0, offset + tensor_bytes(view)), 0);
    got = cuda->reader_wait(r, 0);
    assert_non_null(got);
    assert_memory_equal(got + offset, want, tensor_bytes(view));
    free(want);
}

/* Odd and even widths, starts that are no multiple of 16 bytes, up to three axes with gaps. */
static void views_are_closed_up(void **state)
{
    static const int64_t shapes[][4] = {{3, 4, 6, 8}, {2, 3, 5, 7}, {1, 4, 4, 64}, {4, 1, 3, 1}};
    struct error err = {0};
    struct reader *r;

    (void)state;
    r = cuda->reader_open(cuda, 1 << 16, &err);
    assert_non_null(r);
    for (int s = 0; s < 4; s++)
        for (int cut = 0; cut < 16; cut++) {
            struct tensor whole = tensor_make(DTYPE_BF16, 4, shapes[s], NULL), view;
            bf16 *x = numbers(tensor_count(&whole));

            whole = on_device(DTYPE_BF16, 4, shapes[s], x);
            view = whole;
            for (int axis = 0; axis < 4; axis++)
                if (cut >> axis & 1 && view.shape[axis] > 1)
                    view = tensor_slice(&view, axis, 1, view.shape[axis] - 1);
            put_and_check(r, &whole, x, &view, (size_t)cut * 16);
            cuda->free(cuda, whole.data);
            free(x);
        }
    cuda->reader_close(cuda, r);
}

/* Whole vectors that begin anywhere. */
static void views_may_begin_anywhere(void **state)
{
    static const int64_t shape[] = {2, 3, 4, 24};
    struct error err = {0};
    struct reader *r;
    struct tensor whole;
    bf16 *x;

    (void)state;
    r = cuda->reader_open(cuda, 1 << 16, &err);
    assert_non_null(r);
    x = numbers(2 * 3 * 4 * 24);
    whole = on_device(DTYPE_BF16, 4, shape, x);
    for (int64_t first = 0; first <= 8; first++) {
        const struct tensor view = tensor_slice(&whole, 3, first, 16);

        put_and_check(r, &whole, x, &view, (size_t)first * 16);
    }
    cuda->reader_close(cuda, r);
    cuda->free(cuda, whole.data);
    free(x);
}

/* What is put keeps its value though its memory is written again before anybody waits. */
static void what_was_put_is_kept(void **state)
{
    enum { N = 1000, TURNS = 6 };
    const int64_t n = N;
    struct error err = {0};
    struct tensor t;
    struct reader *r;

    (void)state;
    r = cuda->reader_open(cuda, 2 * N * sizeof(bf16), &err);
    assert_non_null(r);
    t = on_device(DTYPE_BF16, 1, &n, NULL);
    for (int turn = 0; turn <= TURNS; turn++) {
        bf16 x[N];
        const struct tensor src = tensor_make(DTYPE_BF16, 1, &n, x);
        const bf16 *got;

        for (int i = 0; i < N; i++)
            x[i] = (bf16)(turn * N + i);
        assert_int_equal(cuda->copy(cuda, &t, &src), 0);
        if (turn < TURNS) {
            assert_int_equal(cuda->reader_put(r, turn % 2, 0, &t), 0);
            assert_int_equal(cuda->reader_send(r, turn % 2, tensor_bytes(&t)), 0);
        }
        if (turn == 0)
            continue;
        got = cuda->reader_wait(r, (turn - 1) % 2);
        assert_non_null(got);
        for (int i = 0; i < N; i++)
            assert_int_equal(got[i], (bf16)((turn - 1) * N + i));
    }
    cuda->reader_close(cuda, r);
    cuda->free(cuda, t.data);
}

/* ---- operations ---- */

static struct op_call call_of(struct backend *b, const struct tensor *in, struct tensor *out)
{
    static const struct op_attrs none = {.by = 0};

    return (struct op_call){.backend = b, .in = {in}, .out = out, .attrs = &none};
}

static void rotary_case(int64_t past, int64_t tokens, int64_t width, enum rotary_part part)
{
    const struct rope_config rope = {.type = ROPE_DEFAULT, .theta = 10000};
    const int64_t shape[] = {tokens, width};
    float inv_freq[64];
    const struct op_attrs attrs = {
        .part = part, .inv_freq = inv_freq, .inv_freq_count = width / 2, .rotary_scale = 1};
    int64_t *position = malloc((size_t)tokens * sizeof(*position));
    struct tensor in = tensor_make(DTYPE_I64, 1, &tokens, position), on, out;
    struct tensor want = tensor_make(DTYPE_BF16, 2, shape, numbers(tokens * width));
    struct op_call call = call_of(cpu, &in, &want);

    for (int64_t t = 0; t < tokens; t++)
        position[t] = past + t;
    rotary_inv_freq(&rope, width, 1, numerics_find("torch-cpu/avx512_bf16"), inv_freq);
    call.attrs = &attrs;
    call.scope = (struct op_scope){.past = past, .tokens = tokens};
    assert_int_equal(cpu->op[OP_rotary](&call), 0);
    on = on_device(DTYPE_I64, 1, &tokens, position);
    out = on_device(DTYPE_BF16, 2, shape, NULL);
    call.backend = cuda, call.in[0] = &on, call.out = &out;
    assert_int_equal(cuda->op[OP_rotary](&call), 0);
    assert_holds(&out, want.data);
    cuda->free(cuda, on.data);
    cuda->free(cuda, out.data);
    free(position);
    free(want.data);
}

static void tables_are_the_hosts(void **state)
{
    static const int64_t past[] = {0, 1, 63, 64, 65, 1000, 8191, 131000};
    static const int64_t tokens[] = {1, 5, 64, 130};
    int turn = 0;

    (void)state;
    for (int p = 0; p < 8; p++)
        for (int t = 0; t < 4; t++, turn++)
            rotary_case(past[p], tokens[t], turn % 3 ? 128 : 6, turn % 2 ? ROTARY_SIN : ROTARY_COS);
    rotary_case(0, 10000, 128, ROTARY_COS); /* more than a piece of the pinned memory */
}

static void embedding_case(int64_t tokens, int64_t width)
{
    const int64_t table[] = {97, width}, shape[] = {tokens, width};
    int64_t *id = malloc((size_t)tokens * sizeof(*id));
    bf16 *rows = numbers(97 * width), *want = numbers(tokens * width);
    const struct tensor plain = tensor_make(DTYPE_BF16, 2, table, rows);
    struct weight weight = {};
    struct error err = {0};
    struct tensor in, out;
    struct op_call call;

    for (int64_t t = 0; t < tokens; t++) {
        id[t] = t * 53 % 97;
        memcpy(want + t * width, rows + id[t] * width, (size_t)width * sizeof(bf16));
    }
    in = on_device(DTYPE_I64, 1, &tokens, id);
    out = on_device(DTYPE_BF16, 2, shape, NULL);
    assert_int_equal(cuda->weight_open(cuda, OP_embedding, &plain, NULL, NULL, &weight, &err), 0);
    call = call_of(cuda, &in, &out);
    call.weight = &weight;
    assert_int_equal(cuda->op[OP_embedding](&call), 0);
    assert_holds(&out, want);
    cuda->weight_close(cuda, &weight);
    cuda->free(cuda, in.data);
    cuda->free(cuda, out.data);
    free(id);
    free(rows);
    free(want);
}

static void embedding_gives_rows(void **state)
{
    (void)state;
    embedding_case(1, 896);
    embedding_case(5, 333);
    embedding_case(200, 8);
    embedding_case(3, 2056);
}

/* The cache holds `capacity` positions, `past` of them are there; everything else must stay. */
static void append_case(int heads_first, int64_t past, int64_t tokens, int64_t width)
{
    enum { HEADS = 3 };
    const int64_t capacity = past + tokens + 2;
    const int64_t first[] = {HEADS, tokens, width}, second[] = {tokens, HEADS * width};
    const int64_t all[] = {HEADS, capacity, width};
    bf16 *x = numbers(HEADS * tokens * width), *want = numbers(HEADS * capacity * width);
    struct tensor cache = on_device(DTYPE_BF16, 3, all, want);
    struct tensor in = on_device(DTYPE_BF16, heads_first ? 3 : 2, heads_first ? first : second, x);
    struct tensor out = tensor_slice(&cache, 1, 0, past + tokens);
    struct op_call call = call_of(cuda, &in, &out);

    for (int64_t g = 0; g < HEADS; g++)
        for (int64_t t = 0; t < tokens; t++)
            memcpy(want + (g * capacity + past + t) * width,
                   x + (heads_first ? g * tokens + t : t * HEADS + g) * width,
                   (size_t)width * sizeof(bf16));
    assert_int_equal(cuda->op[OP_cache_append](&call), 0);
    assert_holds(&cache, want);
    cuda->free(cuda, cache.data);
    cuda->free(cuda, in.data);
    free(x);
    free(want);
}

static void append_leaves_the_rest(void **state)
{
    (void)state;
    for (int heads_first = 0; heads_first < 2; heads_first++) {
        append_case(heads_first, 0, 1, 64);
        append_case(heads_first, 7, 1, 64);
        append_case(heads_first, 5, 33, 128);
        append_case(heads_first, 2, 3, 7);
        append_case(heads_first, 0, 300, 12);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_wrong_is_named, enter),
        cmocka_unit_test_setup(every_numerics_has_every_operation, enter),
        cmocka_unit_test_setup(memory_is_zeroed_and_may_run_out, enter),
        cmocka_unit_test_setup(large_copies_arrive_whole, enter),
        cmocka_unit_test_setup(copies_follow_strides, enter),
        cmocka_unit_test_setup(copies_round_as_the_cpus, enter),
        cmocka_unit_test_setup(views_are_closed_up, enter),
        cmocka_unit_test_setup(views_may_begin_anywhere, enter),
        cmocka_unit_test_setup(what_was_put_is_kept, enter),
        cmocka_unit_test_setup(tables_are_the_hosts, enter),
        cmocka_unit_test_setup(embedding_gives_rows, enter),
        cmocka_unit_test_setup(append_leaves_the_rest, enter),
    };
    static const struct CMUnitTest none[] = {cmocka_unit_test(there_is_no_device)};
    static const char name[] = "kernels/cuda_backend";
    const int rc = open_both() ? cmocka_run_group_tests_name(name, tests, NULL, NULL)
                               : cmocka_run_group_tests_name(name, none, NULL, NULL);

    close_both();
    return rc;
}
