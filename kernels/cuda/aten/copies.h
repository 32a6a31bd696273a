/* copies.h - which of a product's three matrices are copied to scratch memory, and where to. */
#ifndef SAMEBIT_CUDA_ATEN_COPIES_H
#define SAMEBIT_CUDA_ATEN_COPIES_H

#include <stddef.h>

#include "kernels/ops.h"

/* Sizes in bytes; 0: the tensor itself is used.  They lie one after the other. */
struct copies {
    size_t a, b, c;
};

struct copies linear_copies(const struct op_call *call);
struct copies matmul_qk_copies(const struct op_call *call);
struct copies matmul_pv_copies(const struct op_call *call);

enum { COPIES_ALIGNMENT = 512 }; /* bytes: what PyTorch's allocator hands out multiples of */

static inline size_t copies_round(size_t bytes)
{
    return (bytes + COPIES_ALIGNMENT - 1) / COPIES_ALIGNMENT * COPIES_ALIGNMENT;
}

static inline size_t copies_end(const struct copies *c)
{
    return copies_round(c->a) + copies_round(c->b) + copies_round(c->c);
}

/* Where each lies in memory: at scratch, scratch + round(a), ... */
static inline void *copies_b(const struct copies *c, void *scratch)
{
    return (char *)scratch + copies_round(c->a);
}

static inline void *copies_c(const struct copies *c, void *scratch)
{
    return (char *)scratch + copies_round(c->a) + copies_round(c->b);
}

#endif
