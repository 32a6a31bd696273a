/* aten_run.h - what the tests of numerics torch-cuda share: the backend, an operation run on tensors
 * of the host, and its comparison with a model in several orders of the threads. */
#ifndef SAMEBIT_TESTS_KERNELS_ATEN_RUN_H
#define SAMEBIT_TESTS_KERNELS_ATEN_RUN_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/cuda/aten/aten.h"
#include "kernels/cuda/backend_cuda.h"
#include "tests/emulated/cuda/control.h"
#include "tests/emulated/cuda/tensor_core.h"
#include "tests/kernels/aten_probe.h"
#include "tests/kernels/cases.h"

static struct backend *backend;

/* As the backend opens it, or on the table of another numerics: only the kernels count here. */
static inline int reopen_aten(void)
{
    struct error err = {0};

    aten_close(backend);
    return aten_open(backend, &err);
}

static inline int open_backend(void **state)
{
    struct error err = {0};

    (void)state;
    backend = backend_cuda_open("cuda:0", numerics_find("torch-cuda"), &err);
    if (!backend)
        print_message("%s\n", err.text);
    return !backend || reopen_aten();
}

static inline int close_backend(void **state)
{
    (void)state;
    if (backend) {
        aten_close(backend);
        backend_cuda_close(backend);
    }
    return 0;
}

static inline void *take(int64_t n, size_t size)
{
    void *p = calloc((size_t)(n ? n : 1), size);

    assert_non_null(p);
    return p;
}

/* ---- running an operation on tensors of the host ---- */

static inline struct tensor to_device(const struct tensor *host)
{
    struct tensor t = tensor_make(host->dtype, host->rank, host->shape, NULL);

    t.data = backend->alloc(backend, tensor_bytes(&t));
    assert_non_null(t.data);
    assert_int_equal(backend->copy(backend, &t, host), 0);
    return t;
}

struct operation {
    enum op op;
    struct tensor in[2]; /* of the host; contiguous */
    int count;
    int64_t spare; /* rows of room behind each head of in[1], which is a cache */
    const struct tensor *weight, *bias;
    struct op_attrs attrs;
    struct op_scope scope;
    struct tensor out; /* shape; no data */
};

/* in[1] as a view of a cache with spare rows; *whole: what to free. */
static inline struct tensor as_cache(const struct tensor *host, int64_t spare, struct tensor *whole)
{
    struct tensor room = *host, view, part;

    room.shape[1] += spare;
    room = tensor_make(room.dtype, room.rank, room.shape, NULL);
    room.data = backend->alloc(backend, tensor_bytes(&room));
    assert_non_null(room.data);
    view = tensor_slice(&room, 1, 0, host->shape[1]);
    for (int64_t h = 0; h < host->shape[0]; h++) {
        struct tensor from = tensor_slice(host, 0, h, 1);

        part = tensor_slice(&view, 0, h, 1);
        part.rank = from.rank = 2;
        memmove(part.shape, part.shape + 1, 2 * sizeof(part.shape[0]));
        memmove(part.stride, part.stride + 1, 2 * sizeof(part.stride[0]));
        memmove(from.shape, from.shape + 1, 2 * sizeof(from.shape[0]));
        memmove(from.stride, from.stride + 1, 2 * sizeof(from.stride[0]));
        assert_int_equal(backend->copy(backend, &part, &from), 0);
    }
    *whole = room;
    return view;
}

static inline int run(const struct operation *o, bf16 *out)
{
    struct op_call call = {.backend = backend, .attrs = &o->attrs, .scope = o->scope};
    struct tensor in[2], whole[2], y = tensor_make(DTYPE_BF16, o->out.rank, o->out.shape, NULL);
    struct weight weight = {0}, bias = {0};
    int status;

    for (int i = 0; i < o->count; i++) {
        if (i == 1 && o->spare)
            in[i] = as_cache(&o->in[i], o->spare, &whole[i]);
        else
            whole[i] = in[i] = to_device(&o->in[i]);
        call.in[i] = &in[i];
    }
    y.data = backend->alloc(backend, tensor_bytes(&y));
    assert_non_null(y.data);
    call.out = &y;
    if (o->weight) {
        weight.plain = to_device(o->weight);
        call.weight = &weight;
    }
    if (o->bias) {
        bias.plain = to_device(o->bias);
        call.bias = &bias;
    }
    status = backend->op[o->op](&call);
    assert_int_equal(backend->read(backend, out, &y), 0);
    for (int i = 0; i < o->count; i++)
        backend->free(backend, whole[i].data);
    backend->free(backend, y.data);
    if (o->weight)
        backend->free(backend, weight.plain.data);
    if (o->bias)
        backend->free(backend, bias.plain.data);
    return status;
}

struct tally {
    int64_t cases, elements;
};

static const int orders[] = {EMULATED_FORWARD, EMULATED_REVERSE, 7, 4711};
enum { ORDERS = sizeof(orders) / sizeof(orders[0]) };

static inline void expect(const struct operation *o, const bf16 *want, struct tally *tally,
                          const char *label)
{
    const int64_t n = tensor_count(&o->out);
    bf16 *got = take(n, sizeof(*got));

    for (int i = 0; i < ORDERS; i++) {
        int64_t differing;

        emulated_set_order(orders[i]);
        memset(got, 0x5a, (size_t)n * sizeof(*got));
        assert_int_equal(run(o, got), 0);
        differing = bf16_differing(want, got, n);
        if (differing)
            fail_msg("%s %s, order %d: %lld of %lld elements differ", op_name(o->op), label,
                     orders[i], (long long)differing, (long long)n);
        tally->cases++;
        tally->elements += n;
    }
    free(got);
}

static inline void report(const char *what, const struct tally *tally)
{
    print_message("%s: %lld cases, %lld elements, 0 differing\n", what, (long long)tally->cases,
                  (long long)tally->elements);
}

static inline struct tensor filled(struct random *r, enum fill fill, int rank, const int64_t *shape)
{
    struct tensor t = tensor_make(DTYPE_BF16, rank, shape, NULL);

    t.data = take(tensor_count(&t), sizeof(bf16));
    random_fill(r, fill, t.data, tensor_count(&t));
    return t;
}

#endif
