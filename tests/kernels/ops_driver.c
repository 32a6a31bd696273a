/* ops_driver.c - runs single operations for tests/kernels/torch_ops.py.
 *
 *     ops_driver NUMERICS ISA THREADS [DEVICE]     ISA "best": the best of this CPU
 *
 * TORCH_THREADS of the environment is torch.get_num_threads(), where bits depend on it.
 * DEVICE is "cpu", or "cuda:0", ..., which has neither ISA nor THREADS: tensors are sent to it, the
 * output is fetched.
 * Reads requests from stdin until it ends, answers each on stdout with the raw bytes of the output.
 * A request is a line
 *     OP past tokens padding eps by width window part row pairs table apply before count pieces tensors
 * where part is the index of a NAME attribute's word, and that many tensors, each a line "ROLE DTYPE rank dims..." and its raw bytes; ROLE is in,
 * weight, bias, inv_freq or out (which has no bytes).  Besides the operations there are two, both the
 * host's on any device:
 *     inv_freq     past=TYPE tokens=dim eps=theta by=factor;  in: F32 [3] low, high, original length
 *     log_softmax  in: BF16 [rows, n];  out: F32 [rows, n]
 * A request that makes no sense ends the program with 2 and a line on stderr. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/rotary.h"
#include "server/engine/sampler.h"

enum { DRIVER_TENSORS = 8 };

struct request {
    char op[32];
    struct op_attrs attrs;
    struct op_scope scope;
    struct tensor in[3], weight, bias, inv_freq, out;
    int inputs;
};

static void die(const char *what)
{
    fprintf(stderr, "ops_driver: %s\n", what);
    exit(2);
}

static struct tensor *role_of(struct request *r, const char *role)
{
    if (strcmp(role, "in") == 0 && r->inputs < 3)
        return &r->in[r->inputs++];
    if (strcmp(role, "weight") == 0)
        return &r->weight;
    if (strcmp(role, "bias") == 0)
        return &r->bias;
    if (strcmp(role, "inv_freq") == 0)
        return &r->inv_freq;
    if (strcmp(role, "out") == 0)
        return &r->out;
    die("unknown role");
    return NULL;
}

static void read_tensor(struct request *r)
{
    char role[16], name[8];
    int64_t shape[TENSOR_MAX_RANK];
    enum dtype dtype;
    struct tensor *t;
    int rank;

    if (scanf("%15s %7s %d", role, name, &rank) != 3 || rank < 1 || rank > TENSOR_MAX_RANK ||
        dtype_parse(name, &dtype))
        die("a tensor's line makes no sense");
    for (int i = 0; i < rank; i++) {
        long long n;

        if (scanf("%lld", &n) != 1 || n < 1)
            die("a dimension makes no sense");
        shape[i] = n;
    }
    if (getchar() != '\n')
        die("a tensor's line does not end");
    t = role_of(r, role);
    *t = tensor_make(dtype, rank, shape, NULL);
    t->data = malloc(tensor_bytes(t));
    if (!t->data)
        die("no memory");
    if (t != &r->out && fread(t->data, tensor_bytes(t), 1, stdin) != 1)
        die("a tensor ends early");
}

/* Returns 0 at the end of the input. */
static int read_request(struct request *r)
{
    long long past, tokens, padding, width, window, row;
    long long before, count, pieces;
    int part, tensors, got, pairs, table, apply;

    memset(r, 0, sizeof(*r));
    got = scanf("%31s %lld %lld %lld %lf %lf %lld %lld %d %lld %d %d %d %lld %lld %lld %d", r->op,
                &past, &tokens, &padding, &r->attrs.eps, &r->attrs.by, &width, &window, &part, &row,
                &pairs, &table, &apply, &before, &count, &pieces, &tensors);
    if (got == EOF)
        return 0;
    if (got != 17 || tensors > DRIVER_TENSORS)
        die("a request's line makes no sense");
    r->scope = (struct op_scope){.past = past, .tokens = tokens, .padding = padding, .row = row};
    r->attrs.width = width;
    r->attrs.before = before;
    r->attrs.count = count;
    r->attrs.pieces = pieces;
    r->attrs.pairs = (enum rope_pairs)pairs;
    r->attrs.table = (enum rope_pairs)table;
    r->attrs.apply = (enum rope_apply)apply;
    r->attrs.window = window;
    r->attrs.part = (enum rotary_part)part;
    r->attrs.norm = (enum norm_weight)part;
    for (int i = 0; i < tensors; i++)
        read_tensor(r);
    if (!r->out.data)
        die("no output");
    r->attrs.inv_freq = r->inv_freq.data;
    r->attrs.inv_freq_count = r->inv_freq.shape[0];
    r->attrs.rotary_scale = r->attrs.by ? (float)r->attrs.by : 1.0f;
    return 1;
}

static void free_request(struct request *r)
{
    for (int i = 0; i < r->inputs; i++)
        free(r->in[i].data);
    free(r->weight.data);
    free(r->bias.data);
    free(r->inv_freq.data);
    free(r->out.data);
}

