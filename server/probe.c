/* probe.c - see probe.h. */
#include "server/probe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LARGE_TERM = 20, LARGE_VALUE = 16 }; /* powers of two */

/* n: of linear M, K, N; of softmax T, L; of sdpa T, L, H, D. */
static const struct probe {
    enum op op;
    int64_t n[4];
} probes[PROBES] = {
    {OP_linear, {2, 512, 64}},    {OP_linear, {1, 3072, 96}}, {OP_linear, {40, 4864, 128}},
    {OP_softmax, {64, 4096}},     {OP_sdpa, {1, 40, 2, 64}},  {OP_sdpa, {33, 33, 2, 64}},
    {OP_sdpa, {150, 150, 2, 64}},
};

void probe_name(int probe, char text[PROBE_TEXT])
{
    const struct probe *p = &probes[probe];
    int size = snprintf(text, PROBE_TEXT, "%s", op_name(p->op));

    for (int i = 0; i < 4 && p->n[i]; i++)
        size += snprintf(text + size, (size_t)(PROBE_TEXT - size), ":%d", (int)p->n[i]);
}

int64_t probe_count(int probe)
{
    const int64_t *n = probes[probe].n;

    return probes[probe].op == OP_linear    ? n[0] * n[2]
           : probes[probe].op == OP_softmax ? n[0] * n[1]
                                            : n[0] * n[2] * n[3];
}

/* As numbers() of configs/probe_torch.py. */
static void fill(struct tensor *t, uint32_t seed)
{
    for (int64_t i = 0; i < tensor_count(t); i++) {
        uint32_t h = ((uint32_t)i + (seed << 20)) * 2654435761u;

        h = (h ^ h >> 15) * 2246822519u;
        h ^= h >> 13;
        ((bf16 *)t->data)[i] = (bf16)((h & 0x807f) | ((h >> 16 & 3) + 124) << 7);
    }
}

/* Line `from` (elements first + from * step + i * other) is multiplied by 2^raise; line `to` becomes the
 * same, with that sign. */
static void copy_line(const struct tensor *t, int64_t first, int64_t from, int64_t to, int64_t step,
                      int64_t other, int64_t n, int raise, bf16 sign)
{
    bf16 *x = (bf16 *)t->data + first;

    for (int64_t i = 0; i < n; i++) {
        x[from * step + i * other] = (bf16)(x[from * step + i * other] + (raise << 7));
        x[to * step + i * other] = x[from * step + i * other] ^ sign;
    }
}

/* A large product and later its negative: what is left shows in which order a sum was taken. */
static void cancel(const struct probe *p, struct tensor in[3])
{
    const int64_t *n = p->n, last = p->op == OP_linear ? n[1] - 6 : n[1] - n[1] / 3 - 1;

    if (p->op == OP_linear) {
        copy_line(&in[0], 0, 3, last, 1, n[1], n[0], LARGE_TERM, 0);
        copy_line(&in[1], 0, 3, last, 1, n[1], n[2], 0, 0x8000);
    }
    for (int64_t h = 0; p->op == OP_sdpa && h < n[2]; h++) {
        copy_line(&in[1], h * n[1] * n[3], 0, last, n[3], 1, n[3], 0, 0);
        copy_line(&in[2], h * n[1] * n[3], 0, last, n[3], 1, n[3], LARGE_VALUE, 0x8000);
    }
}

/* Shapes of the inputs (of a linear, the second is its weight); returns how many there are. */
static int shape_inputs(const struct probe *p, struct tensor in[3])
{
    const int64_t *n = p->n;

    in[0] = p->op == OP_linear    ? tensor_make(DTYPE_BF16, 2, (int64_t[]){n[0], n[1]}, NULL)
            : p->op == OP_softmax ? tensor_make(DTYPE_BF16, 3, (int64_t[]){1, n[0], n[1]}, NULL)
                                  : tensor_make(DTYPE_BF16, 3, (int64_t[]){n[2], n[0], n[3]}, NULL);
    if (p->op == OP_softmax)
        return 1;
    in[1] = p->op == OP_linear ? tensor_make(DTYPE_BF16, 2, (int64_t[]){n[2], n[1]}, NULL)
                               : tensor_make(DTYPE_BF16, 3, (int64_t[]){n[2], n[1], n[3]}, NULL);
    in[2] = in[1];
    return p->op == OP_linear ? 2 : 3;
}

static struct tensor shape_output(const struct probe *p, bf16 *out)
{
    const int64_t *n = p->n;

    if (p->op == OP_softmax)
        return tensor_make(DTYPE_BF16, 3, (int64_t[]){1, n[0], n[1]}, out);
    return tensor_make(DTYPE_BF16, 2, (int64_t[]){n[0], p->op == OP_linear ? n[2] : n[2] * n[3]},
                       out);
}

static int call(const struct probe *p, struct backend *b, struct tensor in[3], bf16 *out)
{
    const struct op_attrs attrs = {.by = p->op == OP_sdpa ? 1 / sqrt((double)p->n[3]) : 0};
    const struct weight weight = {.plain = in[1]};
    struct tensor to = shape_output(p, out);
    struct op_call call = {.backend = b,
                           .op = p->op,
                           .in = {&in[0], &in[1], &in[2]},
                           .out = &to,
                           .attrs = &attrs,
                           .scope = {.tokens = p->n[0]}};

    if (p->op == OP_linear)
        call.weight = &weight;
    else if (p->op == OP_sdpa)
        call.scope.past = p->n[1] - p->n[0];
    return b->op[p->op](&call);
}

static int compute(const struct probe *p, struct backend *b, bf16 *out, struct error *err)
{
    struct tensor in[3] = {0};
    const int inputs = shape_inputs(p, in);
    int rc = 0;

    for (int i = 0; i < inputs; i++) {
        in[i].data = malloc(tensor_bytes(&in[i]));
        if (in[i].data)
            fill(&in[i], (uint32_t)i + 1);
        else
            rc = error_set(err, 500, "out of memory");
    }
    if (!rc)
        cancel(p, in);
    if (!rc && call(p, b, in, out))
        rc = error_set(err, 500, "%s failed", op_name(p->op));
    for (int i = 0; i < inputs; i++)
        free(in[i].data);
    return rc;
}

int probe_compute(int probe, const struct numerics *row, const struct torch_host *host, bf16 *out,
                  struct error *err)
{
    struct backend *b;
    int rc = 0;

    if (!numerics_runs_on(row, "cpu"))
        return 0;
    b = backend_open("cpu", row, "plain", 1, err);
    if (!b)
        return -1;
    b->torch = *host;
    if (b->op[probes[probe].op])
        rc = compute(&probes[probe], b, out, err) ? -1 : 1;
    backend_close(b);
    return rc;
}
