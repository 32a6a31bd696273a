/* sdpa.c - a call of scaled_dot_product_attention, resolved. */
#include "kernels/sdpa.h"

#include "kernels/backend.h"
#include "kernels/products.h"

/* Whether PyTorch packs keys and values for oneDNN's kernel instead of calling MKL
 * (aten/src/ATen/native/cpu/FlashAttentionKernel.cpp: cpu_flash_attention, need_pack). */
static int is_packed(const struct sdpa *s, int64_t H, int64_t G)
{
    const struct op_call *call = s->call;
    const int64_t B = call->scope.batch > 1 ? call->scope.batch : 1, T = s->tokens, L = s->keys;
    const int64_t split = min_i64(s->group, T), groups = (T + split - 1) / split;
    const int64_t threads = product_host(call)->threads;
    const double keys = (double)(s->masked ? L : min_i64(T, L));
    double each; /* of a thread */

    if (T < 64 || L < 64)
        return 0;
    each = (double)((B * H * groups + threads - 1) / threads) * (double)split * keys;
    return each * (double)s->width / ((double)(B * G * L) * (double)s->width) >= 4;
}

static enum sdpa_products products_of(const struct sdpa *s, int64_t H, int64_t G)
{
    const struct numerics *numerics = s->call->backend->numerics;

    return numerics->packs && is_packed(s, H, G) ? SDPA_PACKED : numerics->sdpa;
}

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
    s.products = products_of(&s, q->shape[0], k->shape[0]);
    return s;
}
