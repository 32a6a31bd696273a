/* group.c - operations of several calls of the model at once, and several operations as one. */
#include "kernels/cpu/panels.h"

static int one(const struct op_call *call)
{
    return call->backend->op[call->op](call);
}

/* ---- parts beside each other ---- */

struct each {
    const struct op_call *call; /* [steps][parts] */
    int steps, parts;
    int thin[GROUP_PARTS]; /* parts that are done side by side */
    int failed[GROUP_PARTS];
};

static int steps_of(const struct each *e, int part)
{
    for (int s = 0; s < e->steps; s++)
        if (one(&e->call[s * e->parts + part]))
            return -1;
    return 0;
}

/* Does one part's operations on this thread alone: the other threads are busy with other parts. */
static void each_piece(const void *work, int64_t piece)
{
    struct each *const e = *(struct each *const *)work;
    const int part = e->thin[piece];

    e->failed[part] = steps_of(e, part);
}

/* Returns whether a part is so small that one thread should do all of it. */
static int is_thin(const struct op_call *call, int parts)
{
    enum { TOKENS = 32, KEYS = 512 };
    const struct op_scope *scope = &call->scope;

    return scope->tokens <= TOKENS &&
           (parts >= call->backend->threads || scope->past + scope->tokens <= KEYS);
}

int cpu_group_each(const struct op_call *call, int steps, int parts)
{
    struct each e = {.call = call, .steps = steps, .parts = parts}, *work = &e;
    int thin = 0;

    for (int k = 0; k < parts; k++)
        if (parts > 1 && is_thin(&call[k], parts))
            e.thin[thin++] = k;
        else if (steps_of(&e, k))
            return -1;
    cpu_run(call, each_piece, &work, thin);
    for (int k = 0; k < thin; k++)
        if (e.failed[e.thin[k]])
            return -1;
    return 0;
}

int cpu_group_same(const struct op_call *call, int steps, int parts)
{
    (void)steps;
    if (call->op == OP_linear && panels_linears(call, 1, parts, PRODUCT_STORE, NULL) == 0)
        return 0;
    return cpu_group_each(call, 1, parts);
}

/* ---- linears and what follows them ---- */

static int one_by_one(const struct op_call *call, int steps, int parts)
{
    for (int s = 0; s < steps; s++)
        if (cpu_group_same(call + s * parts, 1, parts))
            return -1;
    return 0;
}

int cpu_group_linears(const struct op_call *call, int steps, int parts)
{
    if (panels_linears(call, steps, parts, PRODUCT_STORE, NULL) == 0)
        return 0;
    return one_by_one(call, steps, parts);
}

int cpu_group_linear_add(const struct op_call *call, int steps, int parts)
{
    if (panels_linears(call, 1, parts, PRODUCT_ADD, call + parts) == 0)
        return 0;
    return one_by_one(call, steps, parts);
}

int cpu_group_gated(const struct op_call *call, int steps, int parts)
{
    const struct op_call *activation = call + 2 * parts;

    if (activation->op != OP_silu)
        return cpu_group_linears(call, 2, parts) || one_by_one(activation, steps - 2, parts) ? -1
                                                                                             : 0;
    if (panels_linears(call, 2, parts, PRODUCT_GATED, call + 3 * parts) == 0)
        return 0;
    return one_by_one(call, steps, parts);
}
