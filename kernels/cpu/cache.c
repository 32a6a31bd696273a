/* cache.c - appends this call's keys or values to the cache. */
#include "kernels/cpu/cpu.h"

#include <string.h>

int cpu_cache_append(const struct op_call *call)
{
    const struct tensor *x = call->in[0], *out = call->out;
    const int64_t heads = out->shape[0], keys = out->shape[1], width = out->shape[2];
    const int heads_first = x->rank == 3;
    const int64_t tokens = x->shape[heads_first ? 1 : 0];
    const int64_t head_step = heads_first ? x->stride[0] : width;
    const int64_t token_step = x->stride[heads_first ? 1 : 0];

    for (int64_t g = 0; g < heads; g++)
        for (int64_t t = 0; t < tokens; t++) {
            const bf16 *from = (const bf16 *)x->data + g * head_step + t * token_step;
            bf16 *to =
                (bf16 *)out->data + g * out->stride[0] + (keys - tokens + t) * out->stride[1];

            memcpy(to, from, (size_t)width * sizeof(bf16));
        }
    return 0;
}
