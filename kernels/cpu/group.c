/* group.c - operations of several calls of the model at once. */
#include "kernels/cpu/backend_cpu.h"
#include "kernels/cpu/panels.h"

struct each {
    const struct op_call *call;
    int *failed; /* [parts] */
};

/* What the operation would share out among threads it does here alone: they are busy with other
 * parts. */
static void each_piece(const void *work, int64_t piece)
{
    const struct each *e = work;
    const struct op_call *call = &e->call[piece];

    e->failed[piece] = call->backend->op[call->op](call);
}

static int each(const struct op_call *call, int parts)
{
    int failed[GROUP_PARTS];
    const struct each e = {call, failed};

    cpu_run(call, each_piece, &e, parts);
    for (int k = 0; k < parts; k++)
        if (failed[k])
            return -1;
    return 0;
}

int cpu_group_same(const struct op_call *call, int steps, int parts)
{
    (void)steps;
    if (call->op == OP_linear && call->backend->op[OP_linear] == cpu_linear_panels &&
        cpu_linear_joined(call, parts) == 0)
        return 0;
    return each(call, parts);
}
