/* sdpa.c - a call of scaled_dot_product_attention, resolved. */
#include "kernels/sdpa.h"

#include "kernels/backend.h"

struct sdpa sdpa_of(const struct op_call *call)
{
    const struct tensor *q = call->in[0], *k = call->in[1];
    const int64_t T = q->shape[1], L = k->shape[1];
    const int64_t padding = call->scope.padding - (call->scope.past + T - L);
    struct sdpa s = {.call = call, .tokens = T, .keys = L, .width = q->shape[2]};

    s.shared = q->shape[0] / k->shape[0];
    s.group = T < 192 ? 32 : T < 768 ? 64 : 256;
    s.window = call->attrs->window;
    s.padding = padding > 0 ? padding : 0;
    s.masked = (s.window && L >= s.window) || padding > 0 || (T > 1 && L != T);
    s.lanes = call->backend->numerics->lanes;
    s.scale = (float)call->attrs->by;
    return s;
}
