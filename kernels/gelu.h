/* gelu.h - gelu with tanh, an element at a time; ops.h: "gelu_tanh". */
#ifndef SAMEBIT_GELU_H
#define SAMEBIT_GELU_H

#include "kernels/cpu/sleef.h"
#include "kernels/ops.h"

/* As ATen's vectorized loop has it. */
BF16_INLINE bf16 gelu_tanh(bf16 x)
{
    const float v = bf16_to_f32(x), cube = f32_product(f32_product(v, v), v);
    const float inner =
        f32_product(0.797884583f, v + f32_product(0.044715f, cube)); /* sqrt(2 / pi) */

    return bf16_from_f32(f32_product(f32_product(0.5f, v), 1.0f + sleef_tanhf(inner)));
}

/* The elements that ATen's loop leaves over call the C library's tanhf.  Of all bf16 four have other
 * bits there: where the vectorized tanh is -1, tanhf is the next number to it. */
BF16_INLINE bf16 gelu_tanh_left_over(bf16 x)
{
    return x >= 0xc0a2 && x <= 0xc0a5 ? (bf16)(x - 0xc0a2 + 0xb422) : gelu_tanh(x);
}

/* The first element of x, whose rows are some of those of PyTorch's call, that the vectorized loop
 * does not take: less than 0 where that is one before x, its number of elements or more where x has
 * none.  lanes: of numerics.  A step of the loop is two vectors of bf16. */
static inline int64_t gelu_tanh_vectorized(const struct op_scope *scope, const struct tensor *x,
                                           int lanes)
{
    const int64_t row = x->shape[0] ? tensor_count(x) / x->shape[0] : 0;
    const int64_t all = (scope->batch > 1 ? scope->batch : 1) * scope->tokens * row;

    return all - all % (4 * lanes) - scope->row * row;
}

#endif