/* `t` on the device: itself where the device is the host. */
static struct tensor sent(struct backend *b, const struct tensor *t)
{
    struct tensor to = *t;

    if (strcmp(b->device, "cpu") == 0)
        return to;
    to.data = b->alloc(b, tensor_bytes(t));
    if (!to.data || b->copy(b, &to, t))
        die("the device did not take a tensor");
    return to;
}

static void fetch(struct backend *b, const struct tensor *host, struct tensor *t)
{
    if (t->data != host->data && b->read(b, host->data, t))
        die(b->trouble && b->trouble(b) ? b->trouble(b) : "the device did not give the output");
}

static void drop(struct backend *b, const struct tensor *host, struct tensor *t)
{
    if (t->data != host->data)
        b->free(b, t->data);
}

static const struct weight *opened(struct backend *b, enum op op, const struct tensor *plain,
                                   struct weight *weight)
{
    struct error err = {0};

    if (!plain->rank)
        return NULL;
    if (b->weight_open(b, op, plain, NULL, NULL, weight, &err))
        die(err.text);
    return weight;
}

static void run_op(struct backend *b, struct request *r, enum op op)
{
    struct tensor in[3], out = sent(b, &r->out);
    struct weight weight = {0}, bias = {0};
    struct error err = {0};
    struct op_call call = {.backend = b, .out = &out, .attrs = &r->attrs, .scope = r->scope};

    for (int i = 0; i < r->inputs; i++) {
        in[i] = sent(b, &r->in[i]);
        call.in[i] = &in[i];
    }
    call.weight = opened(b, op, &r->weight, &weight);
    call.bias = opened(b, op, &r->bias, &bias);
    if (b->prepare && b->prepare(b, op, &call, &err))
        die(err.text);
    if (!b->op[op] || b->op[op](&call))
        die(b->trouble && b->trouble(b) ? b->trouble(b) : "the operation refused");
    fetch(b, &r->out, &out);
    if (call.weight)
        b->weight_close(b, &weight);
    if (call.bias)
        b->weight_close(b, &bias);
    for (int i = 0; i < r->inputs; i++)
        drop(b, &r->in[i], &in[i]);
    drop(b, &r->out, &out);
}

/* in[0]: low and high frequency factors, original length, beta_fast, beta_slow, truncate,
 * max_position_embeddings, length of the call; then short_factor and long_factor where there are. */
static void run_inv_freq(struct backend *b, struct request *r)
{
    const float *more = r->in[0].data;
    const int64_t pairs = r->scope.tokens / 2;
    struct rope_config rope = {.type = (enum rope_type)r->scope.past,
                               .theta = r->attrs.eps,
                               .factor = r->attrs.by,
                               .low_freq_factor = (double)more[0],
                               .high_freq_factor = (double)more[1],
                               .original_max_position_embeddings = (double)more[2],
                               .beta_fast = (double)more[3],
                               .beta_slow = (double)more[4],
                               .truncate = more[5] != 0,
                               .max_position_embeddings = (double)more[6]};

    if (rope.type == ROPE_LONGROPE) {
        memcpy(rope.short_factor, more + 8, (size_t)pairs * sizeof(float));
        memcpy(rope.long_factor, more + 8 + pairs, (size_t)pairs * sizeof(float));
    }
    rotary_inv_freq(&rope, r->scope.tokens, (int64_t)more[7], b->numerics, r->out.data);
}

static void run_log_softmax(struct backend *b, struct request *r)
{
    const int64_t n = r->out.shape[1];

    for (int64_t i = 0; i < r->out.shape[0]; i++)
        sampler_log_softmax((const bf16 *)r->in[0].data + i * n, n, b->numerics,
                            (float *)r->out.data + i * n);
}

int main(int argc, char **argv)
{
    const char *device = argc == 5 ? argv[4] : "cpu";
    struct error err = {0};
    struct backend *b;
    struct request r;
    const struct numerics *numerics;

    if (argc < 4 || argc > 5 || !(numerics = numerics_find(argv[1])))
        die("usage: ops_driver NUMERICS ISA THREADS [DEVICE]");
    b = strcmp(device, "cpu")
            ? backend_open(device, numerics, NULL, 0, &err)
            : backend_open(device, numerics, strcmp(argv[2], "best") ? argv[2] : NULL,
                           atoi(argv[3]), &err);
    if (!b)
        die(err.text);
    if (getenv("TORCH_THREADS"))
        b->torch.threads = atoi(getenv("TORCH_THREADS"));
    if (b->enter && b->enter(b))
        die("the device did not start");
    while (read_request(&r)) {
        const int op = op_find(r.op);

        if (op >= 0)
            run_op(b, &r, (enum op)op);
        else if (strcmp(r.op, "inv_freq") == 0)
            run_inv_freq(b, &r);
        else if (strcmp(r.op, "log_softmax") == 0)
            run_log_softmax(b, &r);
        else
            die("unknown operation");
        fwrite(r.out.data, tensor_bytes(&r.out), 1, stdout);
        fflush(stdout);
        free_request(&r);
    }
    backend_close(b);
    return 0;
}
